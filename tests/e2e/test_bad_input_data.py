"""Every class of mistake in data files: exit 2, one message with file and line, no traceback, no half-written stage."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from bad_input_cases import ABSENT, PAIRS, Case, check, lay_out, rows, sacpo

UNPAIRED = {"prompt": "what is 1", "completion": "it is one", "label": True}


def pairs(**changes: object) -> dict[str, str]:
    """The file of pairs with one row changed, the third."""
    row = {**PAIRS[2], **changes}
    return {"pairs.jsonl": rows(*PAIRS[:2], {k: v for k, v in row.items() if v is not ABSENT}, *PAIRS[3:])}


UNREADABLE = [  # found before any stage, by its path
    Case(
        "missing-file",
        {"data.pairs.path": "pears.jsonl"},
        what="no such file",
        where="pears.jsonl",
        do="did you mean pairs.jsonl?",
    ),
    Case("missing-file-far-away", {"data.pairs.path": "/nowhere/x.csv"}, what="no such file", do="check the path"),
    Case("folder", {"data.pairs.path": "./"}, what="a folder, not a file", where=".", do="list the files"),
    Case(
        "unknown-type",
        {"data.pairs.path": "./pairs.txt"},
        {"pairs.txt": "x"},
        what="unknown type of file",
        value="'pairs.txt'",
        allowed=".jsonl",
        do="rename",
    ),
    Case("neither-file-nor-id", {"data.pairs.path": "what is this?"}, what="neither", value="'what is this?'", do="a"),
]
FILES = [
    Case("empty-file", files={"pairs.jsonl": ""}, what="the file is empty", where="pairs.jsonl", do="at least one row"),
    Case("binary", files={"pairs.jsonl": b"\xff\xfe\x00\x01"}, what="not UTF-8", where="pairs.jsonl, line 1"),
    Case(
        "broken-gzip",
        {"data.pairs.path": "pairs.jsonl.gz"},
        {"pairs.jsonl.gz": gzip.compress(b"{}" * 99, mtime=0)[:20]},
        what="broken gzip",
        where="pairs.jsonl.gz",
        do="again",
    ),
    Case(
        "broken-parquet",
        {"data.pairs.path": "pairs.parquet"},
        {"pairs.parquet": b"PAR1nothing"},
        what="Parquet file cannot be read",
        where="pairs.parquet",
        do="again",
    ),
    Case(
        "malformed-line",
        files={"pairs.jsonl": rows(*PAIRS[:2]) + '{"prompt": "a", \n' + rows(*PAIRS[2:])},
        what="malformed JSON",
        where="pairs.jsonl, line 3",
        value='\'{"prompt": "a",\'',
        do="correct or remove this line",
    ),
    Case(
        "key-twice", files={"pairs.jsonl": '{"prompt": "a", "prompt": "b"}'}, what="'prompt' is given twice", where="1"
    ),
    Case("number-without-end", files={"pairs.jsonl": '{"x": ' + "9" * 5000 + "}"}, what="digits", where="line 1"),
    Case("nested-too-deep", files={"pairs.jsonl": '{"x": ' + "[" * 99999}, what="recursion", where="line 1"),
    Case(
        "nested-too-deep-in-a-list",
        {"data.pairs.path": "pairs.json"},
        {"pairs.json": '[{"x": ' + "[" * 99999},
        what="recursion",
        where="pairs.json, line 1",
    ),
    Case(
        "csv-of-semicolons",
        {"data.pairs.path": "pairs.csv"},
        {"pairs.csv": "prompt;chosen;rejected\na;b;c\n"},
        what="one column",
        where="pairs.csv, line 1",
        value="prompt;chosen;rejected",
        allowed="commas",
        do="separator",
    ),
    Case(
        "csv-header-with-spaces",
        {"data.pairs.path": "pairs.csv"},
        {"pairs.csv": "prompt, chosen,rejected\na,b,c\n"},
        what="no column 'chosen'",
        do="columns: {chosen: ' chosen'}",
    ),
    Case(
        "not-an-object",
        files={"pairs.jsonl": rows(*PAIRS[:2]) + "[1]\n"},
        what="no JSON object",
        where="pairs.jsonl, line 3",
        value="[1]",
        allowed='{"column": value, ...}',
        do="correct or remove",
    ),
    Case(
        "json-of-something-else",
        {"data.pairs.path": "pairs.json"},
        {"pairs.json": "3"},
        what="not a list of objects",
        where="pairs.json",
        allowed="[{...}, {...}]",
        do="write",
    ),
    Case(
        "csv-with-too-many-fields",
        {"data.pairs.path": "pairs.csv"},
        {"pairs.csv": "prompt,chosen,rejected\na,b,c\nd,e,f,g\n"},
        what="4 fields in a table of 3 columns",
        where="pairs.csv, line 3",
        do="double quotes",
    ),
    Case(
        "csv-quote-never-closed",
        {"data.pairs.path": "pairs.csv"},
        {"pairs.csv": 'prompt,chosen,rejected\na,"b,c\n'},
        what="malformed table",
        where="pairs.csv, line 2",
        do="quote",
    ),
    Case(
        "csv-two-columns-of-one-name",
        {"data.pairs.path": "pairs.csv"},
        {"pairs.csv": "prompt,chosen,chosen\na,b,c\n"},
        what="two columns have one name",
        where="pairs.csv, line 1",
        do="rename",
    ),
    Case(
        "split-of-a-file",
        {"data.pairs.split": "train"},
        what="no 'split'",
        value="'train'",
        do="remove",
    ),
]
ROWS = [
    Case(
        "images",
        files=pairs(images=["bee.png"]),
        what="images are not trained on: column 'images'",
        where="pairs.jsonl, line 3, field 'images'",
        value="bee.png",
        do="correct or remove",
    ),
    Case(
        "prompt-beside-another-dialogue",
        files=pairs(
            chosen=[{"role": "user", "content": "other"}, {"role": "assistant", "content": "a"}],
            rejected=[{"role": "user", "content": "other"}, {"role": "assistant", "content": "b"}],
        ),
        what="'prompt' and the dialogue in 'chosen' say different things",
        where="pairs.jsonl, line 3, field 'prompt'",
        do="correct or remove",
    ),
    Case(
        "missing-column",
        files=pairs(chosen=ABSENT, choosen="x"),
        what="no column 'chosen'; the nearest is 'choosen'",
        where="pairs.jsonl, line 3",
        value="['choosen', 'prompt', 'rejected']",
        do="columns: {chosen: choosen}",
    ),
    Case(
        "mapped-column",
        {"data.pairs.columns": {"chosen": "best"}},
        what="no column 'best', which 'columns' names for 'chosen'",
        where="pairs.jsonl, line 1",
        value="['chosen', 'prompt', 'rejected']",
        do="columns: {chosen: NAME}",
    ),
    Case(
        "mapped-unknown-column",
        {"data.pairs.columns": {"choosen": "best"}},
        what="knows no column 'choosen'; did you mean 'chosen'?",
        where="'columns'",
        allowed="prompt, chosen, rejected",
    ),
    Case(
        "empty-text",
        files=pairs(chosen="  "),
        what="'chosen' is empty",
        where="pairs.jsonl, line 3, field 'chosen'",
        value="'  '",
        allowed="not empty",
        do="correct or remove this row",
    ),
    Case(
        "null", files=pairs(rejected=None), what="'rejected' is not a text", where="line 3", value="null", do="correct"
    ),
    Case(
        "number-for-text",
        files=pairs(prompt=3),
        what="'prompt' is not a text",
        where="pairs.jsonl, line 3, field 'prompt'",
        value="3",
        allowed="a text",
        do="correct or remove this row",
    ),
    Case(
        "half-a-surrogate",
        files={"pairs.jsonl": rows(*PAIRS[:2]) + '{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}\n'},
        what="half of a surrogate pair",
        where="line 3, field 'prompt'",
        do="correct",
    ),
    Case(
        "probability",
        files=pairs(p=1.5),
        what="bad number in 'p'",
        where="pairs.jsonl, line 3, field 'p'",
        value="1.5",
        allowed="in [0, 1]",
    ),
    Case("probability-huge", files=pairs(p=10**400), what="bad number in 'p'", where="line 3"),
    Case("probability-nan", files=pairs(p=float("nan")), what="bad number in 'p'", where="line 3", value="nan"),
    Case(
        "label",
        {"data.pairs.format": "unpaired", "steps.0.algorithm": "kto", "steps.1.algorithm": "kto"},
        {"pairs.jsonl": rows(UNPAIRED, {**UNPAIRED, "label": "good"})},
        what="bad label in 'label'",
        where="pairs.jsonl, line 2, field 'label'",
        value="'good'",
        allowed="true, false",
        do="correct or remove",
    ),
    Case(
        "role",
        files=pairs(prompt=[{"role": "robot", "content": "x"}]),
        what="unknown role",
        where="line 3, field 'prompt[0].role'",
        value="'robot'",
        allowed="system, user, assistant",
    ),
    Case(
        "prompt-of-an-assistant",
        files=pairs(prompt=[{"role": "assistant", "content": "x"}]),
        what="does not end with a user's message",
        where="line 3",
        value="'assistant'",
        allowed="user",
    ),
    Case(
        "all-equal",
        files={"pairs.jsonl": rows(*({**row, "rejected": row["chosen"]} for row in PAIRS))},
        what="every pair has equal answers",
        where="data source 'pairs'",
        value="8 records",
        do="columns",
    ),
    Case(
        "all-held-out",
        {"data.pairs.holdout": 0.999},
        what="every prompt is held out",
        where="'holdout'",
        value="0.999",
        do="lower 'holdout'",
    ),
    Case(
        "label-of-another-format",
        {"data.pairs.label": "safer"},
        what="only format 'pku-safe-rlhf' has a 'label'",
        where="pairs",
        value="'safer'",
        do="remove",
    ),
    Case(
        "kind-of-use",
        {"data.more": {"format": "demonstrations", "path": "demos.jsonl", "as": "unpaired"}},
        what="holds demonstrations",
        where="demos.jsonl, line 1",
        value="as: unpaired",
        allowed="demonstrations, prompts",
        do="change 'as'",
    ),
]
WORLD = [
    Case(
        "world-split",
        {"data.more": {"format": "world", "split": "pears", "limit": 5}, "world": {}},
        what="no such split",
        where="data.more, split",
        value="'pears'",
        allowed="pairs",
        do="name one",
    ),
    Case(
        "world-too-many",
        {"data.more": {"format": "world", "split": "pairs", "limit": 10**6}, "world": {}},
        what="fewer",
        where="data.more, split 'pairs'",
        allowed="at most",
        do="limit",
    ),
]


@pytest.mark.parametrize("case", [*UNREADABLE, *FILES, *ROWS, *WORLD], ids=lambda case: case.name)
def test_a_mistake_in_a_data_file(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(case)
    before = ("data/demos", "data/pairs") if "data.more" in case.changes else ("data/demos",)
    kept = () if case in UNREADABLE else before  # what stands before the source with the mistake
    check(replace(case, kept=kept), sacpo(case.argv, capsys, monkeypatch))
