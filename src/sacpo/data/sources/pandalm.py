"""PandaLM's test set: two models' answers to an instruction, with three people's votes.

Source: https://github.com/WeOpenML/PandaLM
"""

from __future__ import annotations

from sacpo.data.records import Message, Pair, Record
from sacpo.data.sources.chat import prompt_of
from sacpo.data.sources.demonstrations import instruction_text
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import Row
from sacpo.recipe.schema import SourceSpec

COLUMNS = (
    "instruction",
    "input",
    "response1",
    "response2",
    "annotator1",
    "annotator2",
    "annotator3",
    "cmp_key",
    "motivation_app",
)
VOTES = ("annotator1", "annotator2", "annotator3")


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return the pair whose `chosen` is the first answer, with p = (votes for it + half the ties) / 3.

    p may be below one half. The answers' models are in the prompt's meta under "models". Empty answers are kept, as
    people compared them.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    votes = [row.choice(field, (0, 1, 2)) for field in VOTES]
    p = (votes.count(1) + votes.count(0) / 2) / len(votes)
    messages = (Message("user", instruction_text(row)),)
    meta = {"models": row.optional_text("cmp_key").split("_")}
    prompt = prompt_of(row, messages, spec, "instruction", category=row.optional_text("motivation_app"), meta=meta)
    return [Pair(prompt, _answer(row, "response1"), _answer(row, "response2"), p, row.source, "helpfulness")]


def _answer(row: Row, field: str) -> str:
    # Six answers of the published file are the JSON value true: a converter took the text "True" for it.
    if row.value(field) is True:
        return "True"
    return row.text(field, empty=True)


FORMATS = {"pandalm": Format("pairs", read, COLUMNS)}
