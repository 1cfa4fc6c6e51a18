"""Reading checkpoints in tests."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers.modeling_outputs import CausalLMOutputWithPast


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder, read by the safetensors library, whose own are views of the files."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update({name: tensor.clone() for name, tensor in load_file(path).items()})
    return found


class TableModel(torch.nn.Module):
    """A language model whose next-token probabilities depend on the last token only and are given."""

    def __init__(self, size: int, table: dict[int, dict[int, float]]) -> None:
        super().__init__()
        logits = torch.full((size, size), -1e4)
        for token, row in table.items():
            for following, probability in row.items():
                logits[token, following] = torch.tensor(probability, dtype=torch.float64).log().float()
        self.logits = torch.nn.Parameter(logits)
        self.config = None

    def forward(self, input_ids: torch.Tensor, **options: object) -> CausalLMOutputWithPast:
        return CausalLMOutputWithPast(logits=self.logits[input_ids])
