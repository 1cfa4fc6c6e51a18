"""The search for a step's strength (`beta: auto`): forecast, train, measure on tuning prompts, correct, stop.

Every training, sample and measure is an ordinary stage, so a killed search goes on where it was, and a dry run tells
how far results are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sacpo.merge.source import Checkpoint
from sacpo.pipeline.dual import find_weight
from sacpo.pipeline.factors import find_factors
from sacpo.pipeline.path import measured_on
from sacpo.pipeline.stages.answers import SAMPLED, sampling
from sacpo.pipeline.stages.drawn import Drawn, JudgedDrawn, LogRatios
from sacpo.pipeline.stages.learned import HeadScores
from sacpo.pipeline.stages.plan import LEARNED, Forecast, Found, Trial, tried
from sacpo.recipe.auto import constraints_of, score_of, scored_by, settled
from sacpo.recipe.models import StepModel
from sacpo.recipe.references import names_of
from sacpo.recipe.schema import Recipe, SampledSpec, SearchSpec, StepSpec
from sacpo.select.strength import first_strength, kept, next_strength
from sacpo.theory.frontier import rounded
from sacpo.theory.judged import Score

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def find_unknown(run: Order, node: StepModel) -> None:
    """Find what a step leaves to the run: its strength, the weight of a judge, or factors of weights."""
    if node.step.dual is not None:
        find_weight(run, node)
    elif node.step.multiplied:
        find_factors(run, node)
    else:
        run.found[node.step.name] = find_strength(run, node)


def find_strength(run: Order, node: StepModel) -> Found:
    """Train a step at one strength after the other until its constraints are met; settle the recipe with them.

    Args:
        run: The run; the model that the step starts from is trained.
        node: The step's model, whose strength is not known.
    """
    before, step = run.recipe, node.step
    index = before.steps.index(step)
    search = step.search or SearchSpec()
    constraints = tuple(constraints_of(before, step))
    plan = run.do(_forecast(run, node))
    with run.do.following(f"{step.name} is trained at up to {search.trainings} strengths, and each is measured"):
        start = first_strength(run.do.read(plan), _strength_before(run, node))
    strength: float | None = rounded(search.start or start)
    trials: list[Trial] = []
    while strength is not None:
        strengths = (*(trial.beta for trial in trials), strength)
        run.settle(settled(before, index, strengths, strength))
        name = f"{step.name}@{strength:g}"
        run.train([name])
        asked = measured_on(run, name, constraints)
        trials.append(run.do(Trial(name, constraints, **asked, kl={}, unit=search.unit, beta=strength)))
        left = search.trainings - len(trials)
        said = f"up to {left} more strengths of {step.name}, then everything behind it" if left else "what is behind it"
        with run.do.following(said):
            measured = tried([run.do.read(one) for one in trials])
        strength = next_strength(measured, left)
    run.settle(settled(before, index, tuple(one.beta for one in measured), kept(measured).beta))
    return run.do(Found(step.name, plan, tuple(trials), search.start))


def _strength_before(run: Order, node: StepModel) -> float | None:
    parent = run.nodes[node.parent]
    return parent.beta if isinstance(parent, StepModel) else None


def _forecast(run: Order, node: StepModel) -> Forecast:
    """Return the forecast from the step's start, corrected by the step before where a score tells what that raised."""
    recipe, step = run.recipe, node.step
    search = step.search or SearchSpec()
    constraints = tuple(constraints_of(recipe, step))
    prompts, safety = constraints[0].prompts, _score(recipe, step)
    assert safety is not None
    learned = [*safety.weights] == [LEARNED]
    parent = run.nodes[node.parent]
    reward, strength, origin = None, None, None
    if isinstance(parent, StepModel) and parent.beta is not None:
        earlier = _score(recipe, parent.step)
        if earlier is not None and not earlier.labels and LEARNED not in earlier.weights:
            reward, strength, origin = earlier, parent.beta, parent.parent
    criteria = scored_by(
        recipe, step, prompts, *(() if learned else safety.weights), *(reward.weights if reward else ())
    )
    return Forecast(
        title=step.name,
        model=node.parent,
        judged=_judged(run, node.parent, prompts, search.samples, criteria),
        safety=safety,
        reward=reward,
        strength=strength,
        before=None if origin is None else _judged(run, origin, prompts, search.samples, criteria),
        constraints=constraints,
        unit=search.unit,
        seed=run.seed("plan", step.name),
        learned=_learned(run, node, prompts, search.samples) if learned else None,
        ratios=None if learned or origin is None else _ratios(run, node.parent, origin, prompts, search.samples),
    )


def _ratios(run: Order, model: str, before: str, prompts: str, samples: int) -> LogRatios:
    """Let samples of the model before count too: it may give answers that the step needs and its start has lost."""
    return run.do(LogRatios(model, *(_drawn(run, name, prompts, samples) for name in (model, before))))


def _learned(run: Order, node: StepModel, prompts: str, samples: int) -> HeadScores:
    """Learn a score of the samples from the step's own pairs."""
    step = node.step
    assert not isinstance(step.dataset, SampledSpec)
    records = tuple(run.data[name] for name in names_of(step.dataset))
    drawn = _drawn(run, node.parent, prompts, samples)
    return run.do(HeadScores(step.name, run.sft, run.recipe.base, records, step.max_length, step.too_long, drawn))


def _score(recipe: Recipe, step: StepSpec) -> Score | None:
    found = score_of(recipe, step)
    return None if found is None else Score(found.weights or {LEARNED: 1.0}, found.scale, found.labels)


def _judged(run: Order, model: str, prompts: str, samples: int, criteria: list[str]) -> JudgedDrawn:
    """Draw samples of a model and judge each alone."""
    judges = tuple(run.judge(criterion) for criterion in criteria)
    return run.do(JudgedDrawn(f"{model}/{prompts}", _drawn(run, model, prompts, samples), None, judges))


def _drawn(run: Order, model: str, prompts: str, samples: int) -> Drawn:
    source, spec = run.models[model], run.recipe.evaluate.generation
    assert isinstance(source, Checkpoint)
    stage = Drawn(
        title=model,
        model=source,
        tokenizer=run.sft,
        prompts=run.prompts[prompts],
        set_name=prompts,
        generation=sampling(spec.max_new_tokens, SAMPLED, spec.engine),
        base=run.recipe.base,
        seed=run.seed("plan", prompts),
        samples=samples,
    )
    return run.do(stage)
