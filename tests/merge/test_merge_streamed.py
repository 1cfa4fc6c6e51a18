from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merge_tools import stored
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sacpo.errors import ModelError
from sacpo.merge import linear, merge_checkpoints, merged_model, tabulate, task_vectors
from sacpo.merge import streamed as streamed_module

Make = Callable[..., Path]


def merge(first: Path, later: Path, *qs: float) -> list[Path]:
    terms, rows = tabulate([linear([first, later], (1 - q, q)) for q in qs])
    outs = [first.parent / f"merged-{q}" for q in qs]
    merge_checkpoints(terms, rows, outs)
    return outs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_merge_is_the_float64_formula_rounded_to_the_models_dtype(
    checkpoint: Make, dtype: torch.dtype, tied: bool
) -> None:
    """The bound is half a unit in the last place of the dtype, and the float32 sum's own error on top."""
    a, b = (checkpoint(n, s, dtype=dtype, tie_word_embeddings=tied) for n, s in (("a", 1), ("b", 2)))
    (out,) = merge(a, b, 0.3)
    first, later, merged = stored(a), stored(b), stored(out)
    assert merged.keys() == first.keys()
    assert ("lm_head.weight" in merged) is (not tied)
    half_ulp = torch.finfo(dtype).eps / 2
    for name, tensor in merged.items():
        exact = 0.7 * first[name].double() + 0.3 * later[name].double()
        slack = 2e-7 * (first[name].double().abs() + later[name].double().abs())
        assert tensor.dtype == dtype
        assert bool(((tensor.double() - exact).abs() <= half_ulp * exact.abs() + slack).all()), name


