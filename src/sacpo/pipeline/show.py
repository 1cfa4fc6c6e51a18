"""A plan on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sacpo.pipeline.fits import DEVICES, LARGEST_BATCH
from sacpo.pipeline.prompt_sets import PromptSet, shortfalls
from sacpo.pipeline.runner import Plan, Status
from sacpo.pipeline.sizes import Judging, TrainingPlan, answering_peak
from sacpo.recipe.models import model_graph
from sacpo.recipe.notices import notices
from sacpo.recipe.schema import Recipe
from sacpo.report.tables import of_kinds


def plan_tables(
    recipe: Recipe,
    plan: Plan,
    trainings: Sequence[TrainingPlan],
    judgings: Sequence[Judging],
    sets: Sequence[PromptSet],
) -> None:
    """Print what a run would do: trainings with their size, prompts, requests to judges, the stages of every kind."""
    console = Console(width=None if Console().is_terminal else 140)
    console.print(Text(f"{recipe.name}: {len(plan.statuses)} stages, {len(model_graph(recipe))} models"))
    console.print(_trainings(trainings))
    if sets:
        console.print(_prompts(sets))
    if judgings:
        console.print(_judgings(judgings))
    console.print(_stages(plan.statuses))
    for text in plan.later:
        console.print(Text(text))
    heaviest = max((one for one in trainings if one.memory), key=lambda one: one.memory or 0, default=None)
    console.print(Text(_summary(heaviest, [training.disk for training in trainings])))
    if (answers := answering_peak(recipe)) is not None:
        console.print(Text(f"answering takes about {_bytes(answers)} at most, keys and values included"))
    if heaviest is not None and heaviest.rooms:
        console.print(_rooms(heaviest))
    for notice in (*shortfalls(recipe, sets), *notices(recipe)):
        console.print(Text(notice))


def _trainings(trainings: Sequence[TrainingPlan]) -> Table:
    table = Table(title="trainings", title_justify="left")
    for name in ("model", "records", "optimiser steps", "tokens, about", "peak memory, about", "disk", "state"):
        table.add_column(name, justify="left" if name in ("model", "state") else "right")
    for training in trainings:
        table.add_row(
            Text(training.model),
            *(_count(n, training.at_most) for n in (training.records, training.steps, training.tokens)),
            _bytes(training.memory),
            _bytes(training.disk),
            training.state,
        )
    return table


def _prompts(sets: Sequence[PromptSet]) -> Table:
    table = Table(title="evaluation prompts", title_justify="left")
    for name in ("set", "role", "prompts", "of kinds", "asked for"):
        table.add_column(name, justify="right" if name in ("prompts", "asked for") else "left")
    for one in sets:
        kinds = of_kinds(one.n, one.kinds)
        table.add_row(Text(one.name), one.role, _count(one.n), kinds, "all" if one.limit is None else f"{one.limit:,}")
    return table


def _summary(heaviest: TrainingPlan | None, disk: Sequence[int | None]) -> str:
    if not disk:
        return "no language model is trained"
    known = sum(one or 0 for one in disk)
    room = "the disk that trained models take is unknown" if None in disk else f"trained models {_bytes(known)} of disk"
    if heaviest is None:
        return f"peak memory is unknown, as the base's size is (its files are not here, its name does not say); {room}"
    parts = (
        ", activations and logits (on top comes" if heaviest.activations else " (on top come activations, logits and"
    )
    what = f"weights, gradients, optimiser{parts} about 0.6 GB of libraries)"
    return f"peak memory about {_bytes(heaviest.memory)} of {what}; {room}"


def _rooms(training: TrainingPlan) -> Table:
    """Return what other ways to train the heaviest model would take, and the device batches that would fit."""
    title = (
        f"what fits: {training.model}, with {training.batch} records a device batch, and the largest batch by device"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("way")
    for name in ("peak memory, about", *(f"{size} GB" for size in DEVICES)):
        table.add_column(name, justify="right")
    for room in training.rooms:
        way = f"{room.way}, checkpointing" if room.checkpointing else room.way
        batches = (_batch(room.batches[size]) for size in DEVICES)
        table.add_row(way, _bytes(room.needs), *batches)
    return table


def _batch(largest: int) -> str:
    return f"{largest}+" if largest >= LARGEST_BATCH else str(largest or "no")


def _judgings(judgings: Sequence[Judging]) -> Table:
    table = Table(title="language models that judge", title_justify="left")
    for name in ("criterion", "judge", "endpoint", "requests, at most"):
        table.add_column(name, justify="right" if name.startswith("requests") else "left")
    for one in judgings:
        table.add_row(Text(one.criterion), Text(one.judge), Text(one.endpoint or "OpenAI"), _count(one.requests))
    return table


def _stages(statuses: Sequence[Status]) -> Table:
    table = Table(title="stages", title_justify="left")
    for name in ("kind", "done", "resumed", "open"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    kinds: dict[str, Counter[str]] = {}
    for status in statuses:
        kinds.setdefault(status.stage.name.partition("/")[0], Counter())[status.state] += 1
    for kind, states in kinds.items():
        table.add_row(kind, *(str(states[state] or "") for state in ("done", "resumed", "open")))
    return table


def _count(value: int | None, at_most: bool = False) -> str:
    if value is None:
        return "known once read"
    return f"at most {value:,}" if at_most else f"{value:,}"


def _bytes(value: float | None) -> str:
    if value is None:
        return "unknown"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit in ("B", "KB") else f"{value:.1f} {unit}"
        value /= 1000
    return ""
