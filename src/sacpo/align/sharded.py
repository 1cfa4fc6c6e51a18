"""Weights that FSDP2 split over processes, made whole again."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from sacpo import processes


def gather_weights(model: nn.Module) -> None:
    """Replace every sharded weight by the whole one, on the CPU of the first process; the others keep none of it.

    One weight after the other crosses the network, so no device ever holds the model. A model without shards stays as
    it is.
    """
    whole: dict[int, nn.Parameter] = {}
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not isinstance(parameter, DTensor):
                    continue
                if id(parameter) not in whole:  # tied weights stay tied
                    full = parameter.full_tensor()
                    kept = full.cpu() if processes.is_first() else full.new_empty(0)
                    whole[id(parameter)] = nn.Parameter(kept, requires_grad=parameter.requires_grad)
                setattr(module, name, whole[id(parameter)])
