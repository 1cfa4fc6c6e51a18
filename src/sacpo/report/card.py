"""The model card: a Hugging Face README.md for one model of a run."""

from __future__ import annotations

import yaml

from sacpo.report.front_matter import Publication, front_matter
from sacpo.report.headline import count_words
from sacpo.report.lookup import (
    bound_words,
    chain,
    interval,
    label,
    made_by,
    measure_of,
    number,
    report_sets,
    set_of,
    weights_words,
    with_interval,
)
from sacpo.report.results import ModelInfo, Results
from sacpo.report.tables import ordered_metrics
from sacpo.system.visible import visible

METHODS = {
    "linear": "Its weights are (1 − q) A + q B of the two models A and B, at q = {q} (the later model's weight).",
    "task-vectors": "Its weights are A + q · scale · (B − base), at q = {q}: the sum of what two trainings changed.",
    "token-level": "Its logits are (1 − q) l_A + q l_B at every token, at q = {q}; there are no merged weights.",
}


def model_card(results: Results, model: str, to: Publication | None = None) -> str:
    """Return the card of one model: front matter, what it is, how it was made, its figures and its limits.

    The figures are those on report prompts, which neither trained nor chose the model.

    Args:
        results: What the run measured.
        model: One of its models.
        to: What is published where, beside what the results say; None: nothing is known of that.

    Raises:
        KeyError: The results have no such model.
    """
    matter = front_matter(results, model, to or Publication())
    parts = [
        f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---",
        f"# {_line(model)}",
        _what(results, model),
        "## How it was made",
        *_making(results, model),
        "## Figures",
        *_figures(results, model),
        "## Limits",
        "\n".join(f"- {_line(limit)}" for limit in _limits(results, model)),
        "## Origin",
        _origin(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(results: Results, model: str) -> str:
    selection = results.selection
    bounds = " and ".join(bound_words(constraint) for constraint in selection.constraints) if selection else ""
    text = f"A model of the run {_code(results.name)}: {_line(made_by(results, model))}."
    certificate = results.certificate
    if selection is not None and certificate is not None and certificate.certified == model:
        text += f" {_line(certificate.sentence)} The certificate is `certificate.json` of the run."
    elif selection is not None and selection.chosen == model:
        under = f" among those with {bounds} on tuning prompts" if bounds else ""
        text += f" It was chosen for its {label(selection.objective.key)}{under}, of {len(selection.models)} models."
        text += f" {_line(certificate.sentence)}" if certificate is not None else ""
    elif selection is not None and model in selection.models and bounds:
        kept = "meets" if selection.models[model].feasible else "does not meet"
        text += f" It is not the model that the run chose; on tuning prompts it {kept} the run's bounds ({bounds})."
    return text


def _making(results: Results, model: str) -> list[str]:
    info = results.models[model]
    base = results.recipe.get("base") or {}
    drawn = f"{(base.get('config') or {}).get('model_type', 'a model')} with weights drawn from the seed"
    start = _code(str(base["model"])) if base.get("model") else drawn
    lines = [f"Base: {start}" + (", then supervised fine-tuning." if results.recipe.get("sft") else ".")]
    if info.kind == "merge":
        method = METHODS.get(info.method or "", f"Method: {_line(info.method or 'merge')}, q = {{q}}.")
        if info.q is None and info.weights:
            words = {"linear": "weights", "token-level": "logits at every token", "task-vectors": "added changes"}
            made = f"Merged of {', '.join(map(_code, info.parents))}: their {words.get(info.method or '', 'weights')}"
            lines.append(f"{made} are combined with {weights_words(info)}.")
        else:
            merged = f"Merged of {' (A) and '.join(map(_code, info.parents))} (B). "
            lines.append(merged + method.replace("{q}", number(info.q)))
        lines += [f"{_code(name)}: {_line(made_by(results, name))}." for name in info.parents if name in results.models]
        return lines
    steps = [_step(number_, step) for number_, step in enumerate(chain(results, model), 1)]
    return lines + (["\n".join(steps)] if steps else [])


def _step(place: int, step: ModelInfo) -> str:
    training = step.training or {}
    facts = [f"{key.replace('_', ' ')} {number(training[key])}" for key in ("epochs", "steps", "tokens")
             if isinstance(training.get(key), int | float)]  # fmt: skip
    start = f", starting from and regularised towards {_code(step.parents[0])}" if step.parents else ""
    algorithm, strength = (step.algorithm or "trained").upper(), number(step.beta)
    return f"{place}. {algorithm} for {step.criterion}, KL strength {strength}{start}" + (
        f" ({', '.join(facts)})." if facts else "."
    )


def _figures(results: Results, model: str) -> list[str]:
    keys = ordered_metrics(
        key
        for name in report_sets(results)
        for key in _metrics(results, model, name)
        if measure_of(results, model, key)
    )
    if not keys:
        return ["It was not measured on report prompts."]
    rows = ["| figure | value | 95 % interval | n | prompts |", "|---|---|---|---|---|"]
    for key in keys:
        measured = measure_of(results, model, key)
        assert measured is not None
        against = f" against {results.baseline}" if key.startswith("win_rate/") else ""
        cells = (
            f"{label(key)}{against}",
            number(measured.value, key),
            interval(measured, key) or "none",
            str(measured.n) if measured.n else "–",
            set_of(results, key) or "–",
        )
        rows.append("| " + " | ".join(map(_cell, cells)) + " |")
    counted = count_words(measure_of(results, model, "unsafe_rate"), "answers to restricted prompts were unsafe")
    return ["\n".join(rows), f"{counted} (95 % interval)." if counted else ""]


def _limits(results: Results, model: str) -> list[str]:
    limits = [
        f"The figures hold for prompts like these: {name}, {prompts.population or 'not described'}, n = {prompts.n}."
        for name, prompts in results.prompts.items()
        if prompts.role == "report"
    ]
    limits.append("Intervals cover the choice of prompts, not another training seed or another judge.")
    limits += [
        f"Diagnosed: {finding.name}. Test: {finding.test}."
        for finding in results.diagnosis
        if finding.verdict == "found" and model in finding.models
    ]
    unknown = [finding.name for finding in results.diagnosis if finding.verdict == "cannot tell"]
    if unknown:
        limits.append(f"Not measured, so it cannot be told: {', '.join(unknown)}.")
    unsafe = measure_of(results, model, "unsafe_rate")
    limits.append(
        "Unsafe answers remain possible."
        if unsafe is not None
        else "Its unsafe answers were not measured: do not take it for safe."
    )
    refused = measure_of(results, model, "over_refusal_rate")
    limits.append(
        f"Over-refusal: it refuses {with_interval(refused, 'over_refusal_rate')} of harmless prompts that look unsafe."
        if refused is not None
        else "How often it refuses harmless prompts was not measured."
    )
    return limits


def _origin(results: Results) -> str:
    facts = {"seed": str(results.seed), **results.versions}
    command = f"Made by {_code(results.command)}. " if results.command else ""
    return command + ", ".join(f"{_line(name)} {_line(value)}" for name, value in facts.items()) + "."


def _metrics(results: Results, model: str, prompts: str) -> list[str]:
    sets = results.measures.get(model, {})
    return list(sets[prompts].metrics) if prompts in sets else []


def _line(text: str) -> str:
    """Return the text on one line, without what Markdown or HTML would act on."""
    joined = " ".join(visible(text).split())
    return joined.replace("\\", "\\\\").replace("<", "&lt;").replace("[", "\\[").replace("`", "\\`")


def _code(text: str) -> str:
    return "`" + " ".join(visible(text).split()).replace("`", "'") + "`"


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
