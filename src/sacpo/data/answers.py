"""Files of answers: our own records, or rows of a prompt and an answer as other tools write them.

A row's prompt is a text or messages under `prompt`, `instruction` (with Alpaca's `input` below it) or `question`; its
answer is under `output`, `completion`, `response` or `answer`. Its model is named by `generator` or `model`, else by
the file. `category` (or AlpacaEval's `dataset`), `kind` and `cluster` are kept. Prompts are known by their text, so
that two files meet on the same prompts in whatever order; a prompt's second answer in one file is its second sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sacpo.data.records import Answer, Kind, Prompt, read_jsonl
from sacpo.data.sources.chat import completion_field
from sacpo.data.sources.files import read_file
from sacpo.data.sources.prompts import read as read_prompt
from sacpo.data.sources.rows import Row
from sacpo.errors import DataError
from sacpo.recipe.schema import SourceSpec

ANSWERS, BASELINE = "answers.jsonl", "baseline.jsonl"
"""A folder's file of a model's answers, and of those that they are compared with."""
PROMPTS = ("prompt", "instruction", "question", "Behavior")
TEXTS = ("output", "completion", "response", "answer")
MODELS = ("generator", "model")
SHOWN = 60
"""Characters of a prompt in a message."""
GENERAL_NAMES = ("answers", "outputs", "model_outputs", "generations", "responses")


def read_answers(path: str | Path, *, model: str | None = None, kind: str | None = None) -> list[Answer]:
    """Read one model's answers.

    Args:
        path: JSON lines, JSON, CSV or Parquet, or a folder with answers.jsonl in it.
        model: Name the model this, whatever the file says.
        kind: What the prompts are, where a row does not say: ordinary, restricted or borderline.

    Raises:
        DataError: There is no such file, a row is no answer, or the file holds several models'.
    """
    answers = answers_of_models(path, kind)
    if model is not None:
        answers = [replace(answer, model=model) for answer in answers]
    models = sorted({answer.model for answer in answers})
    if len(models) > 1:
        raise DataError(
            "a file of answers holds one model's", where=str(path), value=models, do="split the file by model"
        )
    return answers


def answers_of_models(path: str | Path, kind: str | None = None) -> list[Answer]:
    """Read answers, of one model or several; arguments as for `read_answers`.

    Raises:
        DataError: There is no such file, or a row is no answer.
    """
    file = answer_file(path)
    rows = list(read_file(file, file.name))
    own = "messages" in rows[0].data["prompt"] if isinstance(rows[0].data.get("prompt"), dict) else False
    answers = read_jsonl(file, Answer) if own and "text" in rows[0].data else _numbered(rows, file, kind)
    return answers if kind is None else [_with_kind(answer, Kind(kind)) for answer in answers]


def answer_file(path: str | Path) -> Path:
    """Return the file of answers that a path stands for.

    Raises:
        DataError: There is none.
    """
    file = Path(path) / ANSWERS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise DataError(
            "no such file of answers",
            where=file,
            do="give a file of answers, or the folder that 'generate' or 'judge' wrote",
        )
    return file


def _numbered(rows: list[Row], file: Path, kind: str | None) -> list[Answer]:
    """Read rows; the answers to one prompt are its samples 0, 1, ... in the file's order."""
    spec = SourceSpec.model_validate({"format": "prompts", "path": str(file), "kind": kind})
    seen: Counter[str] = Counter()
    answers = []
    for row in rows:
        answer = _answer(row, spec, file)
        answers.append(replace(answer, sample=seen[answer.prompt.id]))
        seen[answer.prompt.id] += 1
    return answers


def _answer(row: Row, spec: SourceSpec, file: Path) -> Answer:
    field = _first(row, TEXTS)
    if field is None or _first(row, PROMPTS) is None:
        raise DataError(
            "a row that is no answer to a prompt",
            where=row.place,
            value=sorted(row.data),
            allowed=f"a prompt ({', '.join(PROMPTS[:3])}) and an answer ({', '.join(TEXTS)})",
            do="name the columns so",
        )
    data = {**row.data, "prompt": _asked(row), "category": _category(row)}
    (prompt,) = (record for record in read_prompt(replace(row, data=data), spec, None) if isinstance(record, Prompt))
    text = completion_field(row, field) if isinstance(row.data[field], dict | list) else row.text(field, empty=True)
    return Answer(prompt, _model(row, file), text)


def _asked(row: Row) -> object:
    """Return the row's prompt; an Alpaca row's `input` stands below its instruction."""
    name = _first(row, PROMPTS)
    value = row.data[str(name)]
    below = row.optional_text("input") if name == "instruction" else ""
    return f"{value}\n\n{below}" if below and isinstance(value, str) else value


def _first(row: Row, names: Sequence[str]) -> str | None:
    """Return the first of these columns that the row has; one that holds null only where it has no other."""
    known = [name for name in names if name in row.data]
    return next((name for name in known if row.data[name] is not None), known[0] if known else None)


def _category(row: Row) -> str:
    return row.optional_text("category") or row.optional_text("dataset")


def _model(row: Row, file: Path) -> str:
    name = next((row.data[key] for key in MODELS if row.has(key)), None)
    if isinstance(name, str):
        return name
    stem = file.name.partition(".")[0]
    return file.absolute().parent.name if stem in GENERAL_NAMES else stem


def _with_kind(answer: Answer, kind: Kind) -> Answer:
    prompt = answer.prompt
    return answer if prompt.kind is not Kind.UNKNOWN else replace(answer, prompt=replace(prompt, kind=kind))


def distinct_answers(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answers once each, in order of first appearance.

    Raises:
        DataError: One prompt and sample has two different answers of one model.
    """
    kept: dict[tuple[str, str, int], Answer] = {}
    for answer in answers:
        known = kept.setdefault((answer.model, answer.prompt.id, answer.sample), answer)
        if known.text != answer.text:
            raise DataError(
                "one prompt has two different answers with the same sample number",
                where=f"model {answer.model}, prompt {place_of(answer)}",
                value=answer.sample,
                do="number the samples of a prompt 0, 1, ...",
            )
    return list(kept.values())


def place_of(answer: Answer) -> str:
    """Return an answer's prompt by its text and id, and its number where it is not the first, for a message."""
    text = " ".join(answer.prompt.text.split())
    short = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return f"'{short}' ({answer.prompt.id}{f', sample {answer.sample}' if answer.sample else ''})"
