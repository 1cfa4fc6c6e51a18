"""The evaluation prompts of a plan: how many there are, and where they are fewer than the recipe asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.certify.plan import fewer_labels
from sacpo.data.records import Kind
from sacpo.pipeline.runner import Plan
from sacpo.pipeline.stages.certificate import Certified
from sacpo.pipeline.stages.data import Data, Prompts, fewer_than_asked, placed, report_of
from sacpo.recipe.schema import DataSpec, Recipe
from sacpo.world import World


@dataclass(frozen=True)
class PromptSet:
    """A set of evaluation prompts.

    Attributes:
        name: Its name.
        role: What it is for.
        n: How many it holds; None: known once read.
        limit: How many the recipe asks for; None: all.
        kinds: How many of each kind.
    """

    name: str
    role: str
    n: int | None
    limit: int | None
    kinds: dict[str, int]


def prompt_sets(plan: Plan) -> list[PromptSet]:
    """Return the prompt sets of a plan: counted where they are done, or can be drawn from what is here.

    Raises:
        DataError: The world has fewer prompts than the recipe asks for, or a local file cannot be read.
    """
    found = []
    for status in plan.statuses:
        stage, done = status.stage, status.state == "done"
        if isinstance(stage, Data) and not done:
            _check_world(stage)
        if isinstance(stage, Prompts):
            spec = stage.spec
            n, kinds = None, {}
            if done:
                report = report_of(plan.folder.final(stage.name))
                n, kinds = report["n"], report["kinds"]
            elif spec.format == "world" or all(Path(path).exists() for path in spec.paths):
                drawn = stage.drawn()
                n, kinds = len(drawn), dict(sorted(Counter(str(p.kind) for p in drawn if p.kind).items()))
            found.append(PromptSet(stage.source.name, spec.role, n, spec.limit, kinds))
    return found


def shortfalls(recipe: Recipe, sets: Sequence[PromptSet]) -> list[str]:
    """Return where a recipe asks for more than there is: prompts of a set, true labels of a certificate."""
    found = [fewer_than_asked(f"prompts.{one.name}", one.n, one.limit) for one in sets if one.n is not None]
    certify = recipe.certify
    if certify is not None and certify.labels is not None and recipe.objective is not None:
        kinds = Certified(certify, recipe.constraints, recipe.objective).terms().kinds
        for one in sets:
            if one.name == certify.prompts and one.n is not None:
                there = {Kind(kind): n for kind, n in one.kinds.items()}
                there[Kind.UNKNOWN] = one.n - sum(one.kinds.values())
                found += fewer_labels(certify.labels.n, kinds, there)
    return [text for text in found if text]


def _check_world(stage: Data) -> None:
    """Draw the prompts of a source of the world, which says where there are fewer."""
    spec = stage.source.spec
    if spec.format == "world" and isinstance(spec, DataSpec):
        assert spec.split is not None and spec.limit is not None and stage.world is not None
        with placed(f"data.{stage.source.name}"):
            World(stage.world).prompts(spec.split, spec.limit, seed=stage.seed, mix=spec.mix)
