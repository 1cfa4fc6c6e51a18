"""Packed and plain rows over architectures: they agree, or packing is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import PAD, tiny, trees
from transformers import PreTrainedModel

from sacpo.data.packing import Tree, packed_rows, padded_rows
from sacpo.errors import ModelError
from sacpo.losses import agreement, attention, logps
from sacpo.losses.agreement import check_layout
from sacpo.losses.attention import Reach, attention_mask, reaches, visible, visible_blocks
from sacpo.losses.head import split_model
from sacpo.losses.logps import completion_logps, completion_token_logps
from sacpo.losses.sharing import supports_shared_prefix

AGREE = [
    *("llama", "qwen2", "qwen3", "qwen3_moe", "gpt_neox", "phi3", "olmo2", "granite", "gpt2", "opt"),
    *("mistral", "gemma2", "gemma3_text", "cohere2", "llama4_text", "gpt_oss"),  # windows or blocks shorter than a row
    *("stablelm", "cohere", "falcon", "gptj", "gemma", "starcoder2", "phi", "mixtral", "olmo3", "xglm", "gpt_bigcode"),
]
WINDOWED = ["mistral", "gemma2", "gemma3_text", "cohere2", "llama4_text", "gpt_oss", "olmo3"]
REFUSED = {
    "bloom": "position ids",
    "mpt": "position ids",
    "gpt_neo": "local attention",
    "mamba2": "linear_attention",
    "rwkv": "recurrent",
    "jamba": "linear_attention",
    "bamba": "linear_attention",
    "falcon_h1": "hybrid",
    "recurrent_gemma": "linear_attention",
    "lfm2": "conv",
}


def largest_difference(model: PreTrainedModel) -> float:
    found = check_layout(model, trees(), pad_id=PAD, tolerance=1e-5, width=64, examples=6)
    assert found.ok == (found.max_abs_difference <= 1e-5)
    assert found.ok == (found.reason == "")
    return found.max_abs_difference


@pytest.mark.parametrize("attention_kind", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", AGREE)
def test_packed_rows_agree_with_plain_ones(kind: str, attention_kind: str) -> None:
    model = tiny(kind, attention=attention_kind)
    assert supports_shared_prefix(model.config) == ""
    assert largest_difference(model) <= 1e-5


@pytest.mark.parametrize("kind", AGREE)
def test_the_comparison_notices_wrong_layouts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement above would be empty if these models' log-probs did not depend on the mask and the positions.

    Two layouts are wrong: rows as one causal sequence, whose branches see each other, and positions reversed within
    each row. (A shift of all positions would not do: relative positions do not see it.)
    """
    model = tiny(kind)
    with monkeypatch.context() as patch:
        patch.setattr(logps, "attention_mask", lambda config, rows, dtype: rows.attention_mask)
        assert largest_difference(model) > 1e-3
    rows = packed_rows(trees(), pad_id=PAD)
    with monkeypatch.context() as patch:
        wrong = replace(rows, position_ids=rows.position_ids.flip(1))
        patch.setattr(agreement, "packed_rows", lambda *args, **options: wrong)
        found = check_layout(model, trees(), pad_id=PAD, examples=6)
    assert not found.ok


