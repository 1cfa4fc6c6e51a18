"""Report: what a run found, as `results.json`, figures, one HTML page and the chosen model's card.

results     the schema of results.json
lookup      where a figure stands in the results, and the words for it
cases       models against diagnoses, with their numbers
diagnosis   findings: each with its test, its evidence and a cure
headline    the answer in plain words
tables      the page's tables
figures     figure 2, unsafe rate against helpfulness, theory, training curves (labels, style: how they look)
page        the self-contained HTML page (templates/: its markup, style and script)
card        the model card
build       all of it into one folder
"""
