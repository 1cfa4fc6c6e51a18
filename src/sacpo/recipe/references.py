"""Where a recipe names data sources."""

from __future__ import annotations

from collections.abc import Iterator

from sacpo.recipe.sampled import ScorePairs
from sacpo.recipe.schema import Recipe, SampledSpec
from sacpo.recipe.section import Names


def dataset_references(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield every place that names a data source, and the name."""
    if recipe.sft:
        yield from _named("sft.dataset", recipe.sft.dataset)
    for index, step in enumerate(recipe.steps):
        yield from _named(f"steps.{index}.dataset", step.dataset)
        for criterion, label in step.resample.label.items() if step.resample is not None else ():
            yield from _named(f"steps.{index}.resample.label.{criterion}", label)
    tokenizer = recipe.base.tokenizer
    if tokenizer is not None and not isinstance(tokenizer, str):
        yield from _named("base.tokenizer.datasets", tokenizer.datasets)
    for criterion, judge in recipe.evaluate.judges.items():
        yield from _named(f"evaluate.judges.{criterion}.dataset", judge.dataset)


def _named(where: str, dataset: str | Names | SampledSpec | ScorePairs | None) -> Iterator[tuple[str, str]]:
    if isinstance(dataset, SampledSpec | ScorePairs):
        if dataset.prompts:
            yield f"{where}.prompts", dataset.prompts
    else:
        yield from ((where, name) for name in names_of(dataset))


def names_of(value: str | Names | None) -> Names:
    """Return the data sources that a training names."""
    return () if value is None else (value,) if isinstance(value, str) else value
