"""FSDP2: on processes without a GPU, too; and split weights made whole again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

from sacpo.system import processes


@contextlib.contextmanager
def fsdp_anywhere(args: TrainingArguments) -> Iterator[None]:
    """Let an Accelerator be made that shards on the CPU as on GPUs, where accelerate would leave FSDP out unsaid."""
    state = PartialState()
    wanted = bool(args.fsdp) or parse_flag_from_env("ACCELERATE_USE_FSDP")
    if not wanted or state.distributed_type != DistributedType.MULTI_CPU:
        yield
        return
    state.distributed_type = DistributedType.MULTI_GPU
    try:
        yield
    finally:
        state.distributed_type = DistributedType.MULTI_CPU


def shard_checkpoints(plugin: FullyShardedDataParallelPlugin) -> None:
    """Let every process write its own shards of a checkpoint; the finished model is gathered whatever was asked for."""
    plugin.state_dict_config = plugin.optim_state_dict_config = None
    plugin.set_state_dict_type("SHARDED_STATE_DICT")


def reshard(model: nn.Module) -> None:
    """Split again what a forward pass without a backward pass leaves whole."""
    for module in model.modules():
        split = getattr(module, "reshard", None)  # an FSDPModule has it; its place differs among torch's versions
        if callable(split):
            split()


def gather_weights(model: nn.Module) -> None:
    """Replace every sharded weight by the whole one, on the CPU of the first process; the others keep none of it.

    One weight after the other crosses the network, so no device ever holds the model. A model without shards stays as
    it is.
    """
    whole: dict[int, nn.Parameter] = {}
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not isinstance(parameter, DTensor) and not hasattr(parameter, "ds_id"):
                    continue
                if id(parameter) not in whole:  # tied weights stay tied
                    full = _full(parameter)
                    kept = full.cpu() if processes.is_first() else full.new_empty(0)
                    whole[id(parameter)] = nn.Parameter(kept, requires_grad=parameter.requires_grad)
                setattr(module, name, whole[id(parameter)])


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every weight of a model whose own stay split: whole, on the CPU of the first process, empty elsewhere."""
    found = {}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            found[name] = full.cpu() if processes.is_first() else full.new_empty(0)
    return found


def _full(parameter: nn.Parameter) -> torch.Tensor:
    """Return a whole weight in every process: FSDP2's, or DeepSpeed ZeRO-3's (not run here)."""
    if isinstance(parameter, DTensor):
        return parameter.full_tensor()
    from deepspeed import zero

    with zero.GatheredParameters([parameter]):
        return parameter.detach().clone()
