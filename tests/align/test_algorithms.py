"""The registry of algorithms: what a recipe knows of one and its module fit together."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
import torch
from align_toys import job, step, toy_pairs
from typer.testing import CliRunner

import sacpo.align.objectives as package
import sacpo.align.reference.source as source_module
import sacpo.align.step as step_module
from sacpo.align.objectives.kto import unpaired
from sacpo.align.objectives.objective import Objective
from sacpo.align.objectives.registry import Parts, algorithms, make_objective
from sacpo.align.reference.source import Reference
from sacpo.align.sft import SftObjective, run_sft
from sacpo.cli import app
from sacpo.data.packing import Rows, Tree, padded_rows
from sacpo.data.records import Demonstration, Pair
from sacpo.data.tokenize import TokenDemo
from sacpo.errors import DataError, ModelError
from sacpo.losses.logps import completion_logps
from sacpo.recipe.algorithms import ALGORITHMS, AlgorithmName, AlgorithmOptions
from sacpo.recipe.schema import LoraSpec
from sacpo.system.progress import QUIET

NAMES = sorted(name for name, known in ALGORITHMS.items() if "pairs" in known.records)
"""The algorithms that learn from pairs."""
LN2 = (0.693147, 0.6931)
FIRST_LOSS = {"dpo": LN2, "ipo": (6.25, 6.25), "kto": (0.55, 0.5), "robust": LN2, "chipo": LN2, "bso": (0, 0)}
"""With the options of `UNLIKE`, and without; the one list of names here, beside RWR, whose first loss nobody knows."""
UNLIKE: dict[str, dict[str, Any]] = {
    "dpo": {"label_smoothing": 0.1},
    "kto": {"desirable_weight": 1.5, "undesirable_weight": 0.7},
    "robust": {"label_smoothing": 0.1},
}
"""Options with which a first loss is not what it would be without them."""


def trained(
    name: str, base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **training: Any
) -> tuple[Objective, dict[str, Any]]:
    """Return the objective and the summary of a short training on soft labels and completions of unlike lengths."""
    made: list[Objective] = []

    def kept(parts: Parts) -> Any:
        objective, counts = make_objective(parts)
        made.append(objective)
        return objective, counts

    monkeypatch.setattr(step_module, "make_objective", kept)
    lora = training.pop("lora", None)
    records = toy_pairs(16, p=(1.0, 0.7, 0.2))
    summary = step_module.run_align(
        job(base, lora=lora, **training), step(name, **UNLIKE.get(name, {})), 0.2, records, folder, folder / "cache"
    )
    return made[0], summary


def test_every_algorithm_is_a_module_and_in_the_recipes_table() -> None:
    """A module without its line, and a line without its module, are forgotten registrations."""
    assert algorithms() == sorted(ALGORITHMS) == sorted(get_args(AlgorithmName)) == sorted([*FIRST_LOSS, "rwr"])


def test_every_option_belongs_to_an_algorithm_and_says_to_which() -> None:
    owned = {option for known in ALGORITHMS.values() for option in known.options}
    assert owned == set(AlgorithmOptions.model_fields)
    for name, field in AlgorithmOptions.model_fields.items():
        owners = ", ".join(known.title for known in ALGORITHMS.values() if name in known.options)
        assert (field.description or "").startswith(f"{owners}: "), name


@pytest.mark.parametrize("name", NAMES)
def test_the_first_loss_is_the_promised_one(
    name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch holds all records. beta = .2: ln 2, 1 / (4 x .04) = 6.25, (1.5 + .7) / 4 = .55; BSO's is 0 at R = 1."""
    objective, summary = trained(name, base, tmp_path, monkeypatch, per_device_train_batch_size=32)
    assert objective.first_loss is not None
    assert summary["first_loss"] == pytest.approx(objective.first_loss.value, rel=1e-5, abs=1e-6)
    assert summary["first_loss"] == pytest.approx(FIRST_LOSS[name][0], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pairs", "unpaired"])
def test_a_step_takes_the_records_of_the_table_and_no_other(name: str, kind: str, base: Path, tmp_path: Path) -> None:
    records: Any = toy_pairs(8) if kind == "pairs" else unpaired(toy_pairs(8))
    run = (job(base), step(name, **UNLIKE.get(name, {})), 0.5, records, tmp_path / "out", tmp_path / "cache")
    if kind in ALGORITHMS[name].records:  # type: ignore[index]
        assert step_module.run_align(*run)["kind"] == name
        return
    with pytest.raises(DataError, match=f"{ALGORITHMS[name].title} cannot learn") as caught:  # type: ignore[index]
        step_module.run_align(*run)
    assert caught.value.allowed == "pairs; labelled completions train with algorithm: kto"


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_starts_at_its_reference(
    name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = LoraSpec(r=4, lora_alpha=8)
    options = {"per_device_train_batch_size": 32, "num_train_epochs": 8, "learning_rate": 0.05}
    objective, summary = trained(name, base, tmp_path, monkeypatch, lora=lora, **options)
    assert objective.first_loss is not None
    assert summary["first_loss"] == pytest.approx(objective.first_loss.value, rel=1e-5, abs=1e-6)
    assert summary["last_loss"] < 0.99 * summary["first_loss"] - 1e-3


def offset_pairs() -> list[Pair]:
    """Eight pairs; every other one has an offset of 2, turned round where its label is below one half."""
    pairs = toy_pairs(8, p=(1.0, 0.2))
    return [replace(pair, offset=2.0 if i % 2 else 0.0) for i, pair in enumerate(pairs)]


def test_offsets_reach_the_loss_of_those_that_have_them(base: Path, tmp_path: Path) -> None:
    """Labels 1 without and .2 with an offset of 2, which is .8 with -2 the other way round.

    DPO: (ln 2 + .8 ln(1 + e^-2) + .2 ln(1 + e^2)) / 2 = (.693147 + .526928) / 2 = .610038.
    """
    out = {name: tmp_path / name for name in ("dpo", "bso")}
    found = {
        name: step_module.run_align(
            job(base, per_device_train_batch_size=8), step(name), 0.5, offset_pairs(), folder, tmp_path / "cache"
        )["first_loss"]
        for name, folder in out.items()
    }
    assert found["dpo"] == pytest.approx(0.610038, rel=1e-5)
    value = {r: (0.2 * math.exp(1.2 * r) - 1.2 * math.exp(-0.2 * r) + 1) / 0.96 for r in (-2, 2)}
    assert found["bso"] == pytest.approx((0.8 * value[-2] + 0.2 * value[2]) / 2, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if not ALGORITHMS[name].offsets])  # type: ignore[index]
def test_others_refuse_pairs_with_offsets(name: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{ALGORITHMS[name].title} has no offsets") as caught:  # type: ignore[index]
        step_module.run_align(job(base), step(name), 0.5, offset_pairs(), tmp_path / "out", tmp_path / "cache")
    assert caught.value.allowed == ["DPO", "robust DPO", "BSO"]


def test_robust_dpo_without_its_share_is_refused() -> None:
    with pytest.raises(ValueError, match="robust DPO without 'label_smoothing' is DPO"):
        step("robust")


def test_ipo_sees_a_foreign_reference_that_shifts_both_completions_alike(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums off by .01 on both sides cancel in DPO's loss; over 2 and 5 tokens they do not in IPO's."""
    compute = source_module.reference_logps
    monkeypatch.setattr(source_module, "reference_logps", lambda *a, **k: compute(*a, **k) + 0.01)
    step_module.run_align(job(base), step("dpo"), 0.5, toy_pairs(8), tmp_path / "dpo", tmp_path / "a")
    with pytest.raises(ModelError, match=r"would not be 1/\(4 beta\^2\) = 1\n"):
        step_module.run_align(job(base), step("ipo"), 0.5, toy_pairs(8), tmp_path / "ipo", tmp_path / "b")


def test_packed_and_padded_rows_and_a_cached_reference_give_one_ipo_curve(base: Path, tmp_path: Path) -> None:
    curves = []
    for layout, cache in (("packed", "a"), ("padded", "b"), ("packed", "a")):
        out = tmp_path / f"{len(curves)}"
        step_module.run_align(
            job(base), step("ipo"), 0.5, toy_pairs(24, p=(1.0, 0.3)), out, tmp_path / cache, layout=layout
        )
        curves.append((out / "metrics.jsonl").read_text().splitlines())
    assert curves[0] == curves[2]
    assert len(list((tmp_path / "a").iterdir())) == 1
    for packed, padded in zip(curves[0], curves[1], strict=True):
        assert json.loads(packed)["loss"] == pytest.approx(json.loads(padded)["loss"], rel=1e-5)


def test_rwr_is_maximum_likelihood_on_its_answers(base: Path, tmp_path: Path) -> None:
    """The same answers, options and seed give the weights that SFT gives; pairs are refused."""
    answers = [Demonstration(pair.prompt, pair.chosen) for pair in toy_pairs(16)]
    step_module.run_align(job(base), step("rwr"), 0.5, answers, tmp_path / "rwr", tmp_path / "cache")  # type: ignore[arg-type]
    run_sft(job(base), answers, tmp_path / "sft")
    curves = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("rwr", "sft")]
    assert curves[0] == curves[1]
    with pytest.raises(DataError, match="RWR cannot learn"):
        step_module.run_align(job(base), step("rwr"), 0.5, toy_pairs(8), tmp_path / "no", tmp_path / "cache")


def test_the_likelihood_of_weighted_answers(base: Path) -> None:
    """Weights 2 and .5: the loss is twice the first answer's -log pi and half of the second's; the tokens stay 5.

    Neighbours of one prompt stay neighbours.
    """
    model, tokenizer = job(base).load_model(), job(base).load_tokenizer()
    tokens = [TokenDemo("a", (3, 4), (5, 6), 2.0), TokenDemo("b", (3, 4), (7, 8, 9), 0.5)]

    def padded(trees: Sequence[Tree]) -> Rows:
        return padded_rows(trees, pad_id=tokenizer.pad_token_id)

    batch = SftObjective(tokens, padded).collate([0, 1])
    with torch.no_grad():
        loss, _ = SftObjective(tokens, padded).loss(batch, lambda function: function(model))
        first, second = completion_logps(model, batch.rows).tolist()
    assert batch.units == 5
    assert loss.item() == pytest.approx(-2 * first - 0.5 * second, rel=1e-6)


def listwise(answers: Sequence[Demonstration], training: Any, **reference: Any) -> tuple[Any, Any]:
    """Return a listwise objective over answers, and its model; `reference` stands in place of what a step has."""
    model, tokenizer = training.load_model(), training.load_tokenizer()

    def padded(trees: Sequence[Tree]) -> Rows:
        return padded_rows(trees, pad_id=tokenizer.pad_token_id)

    def logps(trees: Sequence[Tree], ids: Sequence[str]) -> torch.Tensor:
        return completion_logps(model, padded(trees)).detach()

    given = {"progress": QUIET, "layout": lambda trees: padded, "logps": logps, "autocast": None, "batch_size": 8}
    parts = Parts(
        training,
        step("rwr", listwise=3.0, resample={"judge": "x", "draw": "all"}),
        0.5,
        answers,
        tokenizer,
        cast(Reference, SimpleNamespace(**{**given, **reference})),
    )
    return make_objective(parts)[0], model


def test_a_listwise_loss_stands_beside_the_likelihood(base: Path, tmp_path: Path) -> None:
    """At its reference a model gives two samples halves each: ln 2 times the sum of their weights; of one answer 0."""
    first, second = (pair.prompt for pair in toy_pairs(2))
    answers = [
        Demonstration(first, "w1 w2", weight=1.5),
        Demonstration(first, "w2", weight=0.5),
        Demonstration(second, "w1", weight=2.0),
    ]
    start = job(base, per_device_train_batch_size=4, max_steps=1)
    options = step("rwr", listwise=3.0, resample={"judge": "x", "draw": "all"})
    step_module.run_align(start, options, 0.5, answers, tmp_path / "out", tmp_path / "cache")  # type: ignore[arg-type]
    found = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert found["loss"] == pytest.approx(found["losses/likelihood"] + 3 * found["losses/listwise"], rel=1e-5)
    objective, _ = listwise(answers, start)
    assert objective.pair_groups == [0, 0, 1]
    assert found["losses/listwise"] == pytest.approx(2 * LN2[0] / objective.collate([0, 1, 2]).units, rel=1e-5)


def test_records_know_what_the_reference_gives_them(base: Path, tmp_path: Path) -> None:
    """Answers 2 and 1 of a prompt, in this order, and one of another: log nu + log pi - log pi_ref is -1 + d and ln 2.

    d and 0 are what their log-probs and the model's differ by. p = s and 1 - s, s = sigmoid(d - 1 - ln 2).
    """
    first, second = (pair.prompt for pair in toy_pairs(2))
    plain = [
        Demonstration(prompt, text) for prompt, text in ((first, "w1"), (first, "w2"), (first, "w1 w2"), (second, "w1"))
    ]
    start = job(base)
    own = listwise(plain, start)[0].reference.tolist()
    known = [
        replace(one, weight=weight, ref_weight=standing, ref_logp=logp - gap)
        for one, logp, weight, standing, gap in zip(
            plain, own, (9.0, 0.5, 2.0, 7.0), (5.0, 2.0, math.exp(-1), 3.0), (8.0, 0.0, 0.7, 6.0), strict=True
        )
    ]
    objective, model = listwise(known, start)
    batch = objective.collate([2, 1, 3])
    with torch.no_grad():
        metrics = objective.loss(batch, lambda function: function(model))[1]
        gaps, _ = objective.start_gaps(batch, lambda function: function(model))
    s = 1 / (1 + math.exp(-(0.7 - 1 - math.log(2))))
    assert metrics["losses/listwise"][0].item() == pytest.approx(-2 * math.log(s) - 0.5 * math.log(1 - s), rel=1e-4)
    assert gaps.tolist() == pytest.approx([0.7, 0.0, 6.0], abs=1e-4)
    for other, reference in ((known, {"autocast": torch.bfloat16}), ([*known[:3], plain[3]], {})):
        assert listwise(other, start, **reference)[0].reference.tolist() == pytest.approx(own)
    with pytest.raises(ModelError, match="the policy differs from its reference before the first update"):
        options = step("rwr", listwise=1.0, resample={"judge": "x", "draw": "all"})
        step_module.run_align(start, options, 0.5, known, tmp_path / "out", tmp_path / "cache")  # type: ignore[arg-type]


def test_a_batch_that_is_smaller_than_a_list_is_told(base: Path) -> None:
    prompt = toy_pairs(1)[0].prompt
    said: list[str] = []
    told = SimpleNamespace(notice=said.append, task=QUIET.task)
    answers = [Demonstration(prompt, text) for text in ("w1", "w2", "w3")]
    for room in (2, 3):
        listwise(answers, job(base), progress=told, batch_size=room)
    assert len(said) == 1 and "holds 2 answers and a prompt has up to 3" in said[0]


def test_answers_of_one_prompt_stay_together(base: Path) -> None:
    first, second = (pair.prompt for pair in toy_pairs(2))
    answers = [
        Demonstration(prompt, text) for prompt, text in ((first, "a"), (first, "b"), (second, "a"), (first, "c"))
    ]
    reference = cast(Reference, SimpleNamespace(progress=QUIET, layout=lambda trees: None))
    parts = Parts(job(base), step("rwr"), 0.5, answers, job(base).load_tokenizer(), reference)
    assert make_objective(parts)[0].pair_groups == [0, 0, 1, 2]


def test_a_forgotten_line_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that makes an objective is an algorithm, whether or not a recipe knows it."""
    (tmp_path / "slic.py").write_text("def make(parts):\n    raise NotImplementedError\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert algorithms() == sorted([*ALGORITHMS, "slic"])


def test_the_command_line_trains_every_algorithm(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": p.prompt.text, "chosen": p.chosen, "rejected": p.rejected, "p": p.p} for p in toy_pairs(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in NAMES:
        line = ["align", str(base), "--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / name)]
        options = ["--algorithm", name, "--beta", "0.2", "--base", "template=plain", "--base", "device=cpu"]
        options += ["--label-smoothing", "0.1"] if name == "robust" else []
        done = CliRunner().invoke(app, [*line, *options])
        assert done.exit_code == 0, done.output
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert (summary["kind"], round(summary["first_loss"], 4)) == (name, FIRST_LOSS[name][1])
