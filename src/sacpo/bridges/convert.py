"""`convert`: answers and verdicts from and to the forms of other tools; `sacpo.api` offers it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sacpo.errors import DataError, RecipeError
from sacpo.system.files import write_atomic
from sacpo.system.machine import machine_errors

FORMS = ("answers", "alpaca-eval", "inspect")
VERDICTS = "verdicts.jsonl"


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: Literal["answers", "alpaca-eval", "inspect"],
    answers: str | Path | None = None,
    model: str | None = None,
) -> Path:
    """Write answers, or verdicts on them, in the form of another tool, and return the file.

    Args:
        source: A file of answers in any form that `judge` reads; "inspect": a folder of `judge`, its verdicts, or a
            store of people's labels. People's labels in a folder's store count as well.
        out: The file to write; it must not be there. "inspect": a name that ends in .eval or .json.
        to: "answers" writes sacpo's own records, "alpaca-eval" AlpacaEval's model outputs, "inspect" Inspect's log.
        answers: "inspect": the answers that were judged; those in the folder by default.
        model: Only this model, where the files hold several.

    Raises:
        UserError: The files do not hold what the form needs, or the package of the form is not installed.
    """
    out = Path(out)
    if to not in FORMS:
        raise RecipeError("no such form", where="to", value=to, allowed=FORMS, do="choose one")
    if out.exists():
        raise RecipeError("the file is there already", where=out, do="give another name, or delete it")
    if answers is not None and to != "inspect":
        raise RecipeError("it belongs to verdicts", where="answers", value=str(answers), do="leave it out")
    with machine_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if to == "inspect":
            _to_inspect(Path(source), out, None if answers is None else Path(answers), model)
        else:
            write_atomic(out, _text(_answers(source, model), to))
    return out


def _text(found: Sequence[Any], to: str) -> str:
    from sacpo.bridges.alpaca_eval import alpaca_outputs

    if to == "alpaca-eval":
        return json.dumps(alpaca_outputs(found), ensure_ascii=False, indent=2) + "\n"
    return "".join(json.dumps(answer.to_json(), ensure_ascii=False) + "\n" for answer in found)


def _answers(source: str | Path, model: str | None) -> list[Any]:
    from sacpo.data.answers import answers_of_models

    found = answers_of_models(source)
    return _of_one_model(found, model, str(source))


def _of_one_model(records: Sequence[Any], model: str | None, where: str) -> list[Any]:
    models = list(dict.fromkeys(record.model for record in records))
    if model is None and len(models) > 1:
        raise DataError("the file holds several models", where=where, allowed=models, do="name one of them (--model)")
    if model is not None and model not in models:
        raise DataError("no such model in the file", where=where, value=model, allowed=models)
    return [record for record in records if model in (None, record.model)]


def _to_inspect(source: Path, out: Path, answers: Path | None, model: str | None) -> None:
    from sacpo.bridges.inspect_log import write_inspect_log
    from sacpo.data.answers import ANSWERS
    from sacpo.judging.read import read_verdicts

    if out.suffix not in (".eval", ".json"):
        raise RecipeError("a log of Inspect ends in .eval or .json", where="out", value=str(out))
    file = source / VERDICTS if source.is_dir() else source
    if not file.is_file():
        raise DataError("no verdicts here", where=source, do="give a folder that 'judge' wrote, or its verdicts.jsonl")
    texts = answers or file.parent / ANSWERS
    if not texts.exists():
        raise DataError("the answers that were judged are not here", where=texts, do="give them with --answers")
    verdicts = _of_one_model(read_verdicts(file), model, str(file))
    if not verdicts:
        raise DataError("there are no verdicts", where=file, do="give a folder that 'judge' wrote")
    found = _answers(texts, verdicts[0].model)
    write_inspect_log(found, verdicts, out, file.stat().st_mtime)
