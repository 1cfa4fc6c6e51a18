"""How far merged models are from the path that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.answers import KlSamples
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.system.files import read_json, write_json
from sacpo.theory.fidelity import Floats, fidelity

FIDELITY = "fidelity.json"


def merged_key(place: int) -> str:
    """Return the name of the log-ratios to one of the models that are merged."""
    return f"merged/{place}"


@dataclass(frozen=True)
class EndSamples(KlSamples):
    """Samples of one of the models that are merged, scored under all of them; merges of the same models share them."""

    line: str = ""

    @property
    def name(self) -> str:
        """`kl/merged/MERGE/MODEL/PROMPTS`."""
        return f"kl/merged/{self.line}/{self.title}/{self.prompts.source.name}"


@dataclass(frozen=True)
class MergeFidelity(Stage[JsonObject]):
    """KL of a merged model from the sequence-level mixture with its weights, on one prompt set.

    Attributes:
        title: The merged model.
        weights: One for each of the models.
        samples: The merged model's.
        ends: Of each of the models, in their order.
    """

    title: str
    weights: tuple[float, ...]
    samples: KlSamples
    ends: tuple[EndSamples, ...]

    @property
    def name(self) -> str:
        """`fidelity/MODEL/PROMPTS`."""
        return f"fidelity/{self.title}/{self.samples.prompts.source.name}"

    def work(self, out: Path, tools: Tools) -> None:
        """Estimate."""
        rows = tools.read(self.samples)
        ratios = self._ratios(rows)
        ends = [self._ratios(tools.read(stage)).reshape(len(rows), stage.samples, -1) for stage in self.ends]
        clusters = [row["answer"].prompt.cluster for row in rows]
        found = fidelity(ratios, self.weights, -np.concatenate(ends, axis=1), clusters)
        write_json(
            out / FIDELITY,
            {
                "kl": found.kl.to_json(),
                "alarm": found.alarm,
                "ess": found.ess,
                "believed": found.believed,
                "bias": found.bias,
                "samples": sum(stage.samples for stage in self.ends),
            },
        )

    def _ratios(self, rows: list[JsonObject]) -> Floats:
        return np.array([[row[merged_key(k)] for k in range(len(self.weights))] for row in rows])

    def read(self, folder: Path) -> JsonObject:
        """Return the figures."""
        return read_json(folder / FIDELITY)
