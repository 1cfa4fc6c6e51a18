"""Which weights a training gives in the place of its last ones, and what that needs."""

from __future__ import annotations

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping
from sacpo.recipe.head_rate import check_head_rate
from sacpo.recipe.schema import Recipe, SampledSpec, TrainingSpec
from sacpo.recipe.section import Names

HELD_OUT = "give a data source of this training 'holdout': the share of its prompts whose pairs are held out"


def evaluates(options: JsonMapping) -> bool:
    """Return whether a training computes its loss on held-out pairs."""
    return options.get("eval_strategy") == "steps"


def check_options(options: JsonMapping, where: str) -> None:
    """Check that a training's options on its weights go together.

    Args:
        options: All options of the training.
        where: The training, for messages.

    Raises:
        RecipeError: One needs another that is missing, or two exclude each other.
    """
    best = options.get("load_best_model_at_end")
    for name in ("eval_steps", "load_best_model_at_end"):
        if options.get(name) and not evaluates(options):
            raise _needs(name, options, where, "eval_strategy: steps")
    for name in ("early_stopping_patience", "metric_for_best_model"):
        if options.get(name) and not best:
            raise _needs(name, options, where, "load_best_model_at_end: true")
    if options.get("average_last") and best:
        raise RecipeError(
            "a training gives the mean of its last weights or the best of them, not both",
            where=f"{where}, average_last",
            value=options["average_last"],
            do="leave out average_last or load_best_model_at_end",
        )
    given = next((name for name in ("load_best_model_at_end", "average_last") if options.get(name)), None)
    if given and options.get("deepspeed"):
        raise RecipeError(
            "weights are not kept aside under DeepSpeed, which splits them in its own way",
            where=f"{where}, {given}",
            value=options[given],
            do=f"leave out {given} or deepspeed; fsdp goes with both",
        )


def check_heldout(options: JsonMapping, where: str, *, some: bool) -> None:
    """Check that a training that evaluates has held-out pairs.

    Raises:
        RecipeError: It has none.
    """
    if evaluates(options) and not some:
        raise RecipeError(
            "there are no held-out pairs to compute the loss on",
            where=f"{where}, eval_strategy",
            value="steps",
            do=HELD_OUT,
        )


def refuse_evaluation(options: JsonMapping, where: str, what: str) -> None:
    """Refuse held-out losses of a training that has no held-out records.

    Raises:
        RecipeError: They are asked for.
    """
    if evaluates(options):
        raise RecipeError(
            f"{what}, so there is no held-out loss",
            where=f"{where}, eval_strategy",
            value="steps",
            do="give eval_strategy and what belongs to it to the 'training' of steps on preferences",
        )


def refuse_torn_lists(options: JsonMapping, where: str) -> None:
    """Refuse batches in which answers to one prompt hardly ever meet.

    Raises:
        RecipeError: Batches hold one answer, or answers of equal length.
    """
    room = "give room for the samples of a prompt or more"
    strange = (
        ("train_sampling_strategy", "group_by_length", "leave it out"),
        ("per_device_train_batch_size", 1, room),
    )
    for name, value, do in strange:
        if options.get(name) == value:
            raise RecipeError(
                "the listwise loss compares answers to one prompt, which do not meet in such batches",
                where=f"{where}, {name}",
                value=value,
                do=do,
            )


def check_kept_weights(recipe: Recipe) -> None:
    """Check every training of a recipe before any work.

    Raises:
        RecipeError: See `check_options` and `check_heldout`.
    """
    if recipe.sft is not None:
        options = _options(recipe, recipe.sft.training)
        check_options(options, "sft.training")
        check_head_rate(options, "sft.training", recipe.sft.lora)
        refuse_evaluation(options, "sft.training", "SFT has no held-out demonstrations")
    uses = [(f"steps.{i}", step.dataset, step.training, step.lora) for i, step in enumerate(recipe.steps)]
    judges = recipe.evaluate.judges.items()
    uses += [(f"evaluate.judges.{name}", spec.dataset, spec.training, None) for name, spec in judges if spec.dataset]
    resampling = {f"steps.{i}" for i, step in enumerate(recipe.steps) if step.algorithm == "rwr"}
    listwise = {f"steps.{i}" for i, step in enumerate(recipe.steps) if step.listwise}
    for place, dataset, training, lora in uses:
        options, where = _options(recipe, training), f"{place}.training"
        check_options(options, where)
        check_head_rate(options, where, lora)
        if place in resampling:
            refuse_evaluation(options, where, "RWR resamples answers and holds none out")
        if place in listwise:
            refuse_torn_lists(options, where)
        check_heldout(options, where, some=holds_out(recipe, dataset))


def holds_out(recipe: Recipe, dataset: str | Names | SampledSpec | None) -> bool:
    """Return whether a training's data sources, or the one whose prompts it samples pairs for, hold records out."""
    named = dataset.prompts if isinstance(dataset, SampledSpec) else dataset
    names = (named,) if isinstance(named, str) else named or ()
    return any(recipe.data[name].holdout > 0 for name in names)


def _options(recipe: Recipe, own: TrainingSpec) -> JsonMapping:
    return {**recipe.training.options(), **own.options()}


def _needs(name: str, options: JsonMapping, where: str, what: str) -> RecipeError:
    return RecipeError(
        f"{name} needs {what}", where=f"{where}, {name}", value=options[name], do=f"add '{what}', or leave it out"
    )
