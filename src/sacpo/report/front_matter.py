"""The front matter of a model card: the fields that the hub reads.

Source: the hub's specification of model cards, with `model-index` for figures and `base_model_relation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sacpo.recipe.metrics import METRICS
from sacpo.report.lookup import ancestors, label, measure_of, report_sets, set_of
from sacpo.report.results import Results
from sacpo.report.tables import ordered_metrics
from sacpo.system.visible import visible

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_DATA = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/[\w./-]+)?(?::[\w.-]+)?")
TASK = {"type": "text-generation", "name": "Text Generation"}
DIGITS = 6
Relation = Literal["adapter", "finetune", "merge"]


@dataclass(frozen=True)
class Publication:
    """What a card says that the results do not.

    Attributes:
        repository: The repository's id, USER/NAME; "": the card is not of the hub (yet).
        license: Fields about the licence, `license` first; empty: unknown.
        base: Hub id of the model that was trained, where the recipe names a folder.
        adapter: What is published is an adapter on the base, not whole weights.
    """

    repository: str = ""
    license: dict[str, str] = field(default_factory=dict)
    base: str | None = None
    adapter: bool = False


def front_matter(results: Results, model: str, to: Publication) -> dict[str, Any]:
    """Return the fields of a model's card, in order."""
    info = results.models[model]
    made_from = [results.models[name] for name in sorted(ancestors(results, model))]
    algorithms = sorted({step.algorithm for step in [info, *made_from] if step.algorithm})
    merges = ["merge"] if info.kind == "merge" else []
    base = to.base or _hub_model((results.recipe.get("base") or {}).get("model"))
    found: dict[str, Any] = {
        **to.license,
        "library_name": "peft" if to.adapter else "transformers",
        "pipeline_tag": "text-generation",
    }
    if base is not None:
        found |= {"base_model": base, "base_model_relation": relation(info.kind == "merge", to.adapter)}
    if datasets := data_sets(results, model):
        found["datasets"] = datasets
    found["tags"] = ["sacpo", "alignment", "safety", *algorithms, *merges]
    if figures := model_index(results, model, to.repository or f"{results.name}: {model}"):
        found |= {"metrics": [*dict.fromkeys(_metric_types(figures))], "model-index": figures}
    return found


def relation(merged: bool, adapter: bool) -> Relation:
    """Return what the hub calls the way from a base to a model."""
    return "adapter" if adapter else "merge" if merged else "finetune"


def data_sets(results: Results, model: str) -> list[str]:
    """Return the hub ids of the data that this model and those before it were trained on."""
    names, recipe = {model, *ancestors(results, model)}, results.recipe
    parts = [step for step in recipe.get("steps") or () if any(_made_of(step["name"], name) for name in names)]
    parts += [recipe["sft"]] if recipe.get("sft") else []
    sources = [source for part in parts for source in _sources(part.get("dataset"))]
    data = recipe.get("data") or {}
    found = [match for source in sources for path in _paths(data.get(source)) if (match := _hub_data(path))]
    return list(dict.fromkeys(found))


def model_index(results: Results, model: str, title: str) -> list[dict[str, Any]]:
    """Return the figures on report prompts as the hub's `model-index`; rates are fractions."""
    results_of: list[dict[str, Any]] = []
    for name in report_sets(results):
        sets = results.measures.get(model, {})
        keys = ordered_metrics(
            key for key in (sets[name].metrics if name in sets else ()) if set_of(results, key) == name
        )
        metrics = [
            {"type": key, "value": round(measured.value, DIGITS), "name": _named(results, key)}
            for key in keys
            if (measured := measure_of(results, model, key)) is not None and measured.value is not None
        ]
        if metrics:
            data = {"name": visible(name), "type": visible(_type_of(results, name))}
            results_of.append({"task": dict(TASK), "dataset": data, "metrics": metrics})
    return [{"name": title, "results": results_of}] if results_of else []


def _metric_types(index: list[dict[str, Any]]) -> Iterator[str]:
    for result in index[0]["results"]:
        yield from (metric["type"].partition("/")[0] for metric in result["metrics"])


def _named(results: Results, key: str) -> str:
    metric = key.partition("/")[0]
    against = f" against {results.baseline}" if metric == "win_rate" else ""
    return f"{label(key)}{against}" + (" (fraction)" if metric in METRICS and METRICS[metric].rate else "")


def _type_of(results: Results, prompts: str) -> str:
    """Return the hub id of a prompt set, or its name where it is no data set of the hub's."""
    paths = _paths((results.recipe.get("prompts") or {}).get(prompts))
    return next((found for path in paths if (found := _hub_data(path))), prompts)


def _made_of(step: str, model: str) -> bool:
    """Tell whether a model is the step's, at whatever strength and from whatever parent."""
    return re.fullmatch(rf"(?:.*\+)?{re.escape(step)}(?:@[^+]*)?", model) is not None


def _sources(dataset: Any) -> list[str]:
    if isinstance(dataset, dict):  # pairs sampled for prompts of a source
        dataset = dataset.get("prompts")
    return [dataset] if isinstance(dataset, str) else [*(dataset or ())]


def _paths(source: Any) -> list[str]:
    path = source.get("path") if isinstance(source, dict) else None
    return [path] if isinstance(path, str) else [*(path or ())]


def _hub_model(text: Any) -> str | None:
    return text if isinstance(text, str) and HUB_ID.fullmatch(text) and not Path(text).exists() else None


def _hub_data(text: str) -> str | None:
    match = HUB_DATA.fullmatch(text)
    file = Path(text).exists() or text.endswith((".json", ".jsonl", ".csv", ".parquet", ".gz"))
    return match[1] if match is not None and not file else None