@pytest.mark.parametrize("kind", WINDOWED)
def test_a_mask_without_its_window_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 5 and blocks of 8 end inside of the sequences of up to 23 tokens."""
    model = tiny(kind)
    real = attention.visible
    monkeypatch.setattr(attention, "visible", lambda rows, reach: real(rows))
    assert largest_difference(model) > 1e-3


@pytest.mark.parametrize("kind", AGREE)
def test_the_head_of_every_architecture_is_found(kind: str) -> None:
    assert split_model(tiny(kind)) is not None


@pytest.mark.parametrize("kind", REFUSED)
def test_other_architectures_are_refused_with_a_reason(kind: str) -> None:
    model = tiny(kind)
    found = check_layout(model, trees(), pad_id=PAD)
    assert not found.ok
    assert found.max_abs_difference == float("inf")
    assert REFUSED[kind] in found.reason
    assert REFUSED[kind] in supports_shared_prefix(model.config)


@pytest.mark.parametrize("kind", REFUSED)
def test_log_probs_of_shared_prompts_are_an_error_where_they_are_wrong(kind: str) -> None:
    model = tiny(kind)
    with pytest.raises(ModelError, match="cannot share prompts"):
        completion_logps(model, packed_rows(trees(), pad_id=PAD))
    assert completion_logps(model, padded_rows(trees(), pad_id=PAD)).isfinite().all()


@pytest.mark.parametrize("kind", REFUSED)
def test_the_comparison_refuses_what_the_configuration_would_let_pass(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusals are no prejudice: without them the log-probs differ, or the model cannot take the mask."""
    for module in (agreement, logps):
        monkeypatch.setattr(module, "obstacle", lambda config, architecture: "")
    monkeypatch.setattr(agreement, "supports_shared_prefix", lambda config: "")
    found = check_layout(tiny(kind), trees(), pad_id=PAD, width=64, examples=6)
    assert not found.ok
    assert found.reason
    assert found.max_abs_difference > 1e-2


def test_falcon_with_alibi_is_refused() -> None:
    model = tiny("falcon", alibi=True, new_decoder_architecture=False)
    assert "ALiBi" in check_layout(model, trees(), pad_id=PAD).reason


