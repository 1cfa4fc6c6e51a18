"""`judge` as a single verb, by scores, by refusals or by language models; `sacpo.api` offers it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sacpo.data.records import Kind
from sacpo.errors import RecipeError
from sacpo.judging.verdicts import MEASURES
from sacpo.pipeline.outside import FileAnswers
from sacpo.pipeline.single import OpenFolder, do_in, do_single
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping, JsonObject
from sacpo.system import processes
from sacpo.system.files import read_json
from sacpo.system.progress import QUIET, Progress

if TYPE_CHECKING:
    from sacpo.judging.llm.budget import CostEstimate
    from sacpo.pipeline.stages.verdicts import JudgedByPanel
    from sacpo.recipe.llm import Panel, PanelSpec

Files = tuple[FileAnswers, FileAnswers | None]
"""The answers, and the baseline's."""


def answer_files(
    answers: str | Path,
    baseline: str | Path | None,
    name: str | None = None,
    baseline_name: str | None = None,
    prompts: str | None = None,
) -> Files:
    """Return files of answers as a user names them; arguments as of `sacpo.api.judge`.

    Raises:
        RecipeError: There is no such kind of prompt.
    """
    kinds = [kind.value for kind in Kind if kind.value]
    if prompts is not None and prompts not in kinds:
        raise RecipeError("no such kind of prompt", where="--prompts", value=prompts, allowed=kinds, do="name one")
    others = None if baseline is None else FileAnswers(baseline, baseline_name, prompts)
    return FileAnswers(answers, name, prompts), others


def judged(
    files: Files,
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
        from sacpo.judging.llm.single import panel_of

        folder = _by_panel(files, Path(out), panel_of(panel, **asked), criterion, ask_again, progress)
    elif panel is not None or kind == "llm" or criterion is None:
        raise RecipeError(
            "kind 'llm' needs a panel, and other kinds need a criterion and take no panel",
            where="panel" if criterion is not None else "criterion",
            value=kind,
            do="give panel={'model': NAME} for kind 'llm' only",
        )
    else:
        from sacpo.pipeline import verbs

        folder = do_single("judge", verbs.judging(*files, criterion, kind, **scoring), out, progress)
    return read_json(folder / MEASURES)


def estimates(
    files: Files, out: str | Path, panel: Panel, criterion: str | None, asked: JsonMapping
) -> list[CostEstimate]:
    """Return what it would cost to judge so; nothing is asked or written."""
    from sacpo.judging.llm.single import panel_of

    spec = panel_of(panel, **asked)
    folder = OpenFolder(Path(out), "judge", QUIET)
    return _stage(files, spec, criterion).estimates(_tools(folder, spec, QUIET))


def _by_panel(
    files: Files, out: Path, spec: PanelSpec, criterion: str | None, ask_again: bool, progress: Progress
) -> Path:
    from sacpo.judging.preflight import check_reachable

    stage, folder = _stage(files, spec, criterion), OpenFolder(out, "judge", progress)
    tools = _tools(folder, spec, progress)
    tools.bench.budget.check([judge.model for judge in spec.judges])  # before anything is written
    stage.questions(tools)
    if ask_again and processes.is_first():
        tools.bench.ask_again()
    waiting = {(one.judge, one.criterion) for one in stage.estimates(tools) if one.requests}
    check_reachable([judge for judge in stage.panel(tools).judges if (judge.name, judge.criterion) in waiting])
    with folder:
        return do_in(folder, stage, tools)


def _stage(files: Files, spec: PanelSpec, criterion: str | None) -> JudgedByPanel:
    from sacpo.judging.llm.single import rubrics_of
    from sacpo.pipeline.judges import panel_judge
    from sacpo.pipeline.stages.verdicts import JudgedByPanel

    return JudgedByPanel("panel", *files, tuple(panel_judge(spec, rubric) for rubric in rubrics_of(spec, criterion)))


def _tools(folder: OpenFolder, spec: PanelSpec, progress: Progress) -> Tools:
    from sacpo.judging.llm.specs import budget_of

    return Tools(folder, cache=folder.out, progress=progress, budget=budget_of(spec.budget, spec.judges))
