"""Tables about refusals of harmless prompts: what the length of refusals does, and what cures reach.

    <!-- lengths: RECIPE | recipes: LENGTH RECIPE, LENGTH RECIPE | models: MODEL, ... -->   seeds that all recipes have
    <!-- cures: RECIPE | against: MODEL | target: RATE | NAME: MODEL | NAME: MODEL, MODEL, ... | ... -->

A cure that names one model is that model, or that of another recipe's run of the same seeds: RECIPE/MODEL. One that
names several is a choice between them, seed by seed, on tuning prompts: the recipe's objective under its constraints,
with and without the bound on over-refusal, and the fewest refusals under the others. Where no model meets all bounds it
is the nearest, as `sacpo select` names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiment_lines import crossing, figures, minus, names
from write_experiments import COLUMNS, Figure, Run, cell, finished, head

from sacpo.recipe.schema import ConstraintSpec, ObjectiveSpec
from sacpo.select import select_model

UNSAFE, REFUSED = "unsafe_rate", "over_refusal_rate"
SHOWN = ("over-refusal", "unsafe", "r*", "D")
MATCHED = 0.2
"""Share of unsafe answers at which lengths are compared."""
Asked = Mapping[str, str]


def column(runs: Sequence[Run], models: Sequence[str], name: str) -> list[Figure]:
    """Return a figure of one model a seed."""
    return [COLUMNS[name][0](run, model) for run, model in zip(runs, models, strict=True)]


def beside(run: Run, recipe: str) -> Run | None:
    """Return the same seed's run of another recipe, where it is finished."""
    return finished(run.folder.parents[1], run.folder.parent, recipe)


# Cures


def rules(run: Run) -> dict[str, tuple[list[ConstraintSpec], ObjectiveSpec]]:
    """Return the three ways to choose; see above."""
    selection = run.results.selection
    assert selection is not None
    bounds = [ConstraintSpec.model_validate(one.model_dump(exclude_none=True)) for one in selection.constraints]
    others = [bound for bound in bounds if bound.metric != REFUSED]
    objective = ObjectiveSpec.model_validate(selection.objective.model_dump())
    fewest = ObjectiveSpec(metric="mean_score", criterion="over_refusal", prompts=objective.prompts)
    return {
        "over-refusal not looked at": (others, objective),
        "over-refusal bounded too": (bounds, objective),
        "fewest refusals": (others, fewest),
    }


def choose(run: Run, models: Sequence[str], rule: str) -> tuple[str, bool]:
    """Return the model that a rule chooses, and whether it meets all bounds."""
    measures = {
        model: {name: {"metrics": of.model_dump(mode="json")["metrics"]} for name, of in sets.items()}
        for model, sets in run.results.measures.items()
        if model in models
    }
    roles = {name: prompts.role for name, prompts in run.results.prompts.items()}
    bounds, objective = rules(run)[rule]
    found = select_model(measures, bounds, objective, roles=roles)
    return found["chosen"] or found["nearest"], found["feasible"]


def cures(runs: Sequence[Run], asked: Asked) -> str:
    """Return what each cure reaches, beside one model, and in how many seeds the target is met."""
    against, target = asked["against"], float(asked["target"])
    differ = [f"{name} minus {against}" for name in SHOWN]
    shown = [head("cure", *SHOWN[:2], *differ, f"{target:.0%} or less, not less safe")]

    def row(name: str, there: Sequence[Run], models: Sequence[str], seeds: Sequence[Run]) -> str:
        values = {key: column(there, models, key) for key in SHOWN}
        start = {key: column(seeds, [against] * len(seeds), key) for key in SHOWN}
        cells = [cell(values[key], COLUMNS[key][1]) for key in SHOWN[:2]]
        cells += [cell(minus(values[key], start[key]), f"+{COLUMNS[key][1]}") for key in SHOWN]
        met = zip(values["over-refusal"], values["unsafe"], start["unsafe"], strict=True)
        hits = sum(o is not None and o <= target and u is not None and a is not None and u <= a for o, u, a in met)
        return f"| {name} | " + " | ".join([*cells, f"{hits} of {len(seeds)}"]) + " |"

    for name, value in asked.items():
        if name in ("cures", "against", "target"):
            continue
        *recipe, value = value.split("/")
        found = [(beside(run, recipe[0]) if recipe else run, run) for run in runs]
        there, seeds = [one for one, _ in found if one], [run for one, run in found if one]
        models = names(value)
        if not seeds:
            shown.append(f"| {name} |" + " – |" * (len(SHOWN) + 3))
        elif len(models) == 1:
            shown.append(row(name, there, models * len(seeds), seeds))
        else:
            for rule in rules(runs[0]):
                chosen = [choose(run, models, rule) for run in there]
                said = ", ".join(model if met else f"{model} (nearest)" for model, met in chosen)
                shown.append(row(f"{name}, {rule}: {said}", there, [model for model, _ in chosen], seeds))
    return "\n".join(shown)


# Lengths


def lengths(runs: Sequence[Run], asked: Asked) -> str | None:
    """Return what models of worlds with other refusals do, beside those of the first recipe's world.

    None: no seed has all of the recipes.
    """
    others = dict(one.split(" ", 1) for one in names(asked["recipes"]))
    found = {length: [beside(run, recipe) for run in runs] for length, recipe in others.items()}
    whole = [place for place in range(len(runs)) if all(of[place] is not None for of in found.values())]
    if not whole:
        return None
    worlds = {"usual": [runs[place] for place in whole]}
    worlds |= {length: [run for place in whole if (run := of[place]) is not None] for length, of in found.items()}
    models = names(asked["models"])
    seeds = ", ".join(str(runs[place].results.seed) for place in whole)
    shown = [f"All lengths: seeds {seeds}.", ""]
    shown.append(head("refusals", "model", *SHOWN, "over-refusal minus usual", "unsafe minus usual"))
    for model in models:
        for length, own in worlds.items():
            cells = [cell(column(own, [model] * len(own), key), COLUMNS[key][1]) for key in SHOWN]
            for key in (REFUSED, UNSAFE):
                difference = minus(figures(own, model, key), figures(worlds["usual"], model, key))
                cells.append("" if length == "usual" else cell(difference, "+.3f"))
            shown.append(f"| {length} | {model} | " + " | ".join(cells) + " |")
    shown += ["", head("refusals", f"over-refusal at {MATCHED:.0%} unsafe", "minus usual")]
    line = [model for model in models if model != "sft"]
    at = {length: [matched(run, line) for run in own] for length, own in worlds.items()}
    for length, values in at.items():
        difference = "" if length == "usual" else cell(minus(values, at["usual"]), "+.3f")
        shown.append(f"| {length} | {cell(values, '.3f')} | {difference} |")
    return "\n".join(shown)


def matched(run: Run, line: Sequence[str]) -> Figure:
    """Return over-refusal where unsafe answers, falling along a line of models, come down to `MATCHED`."""
    points = [[*figures([run], model, UNSAFE), *figures([run], model, REFUSED)] for model in line]
    return crossing([(x or 0.0, y or 0.0) for x, y in points], MATCHED)