def test_a_kernel_without_masks_is_refused() -> None:
    model = tiny("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in check_layout(model, trees(), pad_id=PAD).reason


def test_the_comparison_is_made_in_evaluation_mode_and_gives_the_mode_back() -> None:
    """With dropout .5 two forward passes in training mode differ by more than 1e-3; the comparison sees none of it."""
    model = tiny("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train()
    model.transformer.ln_f.eval()
    rows = padded_rows(trees(), pad_id=PAD)
    noisy = completion_token_logps(model, rows) - completion_token_logps(model, rows)
    assert noisy.abs().max() > 1e-3
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert largest_difference(model) <= 1e-5
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)


def test_the_comparison_is_made_without_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert largest_difference(tiny("llama")) <= 1e-5
        assert torch.is_autocast_enabled("cpu")


def test_the_longest_and_the_first_trees_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that forgets a window of 12 is wrong for sequences of more than 12 tokens, wherever those trees stand.

    Branches that see each other are wrong for the first tree alone, which is shorter than the last.
    """
    model = tiny("mistral", sliding_window=12)
    short = trees(sizes=((2, (3,)), (4, (2,)), (3, (4,)), (2, (7,))))[:4]
    long = trees(1, sizes=((9, (7, 8)),))[:1]
    real = attention.visible
    with monkeypatch.context() as patch:
        patch.setattr(attention, "visible", lambda rows, reach: real(rows))
        assert check_layout(model, short, pad_id=PAD, examples=1).ok
        assert not check_layout(model, [*short, *long], pad_id=PAD, examples=1).ok
    branching = trees(2, sizes=((2, (2, 2)),))[0]
    plain = trees(3, sizes=((2, (7,)), (4, (5,)), (6, (3,))))[:3]  # 9 tokens each: none shares a row
    with monkeypatch.context() as patch:
        patch.setattr(logps, "attention_mask", lambda config, rows, dtype: rows.attention_mask)
        assert check_layout(model, plain, pad_id=PAD, width=1, examples=1).ok
        assert not check_layout(model, [branching, *plain], pad_id=PAD, width=1, examples=1).ok


def test_looking_for_the_head_moves_no_random_numbers() -> None:
    model = tiny("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train()
    before = torch.get_rng_state()
    assert split_model(model) is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_trees_without_any_token_to_predict_agree() -> None:
    assert check_layout(tiny("llama"), trees(sizes=((3, (0, 0)),))[:1], pad_id=PAD).ok


@pytest.mark.parametrize("reach", [Reach(), Reach(window=5), Reach(block=4), Reach(window=3, block=4)])
def test_block_masks_say_the_same_as_masks(reach: Reach) -> None:
    rows = packed_rows(trees(), pad_id=PAD, width=40)
    n, width = rows.input_ids.shape
    sees = visible_blocks(rows, reach).mask_mod
    dense = [
        [[bool(sees(*map(torch.tensor, (row, 0, query, key)))) for key in range(width)] for query in range(width)]
        for row in range(n)
    ]
    assert torch.equal(torch.tensor(dense), visible(rows, reach)[:, 0])


def test_masks_of_two_branches_by_hand() -> None:
    """Prompt (a b), branches (c d) and (e), width 6: columns a b c d e pad, positions 0 1 2 3 2 0.

    The branch e sees a, b and itself, not c and d. With a window of 2 positions it sees b (distance 1) but not a.
    With blocks of 2 positions, a b | c d, the branch e at position 2 sees itself alone, and d sees c.
    """
    a_tree = Tree((11, 12), ((13, 14), (15,)))
    [longer] = trees(1, sizes=((6, (0,)),))[:1]
    rows = packed_rows([a_tree, longer], pad_id=PAD, width=6)
    row = int((rows.attention_mask.sum(1) == 5).nonzero())
    assert rows.position_ids[row].tolist() == [0, 1, 2, 3, 2, 0]

    def seen(reach: Reach) -> list[str]:
        letters = "abcde_"
        found = visible(rows, reach)[row, 0]
        return ["".join(letters[key] for key in range(6) if found[query, key]) for query in range(6)]

    assert seen(Reach()) == ["a", "ab", "abc", "abcd", "abe", "_"]
    assert seen(Reach(window=2)) == ["a", "ab", "bc", "cd", "be", "_"]
    assert seen(Reach(block=2)) == ["a", "ab", "c", "cd", "e", "_"]


def test_reaches_are_read_from_the_configuration() -> None:
    assert reaches(tiny("llama").config) == {"": Reach()}
    assert reaches(tiny("mistral").config) == {"": Reach(window=5)}
    assert reaches(tiny("gemma3_text").config) == {"sliding_attention": Reach(window=5), "full_attention": Reach()}
    assert reaches(tiny("llama4_text").config) == {"chunked_attention": Reach(block=8), "full_attention": Reach()}
    off = tiny("qwen2", use_sliding_window=False, sliding_window=5)
    assert set(reaches(off.config).values()) == {Reach()}
    assert Reach(window=5, block=8).within(5) == Reach()
    assert Reach(window=5, block=8).within(6) == Reach(window=5)
    assert Reach(window=5, block=8).within(9) == Reach(window=5, block=8)


def test_qwen2_with_windows_in_its_later_layers_agrees() -> None:
    model = tiny("qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1)
    assert set(reaches(model.config).values()) == {Reach(), Reach(window=5)}
    assert largest_difference(model) <= 1e-5


def test_added_masks_are_numbers() -> None:
    """An eager implementation adds its mask to the scores: 0 where a key is seen, the least number elsewhere."""
    rows = packed_rows(trees(), pad_id=PAD)
    added = attention_mask(tiny("llama", attention="eager").config, rows, torch.float32)
    assert added.dtype == torch.float32
    assert torch.equal(added == 0, visible(rows))
    assert torch.equal(added == torch.finfo(torch.float32).min, ~visible(rows))


def test_the_rounding_of_a_large_model_in_16_bits_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any bound of its own: right rows are within the model's rounding, rows of one causal sequence are not."""
    model = tiny("llama").to(torch.bfloat16)
    monkeypatch.setattr(agreement, "ROUGH_TOLERANCE", 0.0)
    right = check_layout(model, trees(), pad_id=PAD, width=64, examples=6)
    assert right.ok and right.max_abs_difference > 0
    assert not check_layout(model, trees(), pad_id=PAD, width=64, examples=6, tolerance=0.0).ok  # what the user set
    monkeypatch.setattr(logps, "attention_mask", lambda config, rows, dtype: rows.attention_mask)
    assert not check_layout(model, trees(), pad_id=PAD, width=64, examples=6).ok
    assert not model.get_input_embeddings()._forward_hooks
