"""Token trees in rows: what is where, and that it makes no difference to log-probs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import PAD, VOCABULARY, tiny, trees
from transformers import PreTrainedModel

from sacpo.data.packing import BLOCK, TREES_A_ROW, WIDTH, flat_rows, packed_rows, padded_rows
from sacpo.data.rows import Rows, Tree
from sacpo.errors import DataError
from sacpo.losses.attention import visible
from sacpo.losses.logps import completion_logps

# few tokens, so that completions begin alike, and many
TOKENS = st.lists(st.one_of(st.integers(3, 4), st.integers(3, VOCABULARY - 1)), max_size=7).map(tuple)
PROMPTS = st.lists(st.integers(3, 5), min_size=1, max_size=4).map(tuple)  # few tokens, so that prompts come twice
TREES = st.lists(st.builds(Tree, PROMPTS, st.lists(TOKENS, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=6)
WIDTHS = st.sampled_from([None, 1, 12, 20, 40])


@cache
def llama() -> PreTrainedModel:
    return tiny("llama", dtype=torch.float64)


def seen_by(rows: Rows, flat: int) -> tuple[list[int], list[int]]:
    """The token ids that a query sees, and their positions."""
    row, column = divmod(flat, rows.input_ids.shape[1])
    keys = visible(rows)[row, 0, column]
    return rows.input_ids[row][keys].tolist(), rows.position_ids[row][keys].tolist()


def test_one_row_by_hand() -> None:
    """Prompt (7 8) with branches (3 4) and (5); prompt (9) with branch (6), which is wider alone than width 2.

    The larger tree stands first: columns 0-4, then columns 5-6. Position 2 continues the prompt in both branches. The
    prompt's last token, column 1, predicts 3 and 5; column 2 predicts 4; column 5 predicts 6. The targets come in the
    order of the trees given: 6 first.
    """
    rows = packed_rows([Tree((9,), ((6,),)), Tree((7, 8), ((3, 4), (5,)))], pad_id=PAD, width=7)
    assert rows.input_ids.tolist() == [[7, 8, 3, 4, 5, 9, 6]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert rows.visible_until is not None
    assert rows.visible_until.tolist() == [[5, 5, 4, 4, 5, 7, 7]]
    assert rows.targets.tolist() == [6, 3, 4, 5]
    assert rows.source.tolist() == [5, 1, 2, 1]
    assert rows.owner.tolist() == [0, 1, 1, 2]
    assert (rows.n_completions, rows.longest, rows.shared) == (3, 4, True)


@pytest.mark.parametrize(
    ("side", "ids", "positions", "source"),
    [
        ("right", [[7, 8, 3, 4], [7, 8, 5, PAD]], [[0, 1, 2, 3], [0, 1, 2, 0]], [1, 2, 5]),
        ("left", [[7, 8, 3, 4], [PAD, 7, 8, 5]], [[0, 1, 2, 3], [0, 0, 1, 2]], [1, 2, 6]),
    ],
)
def test_padded_rows_by_hand(side: str, ids: object, positions: object, source: object) -> None:
    """Two rows of width 4, one token of padding; flat indices of the predicting columns: row x 4 + column."""
    rows = padded_rows([Tree((7, 8), ((3, 4), (5,)))], pad_id=PAD, side=side)  # type: ignore[arg-type]
    assert rows.input_ids.tolist() == ids
    assert rows.position_ids.tolist() == positions
    assert rows.attention_mask.tolist() == [[1, 1, 1, 1], [int(token != PAD) for token in rows.input_ids[1]]]
    assert rows.source.tolist() == source
    assert rows.targets.tolist() == [3, 4, 5]
    assert rows.owner.tolist() == [0, 0, 1]
    assert not rows.shared


@settings(max_examples=60, deadline=None)
@given(TREES, WIDTHS)
def test_every_target_is_predicted_from_its_own_prefix(given_trees: list[Tree], width: int | None) -> None:
    """What a predicting column sees is the prompt and its completion so far, at positions 0, 1, 2, ...

    So no tree is split, branches see neither each other nor other trees, and positions continue the prompt.
    """
    rows = packed_rows(given_trees, pad_id=PAD, width=width)
    place = iter(rows.source.tolist())
    for tree in given_trees:
        for branch in tree.completions:
            for k in range(len(branch)):
                prefix = [*tree.prompt, *branch[:k]]
                assert seen_by(rows, next(place)) == (prefix, list(range(len(prefix))))
    assert next(place, None) is None


@settings(max_examples=60, deadline=None)
@given(TREES, WIDTHS)
def test_each_prompt_comes_once_where_its_branches_fit_in_a_row(given_trees: list[Tree], width: int | None) -> None:
    """The tokens laid out are each prompt's and each beginning of its completions once; position 0 once a prompt."""
    rows = packed_rows(given_trees, pad_id=PAD, width=width)
    room = TREES_A_ROW * sum(map(len, given_trees)) // len(given_trees)
    limit = max(width or min(WIDTH, room), *map(len, given_trees))
    assert rows.input_ids.shape[1] <= limit
    branches: dict[tuple[int, ...], int] = {}
    beginnings: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for tree in given_trees:
        branches[tree.prompt] = branches.get(tree.prompt, 0) + len(tree) - len(tree.prompt)
        begun = {branch[:end] for branch in tree.completions for end in range(1, len(branch) + 1)}
        beginnings[tree.prompt] = beginnings.get(tree.prompt, set()) | begun
    once = sum(len(prompt) + len(begun) for prompt, begun in beginnings.items())
    laid = int(rows.attention_mask.sum())
    starts = int(((rows.position_ids == 0) & (rows.attention_mask == 1)).sum())
    if all(len(prompt) + size <= limit for prompt, size in branches.items()):
        assert (laid, starts) == (once, len(branches))
    else:
        assert once < laid <= sum(map(len, given_trees))
        assert len(branches) < starts <= len(given_trees)


