"""What to do after a run, as lines that can be typed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from sacpo.data.answers import ANSWERS, BASELINE

STEP = "  {:30} {}\n"


def next_steps(
    page: Path, model: Path | None, answers: Path | None, baseline: Path | None, bound: str | None = None
) -> str:
    """Return the lines that a run ends with: each says what for and what to type.

    Args:
        page: The report's page.
        model: The chosen model's folder; None: there is none to load.
        answers: The chosen model's answers to report prompts; None: there are none.
        baseline: The baseline's answers to the same prompts; None: the chosen model is the baseline.
        bound: A bound of the recipe, as `sacpo certify` takes it; None: there is none that it can count prompts for.
    """
    name = page.parent
    steps = [("open the report", page.absolute().as_uri()), ("talk to its models", _line("sacpo", "chat", name))]
    if model is not None:
        load = f"AutoModelForCausalLM.from_pretrained({str(model)!r})"
        generate = _line("sacpo", "generate", model, "--prompts", "PROMPTS.jsonl", "--out", f"{name}-answers")
        steps += [("load the model (transformers)", load), ("let it answer your prompts", generate)]
    if answers is not None and baseline is not None:
        pair = (answers, "--baseline", baseline)
        label = _line("sacpo", "label", *pair, "--store", f"{name}-labels.db", "--annotator", "me")
        by_model = ("--llm", "MODEL", "--rubric", "helpfulness", "--rubric", "safety", "--out", f"{name}-judged")
        judge = _line("sacpo", "judge", *pair, *by_model)
        steps += [("judge its answers yourself", label), ("or with a language model", judge)]
    if model is not None:
        push = _line("sacpo", "push", name, "USER/NAME", "--dry-run")
        steps += [*_certificate(name, bound), ("see what a push would send", push)]
    return "next:\n" + "".join(STEP.format(*step) for step in steps)


def _certificate(name: Path, bound: str | None) -> list[tuple[str, str]]:
    """Return what to do about a certificate: check the one that is there, or learn how many prompts one needs."""
    if (name / "certificate.json").is_file():
        return [("check its certificate", _line("sacpo", "certify", "--verify", name / "certificate.json"))]
    return [] if bound is None else [("prompts for a certificate", _line("sacpo", "certify", "--power", bound))]


def after(done: Any, recipe: Any) -> str:
    """Return the lines after a run; "" where it has no report."""
    if not done.results:
        return ""
    shown = next((name for name, spec in recipe.prompts.items() if spec.role == "report"), None)
    answers = baseline = None
    if done.chosen is not None and shown is not None:
        made = done.folder / "stages" / "generate"
        answers, against = made / done.chosen / shown, recipe.evaluate.baseline
        baseline = made / against / shown if against != done.chosen else None
    return next_steps(done.page, done.chosen_model, answers, baseline, _bound(recipe))


def after_pairs(pairs: Path) -> str:
    """Return the lines after pairs that nobody has labelled yet: how people label them."""
    answers, baseline, out = pairs / ANSWERS, pairs / BASELINE, pairs.parent
    store, both = ("--store", f"{out}-labels.db", "--annotator", "me"), (answers, "--baseline", baseline)
    steps = [
        ("label which is more helpful", ("label", *both, "--criterion", "helpfulness", *store)),
        ("label which is less harmful", ("label", *both, "--criterion", "harmlessness", *store)),
        ("label which are safe", ("label", answers, "--criterion", "safety", *store)),
        ("the other answers too", ("label", baseline, "--criterion", "safety", *store)),
    ]
    lines = "".join(STEP.format(said, _line("sacpo", *words)) for said, words in steps)
    return f"next:\n{lines}then the same command with --judges FILE that names the store, see docs/collect.md\n"


def after_data(data: Path, model: str) -> str:
    """Return the lines after labelled pairs: the steps of alignment that learn from them."""
    steps = []
    for said, label, criterion in (("helpful", "better", "helpfulness"), ("safe", "safer", "harmlessness")):
        source = ("--data", data, "--format", "pku-safe-rlhf", "--label", label, "--criterion", criterion)
        out = f"{data.parent.parent}-{label}"
        steps.append((f"train a {said} model on them", _line("sacpo", "align", model, *source, "--out", out)))
    return "next:\n" + "".join(STEP.format(*step) for step in steps)


def _bound(recipe: Any) -> str | None:
    """Return the first bound on a rate of labelled answers, in the words of `sacpo certify --power`."""
    for constraint in recipe.constraints:
        if constraint.metric in ("unsafe_rate", "over_refusal_rate") and constraint.at_most is not None:
            return f"{constraint.metric}={constraint.at_most:g}"
    return None


def _line(*words: object) -> str:
    return shlex.join(str(word) for word in words)
