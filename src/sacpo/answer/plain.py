"""A decoder of Llama's shape, stepped through without what a step does not need.

It computes what transformers computes, with the model's own modules: embedding, norms, projections, rotary embedding,
feed-forward, head. Keys and values are written into memory that is allocated once, instead of being copied with every
token; padding is turned into a mask once; what several prompts begin with is computed once, but for attention; and of
a prompt's last layer only the last position goes on behind its keys and values. Which models qualify is decided by
their exact classes, and each is compared with its own forward pass before it is used.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from transformers.activations import SiLUActivation

from sacpo.answer.head import LastHead, LastStates
from sacpo.answer.past import ModelPast
from sacpo.data.trie import trie_of

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
STILL = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that do not change with a text's length."""
LEAVES = (torch.nn.Linear, torch.nn.SiLU, SiLUActivation)
"""Modules that are called, not stepped through: what hangs on them stays."""
NEVER = torch.finfo(torch.float32).min
CLOSE = 1e-4
"""How far two forward passes may be apart, as a share of the largest logit."""
_agreeing: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


class _Beginnings:
    """The tokens of prompts, with those that several prompts begin with once.

    Args:
        inputs: The prompts, padded on the left. Shape: (batch, new).
        mask: 0 on padding. Shape: (batch, new).

    Attributes:
        places: Where each token that is computed stands, in one of its prompts. Shape: (tokens,).
        columns: Which of these tokens each one is; 0 for padding. Shape: (batch, new).
    """

    def __init__(self, inputs: torch.Tensor, mask: torch.Tensor) -> None:
        new = inputs.shape[1]
        lengths = mask.sum(1).tolist()
        prompts = [row[new - length :] for row, length in zip(inputs.tolist(), lengths, strict=True)]
        paths = trie_of(prompts).paths
        self.columns = torch.zeros_like(inputs)
        self.columns[mask.bool()] = torch.from_numpy(np.concatenate(paths))
        self.places = torch.empty(int(self.columns.max()) + 1, dtype=torch.long)
        self.places[self.columns[mask.bool()]] = mask.reshape(-1).nonzero().squeeze(-1)


