"""Judging files of answers by language models, as the command line and `sacpo.api.judge` say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sacpo.data.answers import AnswerFiles
from sacpo.errors import RecipeError
from sacpo.judging.llm.budget import CostEstimate
from sacpo.judging.llm.files import estimate_files, judge_files
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.panel import incomplete
from sacpo.judging.llm.run import Missing
from sacpo.judging.llm.specs import asking_of, budget_of, check_panel
from sacpo.judging.llm.store import STORE
from sacpo.judging.rubric import builtin_rubrics, load_rubric
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.explain import explain
from sacpo.recipe.llm import PanelSpec
from sacpo.recipe.safe import yaml_file
from sacpo.system.progress import QUIET, Progress

Panel = str | Path | JsonMapping | Sequence[JsonMapping]
"""A panel's file or what would stand in it (`PanelSpec`), or one language model's settings or several's (`LlmSpec`)."""


def panel_of(panel: Panel, **said: Any) -> PanelSpec:
    """Return a panel; what is said beside a file wins over it.

    Args:
        panel: See `Panel`.
        said: `rubrics`, `orders`, `repeats`, `concurrency`, `budget`; None where nothing is said.

    Raises:
        RecipeError: The file cannot be read, or a setting is not valid.
    """
    source = str(panel) if isinstance(panel, str | Path) else "panel"
    if isinstance(panel, str | Path):
        data = _read(Path(panel))
    elif isinstance(panel, Mapping):
        data = dict(panel) if "panel" in panel else {"panel": panel}
    else:
        data = {"panel": list(panel)}
    given = {name: value for name, value in said.items() if value not in (None, (), [], {})}
    if isinstance(data.get("budget"), Mapping) and "budget" in given:
        given["budget"] = {**data["budget"], **given["budget"]}
    data = {**data, **given}
    try:
        spec = PanelSpec.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, source, PanelSpec) from error
    if not spec.judges:
        raise RecipeError("a panel without judges", where=source, do="name language models under 'panel'")
    check_panel(spec.judges, source)
    return spec


def judge_by_llms(
    files: AnswerFiles,
    out: str | Path,
    spec: PanelSpec,
    *,
    criterion: str | None = None,
    ask_again: bool = False,
    progress: Progress = QUIET,
) -> JsonObject:
    """Judge a file of answers and return what was measured, by model.

    Args:
        files: The answers.
        out: The folder; see `sacpo.judging.llm.files.judge_files`.
        spec: The panel, its rubrics and its budget.
        criterion: File the verdicts of the one rubric under this; without rubrics: the built-in one of this name.
        ask_again: Ask again what no verdict could be read from.
        progress: Where to show it.

    Raises:
        UserError: The files or settings do not fit together, or an endpoint refuses the key or the model.
        RunError: Verdicts are missing, because the budget is spent or an endpoint failed; the same call goes on.
    """
    result = judge_files(
        *files.read(),
        Path(out),
        _judges(spec, criterion),
        asking=asking_of(spec, budget_of(spec.budget, spec.judges)),
        progress=progress,
        ask_again=ask_again,
    )
    if not result["complete"]:
        missing = [Missing(**one) for one in result["missing"]]
        raise incomplete(missing, result["verdicts"], Path(out) / STORE)
    measures: JsonObject = result["measures"]
    return measures


def estimate_llms(
    files: AnswerFiles, out: str | Path, spec: PanelSpec, *, criterion: str | None = None
) -> list[CostEstimate]:
    """Return what `judge_by_llms` with the same arguments would cost; nothing is asked or written."""
    asking = asking_of(spec, budget_of(spec.budget, spec.judges))
    return estimate_files(*files.read(), Path(out), _judges(spec, criterion), asking=asking)


def _judges(spec: PanelSpec, criterion: str | None) -> list[LlmJudgeConfig]:
    """Return every judge with every rubric."""
    names = spec.rubrics or ((criterion,) if criterion else ())
    if not names:
        raise RecipeError(
            "nothing says what to judge by",
            where="rubric",
            allowed=[*builtin_rubrics(), "a YAML file"],
            do="name a rubric: --rubric helpfulness",
        )
    rubrics = [load_rubric(name) for name in names]
    if criterion is not None:
        if len(rubrics) > 1:
            raise RecipeError(
                "one criterion for several rubrics", where="criterion", value=criterion, do="leave it out"
            )
        rubrics = [replace(rubrics[0], criterion=criterion)]
    return [LlmJudgeConfig(judge, rubric) for judge in spec.judges for rubric in rubrics]


def _read(path: Path) -> JsonObject:
    data = yaml_file(path, "panel")
    if not isinstance(data, dict):
        raise RecipeError(
            "a panel's file is a mapping", where=path, allowed=[*PanelSpec.model_fields], do="write 'KEY: VALUE' lines"
        )
    return data
