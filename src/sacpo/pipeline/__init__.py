"""The pipeline: a recipe's stages, their order, and running or planning them.

stage           what a stage is: a value whose key is the hash of its fields
stages/         the stages, one file a kind
order           the program that does a recipe's stages; experiment: what was done of it so far
runner          doing the program's stages, or planning them
tools           what stages work with: loaded models, judges, progress
outside         what is read from outside, known by its content
run             a whole recipe; verbs, single: one stage by itself; jobs: trainings at the same time
sizes           how much the trainings are, and how many requests judges need

Nothing is imported here: the stage of a light verb must not wait for torch.
"""