class PlainPast:
    """The past of a model that `is_plain`.

    Keys and values are kept as (capacity, batch, heads, width): what is remembered so far lies in one piece, and a step
    reads it from front to end.

    Args:
        model: The model.
        capacity: The most tokens a row will have, its padding included.
        head: The model's head, where that is met here.
    """

    can_select = can_join = True

    def __init__(self, model: Any, capacity: int, head: LastHead | None = None) -> None:
        self.model, self.capacity = model, capacity
        self.head = head
        self.length = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.turns = (torch.empty(0), torch.empty(0))
        self.hidden: torch.Tensor | None = None  # (capacity, batch): a large negative number on padding

    def step(self, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> LastStates:
        """Run the model's layers; arguments and result as of `sacpo.answer.past.Past.step`."""
        body, new = self.model.model, inputs.shape[1]
        if not self.keys:
            self._begin(mask, len(inputs))
        self.length += new
        shared = None if new == 1 else _Beginnings(inputs, mask)
        flat = torch.arange(len(inputs)) if shared is None else shared.places
        x = body.embed_tokens(inputs.reshape(-1)[None, flat])[0]
        if len(self.turns[0]) < self.capacity:
            self.turns = self._turns()
        turns = [side[positions.reshape(-1)[flat]] for side in self.turns]
        for number, layer in enumerate(body.layers):
            query, keys, values = self._projected(layer, x, turns)
            if shared is None:
                self.keys[number][self.length - 1], self.values[number][self.length - 1] = keys, values
                mixed = self._attend(number, query * layer.self_attn.scaling)
            else:
                for memory, found in ((self.keys, keys), (self.values, values)):
                    torch.index_select(found, 0, shared.columns.T.reshape(-1), out=memory[number][:new].flatten(0, 1))
                last = number == len(body.layers) - 1  # of which only the last position goes on
                x = x[shared.columns[:, -1]] if last else x
                mixed = self._attend_to_prompts(number, query, shared, layer.self_attn.scaling, last=last)
            x = x + layer.self_attn.o_proj(mixed.flatten(1))
            normed, mlp = _norm(layer.post_attention_layernorm, x), layer.mlp
            x += mlp.down_proj(silu(mlp.gate_proj(normed), inplace=True).mul_(mlp.up_proj(normed)))
        states = _norm(body.norm, x)
        return LastStates(self.model.lm_head(states) if self.head is None else states, self.head)

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows."""
        self.keys, self.values = ([self._selected(kept, rows) for kept in side] for side in (self.keys, self.values))
        if self.hidden is not None:
            self.hidden = self.hidden[:, rows]

    def join(self, other: PlainPast, width: int) -> None:
        """Take in another past's rows."""
        sides, rows = (self, other), self.keys[0].shape[1] + other.keys[0].shape[1]
        lengths = (self.length, other.length)
        self.capacity = width + max(past.capacity - past.length for past in sides)
        shape = (self.capacity, rows, *self.keys[0].shape[2:])
        hidden = [past._hides() for past in sides]
        self.hidden = _joined(hidden, lengths, width, torch.zeros(shape[:2]), NEVER)
        self.keys, self.values = (
            [_joined(pair, lengths, width, torch.empty(shape), 0.0) for pair in zip(*side, strict=True)]
            for side in ((self.keys, other.keys), (self.values, other.values))
        )
        self.length = width

    def _hides(self) -> torch.Tensor:
        return torch.zeros(self.keys[0].shape[:2]) if self.hidden is None else self.hidden

    def _begin(self, mask: torch.Tensor, rows: int) -> None:
        layers = self.model.model.layers
        attention = layers[0].self_attn
        shape = (self.capacity, rows, attention.k_proj.out_features // attention.head_dim, attention.head_dim)
        self.keys, self.values = ([torch.empty(shape) for _ in layers] for _ in range(2))
        if not bool(mask.all()):
            self.hidden = torch.zeros(self.capacity, rows)
            self.hidden[: mask.shape[1]].masked_fill_(mask.T == 0, NEVER)

    def _turns(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines of all positions, of which both halves are alike: (capacity, 1, half of a width)."""
        body = self.model.model
        found = body.rotary_emb(torch.empty(0), position_ids=torch.arange(self.capacity)[None])
        cos, sin = (side[0, :, None, : side.shape[-1] // 2].contiguous() for side in found)
        return cos, sin

    def _bias(self, new: int) -> torch.Tensor:
        """Return what is added to a prompt's scores, (batch or 1, 1, new, new)."""
        later = torch.full((new, new), NEVER).triu(1)[None, None]
        return later if self.hidden is None else torch.minimum(later, self.hidden[:new].T[:, None, None])

    def _projected(
        self, layer: Any, x: torch.Tensor, turns: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return turned queries and keys, and values: (tokens, heads, width)."""
        attention, normed = layer.self_attn, _norm(layer.input_layernorm, x)
        shape = (len(x), -1, attention.head_dim)
        query, key, value = (
            project(normed).view(shape) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        if hasattr(attention, "q_norm"):
            query, key = _norm(attention.q_norm, query), _norm(attention.k_norm, key)
        return _turned(query, *turns), _turned(key, *turns), value

    def _attend(self, number: int, query: torch.Tensor) -> torch.Tensor:
        """Return softmax(q k) v behind one token a row; query and result are (batch, heads, width)."""
        keys, values = (side[number][: self.length].flatten(1, 2).transpose(0, 1) for side in (self.keys, self.values))
        batch, heads, width = query.shape
        scores = torch.bmm(query.view(len(keys), -1, width), keys.transpose(1, 2))
        if self.hidden is not None:
            scores.view(batch, heads, -1).add_(self.hidden[: self.length].T[:, None])
        return torch.bmm(torch.softmax(scores, -1), values).view(query.shape)

    def _attend_to_prompts(
        self, number: int, query: torch.Tensor, shared: _Beginnings, scale: float, *, last: bool
    ) -> torch.Tensor:
        """Return softmax(scale q k) v behind each token of prompts, or behind the last one of each.

        Shape: query and result are (tokens, heads, width), of the last ones (batch, heads, width).
        """
        keys, values = (side[number][: self.length].permute(1, 2, 0, 3) for side in (self.keys, self.values))
        query = query[shared.columns[:, -1:] if last else shared.columns].transpose(1, 2)
        bias = self._bias(self.length)[:, :, -query.shape[2] :]
        if (times := query.shape[1] // keys.shape[1]) > 1:
            keys, values = (side.repeat_interleave(times, dim=1) for side in (keys, values))
        mixed = scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=scale).transpose(1, 2)
        return mixed[:, 0] if last else mixed.flatten(0, 1)[shared.places]

    def _selected(self, kept: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        memory = torch.empty(self.capacity, len(rows), *kept.shape[2:])
        torch.index_select(kept[: self.length], 1, rows, out=memory[: self.length])
        return memory


def _joined(
    pair: Sequence[torch.Tensor], lengths: Sequence[int], width: int, memory: torch.Tensor, fill: float
) -> torch.Tensor:
    """Return a memory with two others' rows side by side, their last columns in its first `width` ones."""
    start = 0
    for kept, length in zip(pair, lengths, strict=True):
        shown, rows = min(width, length), slice(start, start + kept.shape[1])
        memory[: width - shown, rows] = fill
        memory[width - shown : width, rows] = kept[length - shown : length]
        start += kept.shape[1]
    return memory


def _norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return rotary embeddings; x is (tokens, heads, width), cos and sin (tokens, 1, half of it)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    result = torch.empty_like(x)
    torch.mul(first, cos, out=result[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=result[..., half:]).addcmul_(first, sin)
    return result


def is_plain(model: Any) -> bool:
    """Tell whether a model can be stepped through here: by its classes, and by one comparison for each model."""
    return _has_plain_shape(model) and _agrees(model)


def _has_plain_shape(model: Any) -> bool:
    family = next((name for name in FAMILIES if type(model).__name__ == f"{name}ForCausalLM"), None)
    if family is None or not type(model).__module__.startswith("transformers.models.") or model.training:
        return False
    body, config = model.model, model.config
    parts = ("ForCausalLM", "Model", "DecoderLayer", "Attention", "MLP", "RMSNorm")
    inside = (module for layer in body.layers for module in layer.modules() if not isinstance(module, LEAVES))
    stepped = [model, body, body.norm, *inside]
    return (
        all(type(module).__name__ in {f"{family}{part}" for part in parts} for module in stepped)
        and type(body.embed_tokens) is torch.nn.Embedding
        and not any(_is_watched(module) for module in (*stepped, body.embed_tokens))
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
        and all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or [])
        and getattr(config, "sliding_window", None) is None
        and config.hidden_act == "silu"
        and config._attn_implementation in ("sdpa", "eager")
        and body.rotary_emb.rope_type in STILL
        and len(body.layers) == config.num_hidden_layers
    )


def _is_watched(module: Any) -> bool:
    own = "forward" in module.__dict__  # a forward pass that was put in the place of the class's
    return own or bool(module._forward_hooks or module._forward_pre_hooks)


@torch.no_grad()
def _agrees(model: Any) -> bool:
    """Compare a prompt of four tokens, one of two in its row, and a step behind them."""
    if model not in _agreeing:
        inputs = torch.arange(1, 9).view(2, 4) % model.config.vocab_size
        mask = torch.ones(2, 4, dtype=torch.long)
        mask[0, :2] = 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        close = True
        theirs, ours = ModelPast(model), PlainPast(model, 5)
        for _ in range(2):
            expected, found = (past.step(inputs, mask, positions).logits() for past in (theirs, ours))
            close &= bool((expected - found).abs().max() <= CLOSE * expected.abs().max())  # NaN is not
            inputs, positions = inputs[:, :1], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(2, 1)], dim=-1)
        _agreeing[model] = close
    return _agreeing[model]
