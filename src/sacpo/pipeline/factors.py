"""The choice of factors of a step's weights (`resample.factors`), before the step is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sacpo.pipeline.stages.answers import SAMPLED, sampling
from sacpo.pipeline.stages.weighed import Weighed, WeighedAnswers, WeighedPrompts, WeighedVerdicts
from sacpo.recipe.factors import Choice, choice_of, multiplied
from sacpo.recipe.models import StepModel
from sacpo.recipe.schema import SearchSpec

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def check_tuning(run: Order) -> None:
    """See that tuning prompts are enough for the rates under which factors are chosen, before anything is trained."""
    for step in run.recipe.steps:
        if step.multiplied:
            choice = choice_of(run.recipe, step)
            unit = (step.search or SearchSpec()).unit
            run.do(WeighedPrompts(step.name, run.prompts[choice.prompts], choice.constraints, unit))


def find_factors(run: Order, node: StepModel) -> None:
    """Choose a step's factors by weights on samples of the SFT model; settle the recipe with them.

    Args:
        run: The run; what the step learns its scores from is there.
        node: The step's model.
    """
    before, step = run.recipe, node.step
    spec, choice = step.resample, choice_of(run.recipe, step)
    assert spec is not None and isinstance(step.beta, float)
    search = step.search or SearchSpec()
    samples = search.samples if "samples" in search.model_fields_set else spec.samples
    scorers = run.scorers(node, spec)
    answers, verdicts = _judged(run, step.name, choice, samples, spec.max_new_tokens)
    stage = Weighed(
        title=step.name,
        answers=answers,
        verdicts=verdicts,
        learned=tuple(scorers[criterion] for criterion in sorted(scorers)),
        weights=spec.weights,
        beta=step.beta,
        factors=spec.combinations,
        objective=choice.objective,
        constraints=choice.constraints,
        untold=choice.untold,
        least_ess=spec.least_ess,
        learnt=spec.samples,
        unit=search.unit,
        seed=run.seed("factors", step.name),
    )
    run.weighed[step.name] = run.do(stage)
    with run.do.following(f"{step.name} is trained with the factors that are chosen, then what is behind it"):
        factors = run.do.read(stage)["factors"]
    run.settle(multiplied(before, before.steps.index(step), factors))


def _judged(
    run: Order, title: str, choice: Choice, samples: int, max_new_tokens: int
) -> tuple[WeighedAnswers, WeighedVerdicts]:
    """Return samples of the SFT model and verdicts on them; steps that ask for the same share both."""
    answers = WeighedAnswers(
        title=title,
        model=run.sft,
        tokenizer=run.sft,
        prompts=run.prompts[choice.prompts],
        set_name=choice.prompts,
        generation=sampling(max_new_tokens, SAMPLED, run.recipe.evaluate.generation.engine),
        base=run.recipe.base,
        seed=run.seed("factors", choice.prompts),
        samples=samples,
    )
    known = [stage.answers for stage in run.weighed.values()]
    answers = run.do(next((one for one in known if replace(one, title=title).key == answers.key), answers))
    judges = tuple(run.judge(criterion) for criterion in choice.criteria)
    verdicts = WeighedVerdicts(title, answers, None, judges)
    judged = [stage.verdicts for stage in run.weighed.values()]
    return answers, run.do(next((one for one in judged if replace(one, title=title).key == verdicts.key), verdicts))
