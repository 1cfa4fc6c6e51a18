"""Means of metrics since the last log line, kept on the device and carried through checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sacpo.align.objectives.objective import Gather, Metrics
from sacpo.system import processes


class Meter:
    """Sums and counts of metrics; a value is read from the device only when it is logged or saved."""

    def __init__(self, device: torch.device) -> None:
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.device = device
        self.tokens = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Add sums and counts."""
        for name, (total, count) in metrics.items():
            value = total.detach().to(self.device, self.dtype)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + count

    def drain(self, gather: Gather) -> dict[str, float]:
        """Return the mean of every metric that was counted, over all processes, and start again."""
        names = list(self._sums)
        rows = [[float(self._counts[n]) for n in names], torch.stack([self._sums[n] for n in names]).tolist()]
        flat = torch.tensor([*rows[0], *rows[1], float(self.tokens)], dtype=self.dtype, device=self.device)
        total = gather(flat).view(-1, len(flat)).sum(0).tolist()
        self._sums, self._counts = {}, {}
        means = {n: total[len(names) + i] / total[i] for i, n in enumerate(names) if total[i]}
        return {**means, "num_tokens": total[-1]}

    def save(self, folder: Path) -> None:
        """Write this process's sums into a checkpoint."""
        sums = {name: (total.item(), self._counts[name]) for name, total in self._sums.items()}
        (folder / f"meter-{processes.rank()}.json").write_text(json.dumps({"tokens": self.tokens, "sums": sums}))

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; the files of as many processes as wrote them are shared out among those of today."""
        files = sorted(folder.glob("meter-*.json"), key=lambda path: int(path.stem.split("-")[1]))
        self.tokens, self._sums, self._counts = 0, {}, {}
        for file in files[processes.rank() :: processes.size()]:
            saved = json.loads(file.read_text())
            self.tokens += saved["tokens"]
            self.add({name: (torch.tensor(total, dtype=self.dtype), n) for name, (total, n) in saved["sums"].items()})
