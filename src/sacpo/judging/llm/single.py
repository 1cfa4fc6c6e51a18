"""Panels and their rubrics, as the command line and `sacpo.api.judge` say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sacpo.errors import RecipeError
from sacpo.judging.llm.specs import check_panel
from sacpo.judging.rubric import Rubric, builtin_rubrics, load_rubric
from sacpo.plain import JsonObject
from sacpo.recipe.explain import explain
from sacpo.recipe.llm import Panel, PanelSpec
from sacpo.recipe.safe import yaml_file


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


def rubrics_of(spec: PanelSpec, criterion: str | None) -> list[Rubric]:
    """Return a panel's rubrics, the one rubric's verdicts filed under the criterion; without rubrics the built-in one.

    Raises:
        RecipeError: Nothing says what to judge by, or one criterion is given for several rubrics.
        DataError: There is no such rubric, or its file is none.
    """
    names = spec.rubrics or ((criterion,) if criterion else ())
    if not names:
        raise RecipeError(
            "nothing says what to judge by",
            where="rubric",
            allowed=[*builtin_rubrics(), "a YAML file"],
            do="name a rubric: --rubric helpfulness",
        )
    rubrics = [load_rubric(name, "--rubric") for name in names]
    if criterion is not None:
        if len(rubrics) > 1:
            raise RecipeError(
                "one criterion for several rubrics", where="criterion", value=criterion, do="leave it out"
            )
        rubrics = [replace(rubrics[0], criterion=criterion)]
    return rubrics


def _read(path: Path) -> JsonObject:
    data = yaml_file(path, "panel")
    if not isinstance(data, dict):
        raise RecipeError(
            "a panel's file is a mapping", where=path, allowed=[*PanelSpec.model_fields], do="write 'KEY: VALUE' lines"
        )
    return data