@pytest.mark.parametrize("row", [(0.5, 0.3, 0.2), (0.0, 0.25, 0.75), (1 / 3, 1 / 3, 1 / 3)])
def test_a_merge_of_three_is_the_float64_formula(checkpoint: Make, tmp_path: Path, row: tuple[float, ...]) -> None:
    """On the simplex, and as task vectors `first + s (w_2 (second - base) + w_3 (third - base))`; in memory alike."""
    folders = [checkpoint(name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    base = checkpoint("base", 4)
    combinations = [linear(folders, row), task_vectors(folders, base, row, 1.5)]
    terms, rows = tabulate(combinations)
    outs = [tmp_path / "mean", tmp_path / "sum"]
    merge_checkpoints(terms, rows, outs)
    mean, added = map(stored, outs)
    parts, origin = [stored(folder) for folder in folders], stored(base)
    for name in mean:
        first, second, third = (part[name].double() for part in parts)
        exact = row[0] * first + row[1] * second + row[2] * third
        torch.testing.assert_close(mean[name].double(), exact, rtol=0, atol=2e-6)
        changed = first + 1.5 * (row[1] * (second - origin[name]) + row[2] * (third - origin[name]))
        torch.testing.assert_close(added[name].double(), changed, rtol=0, atol=4e-6)
    loaded = merged_model(terms, rows[0]).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in mean.items())


def test_one_pass_writes_what_single_merges_write(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    together = [stored(out) for out in merge(a, b, 0.25, 0.5, 0.75)]
    for q, tensors in zip((0.25, 0.5, 0.75), together, strict=True):
        (alone,) = merge(a, b, q)
        assert all(torch.equal(tensors[name], tensor) for name, tensor in stored(alone).items())
    assert not torch.equal(together[0]["model.norm.weight"], together[1]["model.norm.weight"])


def test_the_ends_of_a_sweep_are_the_source_files_byte_for_byte(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1, dtype=torch.bfloat16), checkpoint("b", 2, dtype=torch.bfloat16)
    at_zero, at_one = merge(a, b, 0.0, 1.0)
    body = [(folder / "model.safetensors").read_bytes() for folder in (a, b, at_zero, at_one)]
    assert body[0][-5000:] != body[1][-5000:]
    headers = [8 + int.from_bytes(content[:8], "little") for content in body]
    assert body[2][headers[2] :] == body[0][headers[0] :]
    assert body[3][headers[3] :] == body[1][headers[1] :]


def test_shards_and_single_files_merge_and_the_later_models_layout_is_kept(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2, shard="4KB")
    names = sorted(path.name for path in b.glob("*.safetensors*"))
    assert len(names) > 3
    (sharded,), (single,) = merge(a, b, 0.25), merge(b, a, 0.75)
    assert sorted(path.name for path in sharded.glob("*.safetensors*")) == names
    assert [path.name for path in single.glob("*.safetensors*")] == ["model.safetensors"]
    ours, theirs = stored(sharded), stored(single)
    assert ours.keys() == theirs.keys()
    # 0.75 a + 0.25 b and 0.25 b + 0.75 a: a rounded sum of two rounded products does not depend on their order
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_pieces_of_a_tensor_fit_together(checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    (whole,) = merge(a, b, 0.25)
    expected = stored(whole)
    monkeypatch.setattr(streamed_module, "PIECE", 7)
    (cut,) = merge(a, b, 0.25)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in stored(cut).items())


def test_a_merged_folder_is_a_standard_one_with_the_later_models_tokenizer(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    (b / "manifest.json").write_text("{}")
    (b / "optimizer.pt").write_bytes(b"")
    (out,) = merge(a, b, 0.5)
    model = AutoModelForCausalLM.from_pretrained(out)
    expected = stored(out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(b).chat_template
    assert not (out / "manifest.json").exists()
    assert not (out / "optimizer.pt").exists()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_model_merged_in_memory_equals_the_one_written(checkpoint: Make, dtype: torch.dtype, tied: bool) -> None:
    a, b, base = (
        checkpoint(name, seed, dtype=dtype, tie_word_embeddings=tied, shard=shard)
        for name, seed, shard in (("a", 1, "4KB"), ("b", 2, "5GB"), ("base", 3, "5GB"))
    )
    terms, rows = tabulate([linear([a, b], (0.7, 0.3)), task_vectors([a, b], base, (0.7, 0.3), 1.5)])
    outs = [a.parent / "linear", a.parent / "sum"]
    merge_checkpoints(terms, rows, outs)
    for out, row in zip(outs, rows, strict=True):
        written, made = AutoModelForCausalLM.from_pretrained(out, dtype="auto"), merged_model(terms, row)
        assert made.dtype == written.dtype == dtype
        assert made.generation_config == written.generation_config
        assert (made.lm_head.weight is made.model.embed_tokens.weight) is tied
        ours, theirs = made.state_dict(), written.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_task_vector_sum_is_the_float64_formula(checkpoint: Make) -> None:
    a, b, base = (checkpoint(name, seed) for seed, name in enumerate(("a", "b", "base")))
    terms, rows = tabulate([task_vectors([a, b], base, (0.5, 0.5), 3.0)])
    merge_checkpoints(terms, rows, [a.parent / "sum"])
    first, later, origin = stored(a), stored(b), stored(base)
    for name, tensor in stored(a.parent / "sum").items():
        exact = first[name].double() + 1.5 * (later[name].double() - origin[name].double())
        assert torch.allclose(tensor.double(), exact, rtol=0, atol=2e-6), name


def test_different_shapes_are_refused_by_the_tensors_name(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2, intermediate_size=24)
    shutil.copy(a / "config.json", b / "config.json")
    with pytest.raises(ModelError, match=r"different shapes(.|\n)*mlp.down_proj.weight: \[16, 20\] and \[16, 24\]"):
        merge(a, b, 0.5)
    assert not (a.parent / "merged-0.5").exists()


def test_different_architectures_are_refused_by_the_differing_key(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2, num_attention_heads=4, head_dim=8)
    with pytest.raises(ModelError, match="num_attention_heads: 2 and 4"):
        merge(a, b, 0.5)


def test_a_tied_and_an_untied_model_are_refused(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1, tie_word_embeddings=True), checkpoint("b", 2, tie_word_embeddings=False)
    shutil.copy(a / "config.json", b / "config.json")
    with pytest.raises(ModelError, match=r"only one of the models(.|\n)*lm_head.weight, only in .*b"):
        merge(a, b, 0.5)


def test_different_tokenizers_are_refused_with_the_tokens_named(checkpoint: Make) -> None:
    words = ("<pad>", "</s>", "<unk>", "stir", "the", "salad", "no")
    a, b = checkpoint("a", 1), checkpoint("b", 2, words=words)
    with pytest.raises(ModelError, match=r"differ in 2 tokens(.|\n)*'salad' \(None and 5\), 'soup' \(5 and None\)"):
        merge(a, b, 0.5)


def test_pickles_are_refused(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    (b / "model.safetensors").rename(b / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickles"):
        merge(a, b, 0.5)


def test_a_file_that_was_cut_short_is_refused_by_name(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    weights = b / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"not an intact safetensors file(.|\n)*b/model.safetensors"):
        merge(a, b, 0.5)


def test_a_missing_shard_is_refused_by_name(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2, shard="4KB")
    next(b.glob("model-00002-*")).unlink()
    with pytest.raises(ModelError, match=r"missing(.|\n)*model-00002-"):
        merge(a, b, 0.5)


def test_a_merge_that_overflows_is_refused_by_the_tensors_name(checkpoint: Make) -> None:
    """65504 is the greatest float16; 1 * 65504 + 1 * 65504 is not one."""
    a, b = checkpoint("a", 1, dtype=torch.float16), checkpoint("b", 2, dtype=torch.float16)
    for folder in (a, b):
        tensors = stored(folder)
        tensors["model.norm.weight"][3] = 65504.0
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"not finite(.|\n)*model.norm.weight"):
        merge_checkpoints([a, b], [[1.0, 1.0]], [a.parent / "sum"])


def _with_tensor(folder: Path, tensor: torch.Tensor) -> None:
    save_file({**stored(folder), "steps": tensor}, folder / "model.safetensors", {"format": "pt"})


def test_equal_integers_are_kept_and_different_ones_refused(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    for folder in (a, b):
        _with_tensor(folder, torch.tensor([3, 5]))
    (out,) = merge(a, b, 0.25)
    assert stored(out)["steps"].tolist() == [3, 5]
    _with_tensor(b, torch.tensor([3, 6]))
    with pytest.raises(ModelError, match=r"cannot be averaged(.|\n)*steps"):
        merge(a, b, 0.25)


def test_bookkeeping_in_the_configuration_may_differ(checkpoint: Make) -> None:
    a, b = checkpoint("a", 1), checkpoint("b", 2)
    config = json.loads((b / "config.json").read_text())
    (b / "config.json").write_text(json.dumps({**config, "transformers_version": "5.0.0", "use_cache": False}))
    (out,) = merge(a, b, 0.5)
    assert json.loads((out / "config.json").read_text())["transformers_version"] == "5.0.0"


MEASURE = """
import resource, sys
from pathlib import Path
from sacpo.merge import merge_checkpoints

folder = Path(sys.argv[1])
for size in ("small", "large"):
    outs = [folder / f"{size}-{q}" for q in (0.25, 0.5, 0.75)]
    rows = [[1 - q, q] for q in (0.25, 0.5, 0.75)]
    merge_checkpoints([folder / f"{size}-A", folder / f"{size}-B"], rows, outs)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """A pair of 4 MB and then one of 200 MB, three weights each, in one process: its peak rises by less than 16 MB.

    One tensor of the large pair has 100 MB, so not even one tensor is in memory as a whole.
    """
    for size, shapes in (("small", [(1024, 2048)]), ("large", [(25_000, 2048), *[(1024, 2048)] * 24])):
        for seed, name in enumerate("AB"):
            folder = tmp_path / f"{size}-{name}"
            folder.mkdir()
            (folder / "config.json").write_text("{}")
            tensors = {f"t{i}": torch.full(shape, 0.5 + seed, dtype=torch.bfloat16) for i, shape in enumerate(shapes)}
            save_file(tensors, folder / "model.safetensors")
    done = subprocess.run([sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True)
    small, large = (float(line) for line in done.stdout.split())
    assert large - small < 16
    assert (tmp_path / "large-0.5" / "model.safetensors").stat().st_size > 200_000_000
