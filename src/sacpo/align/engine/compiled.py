"""`torch_compile`: the transformer in front of the head is compiled in place, whatever wraps or calls it."""

from __future__ import annotations

import copy

from transformers import PreTrainedModel, TrainingArguments

from sacpo.losses.head import split_model


def compile_as_asked(policy: PreTrainedModel, args: TrainingArguments) -> TrainingArguments:
    """Compile a policy if its arguments ask for it, and return the arguments for a Trainer that does not do it again.

    A Trainer compiles the wrapper around the whole model, which rows of trees do not go through: they call the
    transformer and the head apart. Rows differ in number and width, so sizes are dynamic.
    """
    if not args.torch_compile:
        return args
    split = split_model(policy)
    module = policy if split is None else split.base
    module.compile(
        backend=args.torch_compile_backend or "inductor",
        dynamic=True,
        **({"mode": args.torch_compile_mode} if args.torch_compile_mode else {}),
    )
    rest = copy.copy(args)
    rest.torch_compile, rest.torch_compile_backend, rest.torch_compile_mode = False, None, None
    return rest
