"""Where a figure stands in the results, and how numbers and untrusted texts are written."""

from __future__ import annotations

from typing import Any

from sacpo.recipe.metrics import METRICS
from sacpo.report.part import Measured
from sacpo.report.results import Constraint, ModelInfo, Results
from sacpo.system.visible import visible


def axes(results: Results) -> tuple[str, str]:
    """Return the criteria of the horizontal and the vertical axis."""
    report = results.recipe.get("report") or {}
    return report.get("x") or "helpfulness", report.get("y") or "harmlessness"


def report_sets(results: Results) -> list[str]:
    """Return the prompt sets whose figures are headlines, in the recipe's order."""
    return [name for name, prompts in results.prompts.items() if prompts.role == "report"]


def set_of(results: Results, key: str) -> str | None:
    """Return the report set that a metric is read from.

    The recipe may name it (`report.prompts`). Else it is the one that counts most items, the first one on a tie; for
    the unsafe rate, sets with restricted prompts come before others.
    """
    named = ((results.recipe.get("report") or {}).get("prompts") or {}).get(key)
    counted = {
        name: max((_n(sets[name].metrics.get(key)) for sets in results.measures.values() if name in sets), default=0)
        for name in report_sets(results)
        if named in (None, name)
    }
    asked = key == "unsafe_rate"
    return max(
        (name for name in counted if counted[name]),
        key=lambda name: (asked and results.prompts[name].kinds.get("restricted", 0) > 0, counted[name]),
        default=None,
    )


def measure_of(results: Results, model: str, key: str) -> Measured | None:
    """Return a model's figure on report prompts; None where it was not measured."""
    name = set_of(results, key)
    if name is None or name not in results.measures.get(model, {}):
        return None
    found = results.measures[model][name].metrics.get(key)
    return found if found is not None and found.value is not None else None


def known(measured: Measured | None) -> tuple[float, float, float] | None:
    """Return value, low and high where all three are known."""
    if measured is None or measured.value is None or measured.low is None or measured.high is None:
        return None
    return measured.value, measured.low, measured.high


def shown_model(results: Results) -> str | None:
    """Return the model that the report is about: the chosen one, else the nearest."""
    if results.selection is None:
        return None
    return results.selection.chosen or results.selection.nearest


def lines(results: Results) -> dict[str, list[str]]:
    """Return the models of each line in their order of strength or q; the base has none."""
    found: dict[str, list[str]] = {}
    for name, info in results.models.items():
        if info.kind != "base":
            found.setdefault(info.line or name, []).append(name)
    return found


def chain(results: Results, model: str) -> list[ModelInfo]:
    """Return the steps from the SFT model to this one, in order; a merge ends the way back."""
    steps: list[ModelInfo] = []
    seen: set[str] = set()
    while model in results.models and model not in seen and results.models[model].kind == "step":
        seen.add(model)
        steps.append(results.models[model])
        model = steps[-1].parents[0] if steps[-1].parents else ""
    return steps[::-1]


def ancestors(results: Results, model: str) -> set[str]:
    """Return every model that this one was made from, directly or not."""
    found: set[str] = set()
    waiting = [*results.models[model].parents] if model in results.models else []
    while waiting:
        name = waiting.pop()
        if name not in found and name in results.models:
            found.add(name)
            waiting += results.models[name].parents
    return found


def made_by(results: Results, model: str) -> str:
    """Say in a few words how a model was made."""
    info = results.models[model]
    if info.kind == "base":
        return "supervised fine-tuning" if results.recipe.get("sft") else "the base model"
    if info.kind == "merge":
        words = {"linear": "weights averaged", "task-vectors": "task vectors added", "token-level": "logits mixed"}
        return f"{words.get(info.method or '', info.method or 'merged')}, {weights_words(info)}: " + " with ".join(
            info.parents
        )
    return " → ".join(map(_step_words, chain(results, model)))


def _step_words(step: ModelInfo) -> str:
    words = f"{(step.algorithm or '').upper()}({step.criterion}, {number(step.beta)})"
    return words if step.round is None else f"{words}, round {step.round}"


def weights_words(info: ModelInfo) -> str:
    """Write a merge's weights: "q = 0.5", or "weights 0.5, 0.3, 0.2" of more than two models."""
    if info.q is not None or not info.weights:
        return f"q = {number(info.q)}"
    return f"weights {', '.join(number(weight) for weight in info.weights)}"


def label(key: str) -> str:
    """Return a metric's name in words."""
    metric, _, criterion = key.partition("/")
    if metric not in METRICS:
        return key.replace("_", " ")
    known = METRICS[metric]
    return known.words.format(criterion) if known.by_criterion else f"{criterion} {known.words}".strip()


def is_rate(key: str) -> bool:
    """Tell whether a metric is a fraction in [0, 1], shown in per cent."""
    known = METRICS.get(key.partition("/")[0])
    return known is not None and known.rate


def number(value: float | None, key: str = "") -> str:
    """Write a figure: rates in per cent, others with three significant digits."""
    if value is None:
        return "–"
    if is_rate(key):
        return f"{100 * value:.1f} %"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}".replace("-", "−")


def interval(measured: Measured | None, key: str = "") -> str:
    """Write the interval's ends, such as "54.1 to 62.0 %"; "" where there is none."""
    if measured is None or measured.low is None or measured.high is None:
        return ""
    if is_rate(key):
        return f"{100 * measured.low:.1f} to {100 * measured.high:.1f} %"
    return f"{number(measured.low)} to {number(measured.high)}"


def with_interval(measured: Measured | None, key: str = "") -> str:
    """Write a figure with its interval in brackets."""
    if measured is None:
        return "not measured"
    ends = interval(measured, key)
    return f"{number(measured.value, key)} ({ends})" if ends else number(measured.value, key)


def bound_words(constraint: Constraint) -> str:
    """Write a constraint, such as "unsafe answers at most 6.0 %"."""
    relation = "at most" if constraint.at_most is not None else "at least"
    return f"{label(constraint.key)} {relation} {as_given(constraint.bound, constraint.key)}"


def as_given(bound: float, key: str = "") -> str:
    """Write a bound like a figure, but with all its digits where that would round it to another bound."""
    exact = f"{100 * bound if is_rate(key) else bound:.10g}"
    short = f"{100 * bound:.1f}" if is_rate(key) else f"{bound:.0f}" if abs(bound) >= 100 else f"{bound:.3g}"
    if float(short) == float(exact):
        return number(bound, key)
    return f"{exact} %" if is_rate(key) else exact.replace("-", "−")


def plain(value: Any) -> Any:
    """Make every text inside a JSON-ready value `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _n(measured: Measured | None) -> int:
    return 0 if measured is None or measured.value is None else max(measured.n, 1)
