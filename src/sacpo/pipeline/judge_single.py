"""`judge` as a single verb, by scores, by refusals or by language models; `sacpo.api` offers it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sacpo.data.answers import AnswerFiles
from sacpo.errors import RecipeError
from sacpo.judging.verdicts import MEASURES
from sacpo.pipeline.outside import FileAnswers
from sacpo.pipeline.single import do_single
from sacpo.plain import JsonMapping, JsonObject
from sacpo.system.progress import Progress

if TYPE_CHECKING:
    from sacpo.judging.llm.single import Panel


def judged(
    files: AnswerFiles,
    out: str | Path,
    kind: str,
    criterion: str | None,
    panel: Panel | None,
    scoring: JsonMapping,
    asked: JsonMapping,
    ask_again: bool,
    progress: Progress,
) -> JsonObject:
    """Return what was measured, by model; arguments and errors as of `sacpo.api.judge`.

    Args:
        files: The answers, and the baseline's.
        out: The output folder.
        kind: Who judges.
        criterion: What is judged.
        panel: Language models.
        scoring: What the other kinds take: model, base, sign, unsafe_below, max_length, batch_size.
        asked: What language models take: rubrics, orders, repeats, concurrency, budget.
        ask_again: Ask again what no verdict could be read from.
        progress: Where to show it.
    """
    if panel is not None and kind == "llm":
        from sacpo.judging.llm.single import judge_by_llms, panel_of

        spec = panel_of(panel, **asked)
        return judge_by_llms(files, out, spec, criterion=criterion, ask_again=ask_again, progress=progress)
    if panel is not None or kind == "llm" or criterion is None:
        raise RecipeError(
            "kind 'llm' needs a panel, and other kinds need a criterion and take no panel",
            where="panel" if criterion is not None else "criterion",
            value=kind,
            do="give panel={'model': NAME} for kind 'llm' only",
        )
    from sacpo.pipeline import verbs

    answers = FileAnswers(files.answers, files.name, files.prompts)
    others = None if files.baseline is None else FileAnswers(files.baseline, files.baseline_name, files.prompts)
    stage = verbs.judging(answers, others, criterion, kind, **scoring)
    folder = do_single("judge", stage, out, progress)
    found: JsonObject = json.loads((folder / MEASURES).read_text(encoding="utf-8"))
    return found
