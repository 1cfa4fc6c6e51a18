"""Models that are a base and a stack of LoRA adapters: their description, their factors, loading them with peft."""

from sacpo.models.adapters.stack import Member, Stack, adapter_key, blend, read_stack, stack_of, unplain

__all__ = ["Member", "Stack", "adapter_key", "blend", "read_stack", "stack_of", "unplain"]