@settings(max_examples=60, deadline=None)
@given(TREES, WIDTHS)
def test_padding_is_seen_by_nobody_else_and_no_query_sees_nothing(given_trees: list[Tree], width: int | None) -> None:
    rows = packed_rows(given_trees, pad_id=PAD, width=width)
    for row, column in (rows.attention_mask == 0).nonzero().tolist():
        seen = visible(rows)[row, 0]
        assert seen[:, column].nonzero().flatten().tolist() == [column]
        assert seen[column].nonzero().flatten().tolist() == [column]


@settings(max_examples=60, deadline=None)
@given(TREES, WIDTHS)
def test_targets_stand_in_the_order_given(given_trees: list[Tree], width: int | None) -> None:
    completions = [branch for tree in given_trees for branch in tree.completions]
    prompts = [tree.prompt for tree in given_trees for _ in tree.completions]
    rows = packed_rows(given_trees, pad_id=PAD, width=width)
    assert rows.targets.tolist() == [token for branch in completions for token in branch]
    assert rows.owner.tolist() == [owner for owner, branch in enumerate(completions) for _ in branch]
    assert rows.n_completions == len(completions)
    assert rows.longest == max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))


@settings(max_examples=40, deadline=None)
@given(TREES, WIDTHS, st.sampled_from(["right", "left"]))
def test_packed_and_padded_log_probs_are_equal(given_trees: list[Tree], width: int | None, side: str) -> None:
    padded = padded_rows(given_trees, pad_id=PAD, side=side)  # type: ignore[arg-type]
    packed = packed_rows(given_trees, pad_id=PAD, width=width)
    with torch.no_grad():
        plain, shared = completion_logps(llama(), padded), completion_logps(llama(), packed)
    assert shared.dtype == torch.float64
    assert torch.allclose(plain, shared, rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(TREES, st.randoms(use_true_random=False))
def test_log_probs_do_not_depend_on_the_order_of_the_batch(given_trees: list[Tree], random: object) -> None:
    order = list(range(len(given_trees)))
    random.shuffle(order)  # type: ignore[attr-defined]
    starts = [0]
    for tree in given_trees:
        starts.append(starts[-1] + len(tree.completions))
    moved = [k for i in order for k in range(starts[i], starts[i + 1])]
    with torch.no_grad():
        before = completion_logps(llama(), packed_rows(given_trees, pad_id=PAD, width=24))
        after = completion_logps(llama(), packed_rows([given_trees[i] for i in order], pad_id=PAD, width=24))
    assert torch.allclose(before[moved], after, rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(TREES, WIDTHS)
def test_the_same_trees_give_the_same_rows(given_trees: list[Tree], width: int | None) -> None:
    one, two = (packed_rows(given_trees, pad_id=PAD, width=width) for _ in range(2))
    for name, value in vars(one).items():
        same = torch.equal(value, vars(two)[name]) if isinstance(value, torch.Tensor) else value == vars(two)[name]
        assert same, name


def test_gradients_do_not_depend_on_the_layout() -> None:
    """In GPT-NeoX, which computes all in float64; Llama's norms are in float32."""
    model = tiny("gpt_neox", dtype=torch.float64)
    batch = trees()
    weights = torch.linspace(-1, 1, sum(len(tree.completions) for tree in batch), dtype=torch.float64)
    found = []
    for rows in (padded_rows(batch, pad_id=PAD), packed_rows(batch, pad_id=PAD, width=40)):
        model.zero_grad()
        (weights * completion_logps(model, rows)).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert found[0].abs().max() > 1
    assert torch.allclose(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_rows_are_few_and_no_wider_than_they_need() -> None:
    """Trees of 6, 5, 4, 3, 2 tokens are 20 tokens: two rows of 10, though 12 would be allowed."""
    lengths = (5, 4, 3, 2, 1)
    batch = [Tree((3 + i,), ((3,) * n,)) for i, n in enumerate(lengths)]
    assert packed_rows(batch, pad_id=PAD, width=12).input_ids.shape == (2, 10)


def test_trees_of_one_size_keep_their_order() -> None:
    batch = [Tree((prompt,), ((3,),)) for prompt in (9, 7, 8)]
    assert packed_rows(batch, pad_id=PAD, width=2).input_ids.tolist() == [[9, 3], [7, 3], [8, 3]]


def test_trees_of_one_prompt_that_do_not_fit_together_stay_apart() -> None:
    """2 + 4 + 4 = 10 tokens fit in a row of 10; the third branch of 4 tokens needs the prompt again."""
    batch = [Tree((7, 8), ((token,) * 4,)) for token in (3, 4, 5)]
    rows = packed_rows(batch, pad_id=PAD, width=10)
    assert rows.input_ids.tolist() == [[7, 8, 3, 3, 3, 3, 4, 4, 4, 4], [7, 8, 5, 5, 5, 5, PAD, PAD, PAD, PAD]]


def test_a_tree_longer_than_the_width_makes_the_rows_as_wide_as_it_is() -> None:
    rows = packed_rows([Tree((3,), ((4,) * 30,)), Tree((5,), ((6,),))], pad_id=PAD, width=10)
    assert rows.input_ids.shape == (2, 31)


def test_a_tree_needs_a_prompt_and_a_completion() -> None:
    with pytest.raises(DataError, match="no tokens"):
        Tree((), ((3,),))
    with pytest.raises(DataError, match="no completions"):
        Tree((3,), ())


def test_rows_move_with_all_their_tensors() -> None:
    rows = packed_rows(trees(), pad_id=PAD)
    moved = rows.to("meta")
    assert all(v.device.type == "meta" for v in vars(moved).values() if isinstance(v, torch.Tensor))
    assert (moved.n_completions, moved.longest) == (rows.n_completions, rows.longest)


def test_a_flat_row_by_hand() -> None:
    """Prompts 7 with branches (3 4) and (5), which came as two trees, then 9 with (6): no padding, one block."""
    rows = flat_rows([Tree((7,), ((3, 4),)), Tree((9,), ((6,),)), Tree((7,), ((5,),))], pad_id=PAD)
    assert rows.input_ids.tolist() == [[7, 3, 4, 5, 9, 6]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 1, 0, 1]]
    assert rows.targets.tolist() == [3, 4, 6, 5]
    assert rows.source.tolist() == [0, 1, 4, 0]
    assert rows.blocks == (6,)


def test_a_block_of_a_flat_row_ends_where_another_tree_would_make_it_too_long() -> None:
    sizes = [BLOCK - 10, 5, 20, BLOCK + 1, 2]
    batch = [Tree((i + 3,), ((3,) * (size - 1),)) for i, size in enumerate(sizes)]
    assert flat_rows(batch, pad_id=PAD).blocks == (BLOCK - 5, 20, BLOCK + 1, 2)


def test_one_prompt_with_many_long_completions_makes_several_blocks() -> None:
    """Attention costs the square of a block, so trees of one prompt are joined up to the width of a row only."""
    rows = flat_rows([Tree((7,), ((token,) * 200,)) for token in range(20)], pad_id=PAD)
    assert rows.blocks == (401,) * 10


def test_what_completions_begin_with_stands_once_by_hand() -> None:
    """Prompt 7 with (3 4 5), (3 6), (3 4) and nothing: columns 7 3 4 5 6, of which 6 sees 7 and 3."""
    rows = flat_rows([Tree((7,), ((3, 4, 5), (3, 6), (3, 4), ()))], pad_id=PAD)
    assert rows.input_ids.tolist() == [[7, 3, 4, 5, 6]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert rows.visible_until is not None and rows.visible_until.tolist() == [[5, 5, 4, 4, 5]]
    assert rows.targets.tolist() == [3, 4, 5, 3, 6, 3, 4]
    assert rows.source.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert rows.own.tolist() == [1, 2, 3, 1, 4, 1, 2]
    assert rows.before.tolist() == [0, 0, 0, 0]
    assert rows.longest == 4


@given(TREES)
@settings(max_examples=30, deadline=None)
def test_flat_rows_give_the_log_probs_of_plain_rows(given_trees: list[Tree]) -> None:
    with torch.no_grad():
        flat = completion_logps(llama(), flat_rows(given_trees, pad_id=PAD))
        plain = completion_logps(llama(), padded_rows(given_trees, pad_id=PAD))
    torch.testing.assert_close(flat, plain, rtol=0, atol=1e-9)
