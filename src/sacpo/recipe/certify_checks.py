"""Checks of the section `certify`, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator

from sacpo.errors import RecipeError
from sacpo.recipe.checks import check_measured
from sacpo.recipe.explain import did_you_mean, known
from sacpo.recipe.judge_checks import check_oracle
from sacpo.recipe.metrics import CERTIFIABLE, METRICS, SCORES, metric_key
from sacpo.recipe.models import model_graph
from sacpo.recipe.schema import SFT, CertifySpec, ConstraintSpec, Recipe


def check_certify(recipe: Recipe) -> None:
    """Check constraints among themselves, and what is to be certified.

    Raises:
        RecipeError: Constraints contradict each other, or the recipe has nothing that can be certified.
    """
    _check_consistent(recipe)
    spec = recipe.certify
    if spec is None:
        _check_no_range(recipe)
        return
    if not recipe.constraints or recipe.objective is None:
        raise RecipeError(
            "nothing is to be certified: a certificate is of constraints, for the model that is chosen under them",
            where="certify",
            value=f"{len(recipe.constraints)} constraints, {'an' if recipe.objective else 'no'} objective",
            do="add constraints and an objective, or leave 'certify' out",
        )
    sealed = [name for name, prompts in recipe.prompts.items() if prompts.role == "certification"]
    if spec.prompts not in sealed:
        raise RecipeError(
            "a certificate needs a prompt set of role certification, which nothing else sees",
            where="certify.prompts",
            value=spec.prompts,
            allowed=sealed or "none is defined",
            do=did_you_mean(spec.prompts, sealed, "define one with role: certification"),
        )
    if recipe.theory is not None and recipe.theory.prompts == spec.prompts:
        raise RecipeError(
            "theory samples every model, and a certificate's prompts are answered by its candidates alone",
            where="theory.prompts",
            value=spec.prompts,
            allowed=[name for name in recipe.prompts if name not in sealed] or "none is defined",
            do="name another prompt set",
        )
    for index, bound in enumerate(recipe.constraints):
        _check_bound(f"constraints.{index}", bound)
        check_measured(recipe, f"constraints.{index}", bound.metric, bound.criterion, spec.prompts)
    _check_tails(recipe, spec)
    _check_labels(recipe)
    for index, name in _named(spec.candidates):
        searched = [merge.name for merge in recipe.merge if merge.q == "auto"]
        own = recipe.evaluate.models or model_graph(recipe)
        evaluated = [*dict.fromkeys([SFT, recipe.evaluate.baseline, *own, *searched])]
        if name not in evaluated:
            raise RecipeError(
                "a candidate is no model that is evaluated",
                where=f"certify.candidates.{index}",
                value=name,
                allowed=evaluated,
                do=did_you_mean(name, evaluated, "name another"),
            )


def _named(candidates: str | tuple[str, ...]) -> Iterator[tuple[int, str]]:
    return iter(()) if isinstance(candidates, str) else enumerate(candidates)


def _check_no_range(recipe: Recipe) -> None:
    for index, bound in enumerate(recipe.constraints):
        if bound.range is not None:
            raise RecipeError(
                "a range is for a certificate, and the recipe has no section 'certify'",
                where=f"constraints.{index}.range",
                value=list(bound.range),
                do="leave it out, or add 'certify'",
            )


def _check_tails(recipe: Recipe, spec: CertifySpec) -> None:
    tuning = [name for name, prompts in recipe.prompts.items() if prompts.role == "tuning"]
    for index, bound in enumerate(spec.tails):
        where = f"certify.tails.{index}"
        known("prompt set of role tuning", bound.prompts, tuning, f"{where}.prompts")
        known("judge", bound.criterion, recipe.evaluate.judges, f"{where}.criterion")
        for prompts in (bound.prompts, spec.prompts):
            check_measured(recipe, where, bound.metric, bound.criterion, prompts)
        if any((one.criterion, one.tail) == (bound.criterion, bound.tail) for one in spec.tails[:index]):
            raise RecipeError("a bound is given twice", where=where, value=bound.criterion, do="leave one of them out")


def _check_labels(recipe: Recipe) -> None:
    if recipe.certify is None or recipe.certify.labels is None:
        return
    labels = recipe.certify.labels
    for criterion, judge in labels.judges.items():
        where = f"certify.labels.judges.{criterion}"
        if criterion not in recipe.evaluate.judges:
            raise RecipeError(
                "a judge of true labels stands beside a judge of the same criterion",
                where=where,
                value=criterion,
                allowed=[*recipe.evaluate.judges],
                do=did_you_mean(criterion, recipe.evaluate.judges, "name its criterion"),
            )
        if judge.kind == "llm" or judge.dataset is not None:
            raise RecipeError(
                "true labels in a recipe come from an oracle, a refusal detector or a reward model",
                where=f"{where}.kind",
                value=judge.kind,
                do="label answers with 'sacpo label' or 'sacpo judge', and give them to 'sacpo certify --labels'",
            )
        if judge.prompts is not None:
            raise RecipeError(
                "true labels are of the certificate's answers, whatever prompt sets the judge names",
                where=f"{where}.prompts",
                value=[*judge.prompts],
                do="leave it out",
            )
        if judge.kind == "oracle":
            check_oracle(recipe, criterion, where)
    for index, bound in enumerate(recipe.constraints):
        needs = METRICS[bound.metric].needs
        if METRICS[bound.metric].by_criterion or bound.at_most is None or recipe.certify.tails:
            raise RecipeError(
                "labels correct upper bounds of rates only",
                where=f"constraints.{index}",
                value=bound.metric,
                allowed="unsafe_rate or over_refusal_rate, at_most",
                do="leave certify.labels out, or the constraint",
            )
        if not any(needs in judge.gives(name) for name, judge in labels.judges.items()):
            raise RecipeError(
                f"no judge of true labels says what '{bound.metric}' needs",
                where="certify.labels.judges",
                value=[*labels.judges],
                do="add a judge that does: harmlessness for unsafe_rate, refusal for over_refusal_rate",
            )


def _check_bound(where: str, bound: ConstraintSpec) -> None:
    if bound.metric not in CERTIFIABLE:
        raise RecipeError(
            "this metric cannot be certified: only means of verdicts with a known range can",
            where=f"{where}.metric",
            value=bound.metric,
            allowed=CERTIFIABLE,
            do="bound one of these, or leave 'certify' out",
        )
    if bound.metric in SCORES:
        if bound.range is None:
            raise RecipeError(
                "a mean of scores is certified within a range that is declared before they are seen",
                where=f"{where}.range",
                do="declare the least and the greatest score that the judge can give, as range: [-10, 10]",
            )
        return
    side, value = ("at_most", bound.at_most) if bound.at_most is not None else ("at_least", bound.at_least)
    assert value is not None
    if not 0 < value < 1:
        raise RecipeError(
            "a bound that can be certified lies between 0 and 1",
            where=f"{where}.{side}",
            value=value,
            allowed="above 0 and below 1",
            do="give a fraction: 0.05 for 5 %; no number of prompts shows that something never happens",
        )


def _check_consistent(recipe: Recipe) -> None:
    """Refuse bounds that no value meets, such as at most 0.2 and at least 0.5."""
    lower: dict[tuple[str, str], tuple[int, float]] = {}
    for index, bound in enumerate(recipe.constraints):
        key = metric_key(bound.metric, bound.criterion)
        if bound.at_least is not None and lower.get((key, bound.prompts), (0, -float("inf")))[1] < bound.at_least:
            lower[key, bound.prompts] = index, bound.at_least
    for index, bound in enumerate(recipe.constraints):
        key = metric_key(bound.metric, bound.criterion)
        other, least = lower.get((key, bound.prompts), (0, -float("inf")))
        if bound.at_most is not None and bound.at_most < least:
            raise RecipeError(
                f"two constraints contradict each other: no {key} is at most {bound.at_most:g} and at least {least:g}",
                where=f"constraints.{index}.at_most",
                value=bound.at_most,
                allowed=f"{least:g} or more, or a lower constraints.{other}.at_least",
                do="change one of them",
            )
