"""Models as folders that need nothing else: the chosen one with its card, merges and exports of single verbs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sacpo.merge.source import Merge, ModelSource
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.certificate import Certificate
from sacpo.pipeline.stages.report import Report
from sacpo.pipeline.stages.selection import Selection, chosen_name
from sacpo.pipeline.tools import Tools
from sacpo.report.card import model_card
from sacpo.report.results import parse_results
from sacpo.system.files import write_atomic

NONE = "No model meets every constraint: none was chosen. The report names the nearest.\n"


@dataclass(frozen=True)
class Chosen(Stage[Path]):
    """The chosen model as a standard Hugging Face folder with a model card; a note where none was chosen.

    Attributes:
        selection: The choice by point estimates.
        certificate: Where it certifies a model, that one is chosen.
        report: What the card is made of.
        models: Every model.
    """

    selection: Selection
    certificate: Certificate | None
    report: Report
    models: Mapping[str, ModelSource]

    @property
    def name(self) -> str:
        """`chosen`."""
        return "chosen"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the model and its card; of mixed logits the card says which two models to mix."""
        certificate = None if self.certificate is None else tools.read(self.certificate)
        name = chosen_name(tools.read(self.selection), certificate)
        if name is None:
            write_atomic(out / "README.md", NONE)
            return
        model, folder = tools.place(self.models[name]), out / "model"
        folder.mkdir(exist_ok=True)
        if isinstance(model, Merge) and not model.has_weights:
            folder = out
        else:
            model.write(folder, progress=tools.progress)
        write_atomic(folder / "README.md", model_card(parse_results(tools.read(self.report)), name))

    def read(self, folder: Path) -> Path:
        """Return the model's folder."""
        return folder / "model"
