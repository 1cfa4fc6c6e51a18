"""The page's tables of trainings: how every model was trained, and what it learned on held-out pairs."""

from __future__ import annotations

from typing import Any

from sacpo.report.lookup import made_by
from sacpo.report.results import ModelInfo, Results
from sacpo.report.tables import Cell, Table, measured_cell, model_row, value_words

FACTS = ("steps", "epochs", "tokens", "records", "first_loss", "last_loss")
"""Facts of a training that have a column; others share one, those that are 0 left out."""
KNOWN = ("kind",)
"""Facts that another column tells."""
SCORES = {
    "implicit": "log π/π_ref",
    "from_sft": "log π/π_SFT",
    "before": "log π_ref",
    "after": "log π",
}
"""What held-out pairs are told apart by, see `ModelInfo.implicit`."""


def training_table(results: Results) -> Table | None:
    """Show how every trained model was trained."""
    trained = [name for name, info in results.models.items() if info.training or info.kl_reference]
    if not trained:
        return None
    told = any(results.models[name].kl_reference for name in trained)
    rows = []
    for name in trained:
        info = results.models[name]
        facts = info.training or {}
        cells = [Cell(made_by(results, name)), *(Cell(value_words(facts.get(key))) for key in FACTS)]
        cells += [measured_cell(info.kl_reference, "kl")] if told else []
        rows.append(model_row(results, name, [*cells, Cell(_others(facts))]))
    kl = ("KL from its reference, nats",) if told else ()
    head = ("model", "made by", *(key.replace("_", " ") for key in FACTS), *kl, "also")
    return Table("Training" + (": KL with 95 % intervals" if told else ""), head, tuple(rows))


def heldout_tables(results: Results) -> list[Table]:
    """Show how often every model's scores prefer the preferred completion of held-out pairs, a table a source."""
    said = {name: _by_source(info) for name, info in results.models.items()}
    tables = []
    for source in dict.fromkeys(source for found in said.values() for source in found):
        names = [name for name in said if source in said[name]]
        kinds = dict.fromkeys(kind for kind in SCORES if any(kind in said[name][source] for name in names))
        kinds |= dict.fromkeys(kind for name in names for kind in said[name][source])
        rows = [
            model_row(results, name, [measured_cell(said[name][source].get(kind), "win_rate") for kind in kinds])
            for name in names
        ]
        caption = f"Held-out pairs{f' of {source}' if source else ''}: share that is told apart, with 95 % intervals"
        tables.append(Table(caption, ("model", *(SCORES.get(kind, kind) for kind in kinds)), tuple(rows)))
    return tables


def _by_source(info: ModelInfo) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, measured in (info.implicit or {}).items():
        source, _, kind = key.rpartition("/")
        found.setdefault(source, {})[kind] = measured
    return found


def _others(facts: dict[str, Any]) -> str:
    others = {key: value for key, value in facts.items() if key not in (*FACTS, *KNOWN) and value not in (0, None)}
    return ", ".join(f"{key.replace('_', ' ')} {value_words(value)}" for key, value in others.items()) or "–"
