"""A learning rate of the head's own: what it moves, what keeps its rate, and where there is no such thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_toys import config, job, pair_rows, step, toy_demonstrations, toy_pairs, trained, write_base
from safetensors.torch import load_file
from transformers import AutoTokenizer

from sacpo import PreferenceTrainer
from sacpo.align.engine.rates import check_rate, give_rate, refuse_deepspeed
from sacpo.align.reward_model import train_reward_model
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.errors import RecipeError
from sacpo.recipe import parse_recipe
from sacpo.recipe.schema import LoraSpec

STILL = 1e-30
"""A rate that moves nothing."""
CONSTANT: dict[str, Any] = {"lr_scheduler_type": "constant", "warmup_steps": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("models") / "base")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def align(base: Path, out: Path, lora: LoraSpec | None = None, **options: Any) -> dict[str, torch.Tensor]:
    run_align(job(base, lora=lora, **CONSTANT, **options), step(), 0.5, toy_pairs(16), out, out / "cache")
    return weights(out / "model")


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of the weights that differ."""
    assert before.keys() == after.keys()
    return {name for name, weight in before.items() if not torch.equal(weight, after[name])}


def test_each_rate_moves_its_own_weights(base: Path, tmp_path: Path) -> None:
    """Where one of them is nearly 0, the others are what one rate for all makes of them in the first update."""
    start = weights(base)
    once = {"max_steps": 1, "learning_rate": 1e-2}
    both = align(base, tmp_path / "both", **once)
    assert moved(start, both) == start.keys()
    head = align(base, tmp_path / "head", **{**once, "learning_rate": STILL}, head_learning_rate=1e-2)
    assert moved(start, head) == {"lm_head.weight"}
    assert torch.equal(head["lm_head.weight"], both["lm_head.weight"])
    body = align(base, tmp_path / "body", **once, head_learning_rate=STILL)
    assert moved(start, body) == start.keys() - {"lm_head.weight"}
    assert moved(both, body) == {"lm_head.weight"}


def test_the_rate_of_all_for_the_head_too_changes_nothing(base: Path, tmp_path: Path) -> None:
    """Decay of weights and the schedule are the head's as well."""
    options: dict[str, Any] = {"weight_decay": 0.1, "learning_rate": 1e-2, "num_train_epochs": 2}
    options |= {"lr_scheduler_type": "cosine", "warmup_steps": 0.3}
    found = [
        weights(out / "model")
        for out, rate in ((tmp_path / "one", {}), (tmp_path / "two", {"head_learning_rate": 1e-2}))
        if run_align(job(base, **options, **rate), step(), 0.5, toy_pairs(16), out, out / "cache")
    ]
    assert not moved(*found)


def test_it_is_for_every_kind_of_training(base: Path, tmp_path: Path) -> None:
    still = {"learning_rate": STILL, "head_learning_rate": 1e-2, "max_steps": 1, **CONSTANT}
    run_sft(job(base, **still), toy_demonstrations(8), tmp_path / "sft")
    assert moved(weights(base), weights(tmp_path / "sft/model")) == {"lm_head.weight"}
    train_reward_model(job(base, **still), toy_pairs(16), tmp_path / "some")
    train_reward_model(job(base, **still, seed=1), toy_pairs(16, seed=3), tmp_path / "other")
    assert moved(weights(tmp_path / "some/model"), weights(tmp_path / "other/model")) == {"score.weight"}
    trainer = trained(base, tmp_path / "trainer", **still)
    after = {name: weight.detach() for name, weight in trainer.model.named_parameters()}
    assert moved({name: weights(base)[name] for name in after}, after) == {"lm_head.weight"}


def test_tied_embeddings_have_one_rate(tmp_path: Path) -> None:
    tied = write_base(tmp_path / "tied", tie_word_embeddings=True)
    found = align(tied, tmp_path / "out", learning_rate=STILL, head_learning_rate=1e-2)
    assert moved(weights(tied), found) == {"model.embed_tokens.weight"}


def test_an_adapter_on_the_head_has_it(base: Path, tmp_path: Path) -> None:
    rates = {"learning_rate": STILL, "head_learning_rate": 1e-2, "max_steps": 2}
    found = align(base, tmp_path / "out", LoraSpec(r=2, target_modules=["lm_head", "q_proj"]), **rates)
    outer = [weight for name, weight in found.items() if name.endswith("lora_B.weight")]
    assert [bool(weight.abs().max() > 1e-3) for weight in outer] == ["lm_head" in n for n in found if "lora_B" in n]


def test_what_has_no_rate_of_its_own_is_refused(base: Path, tmp_path: Path) -> None:
    """By name and value, before the reference is asked."""
    rate = {"head_learning_rate": 1e-3}
    for lora in (LoraSpec(), LoraSpec(target_modules="all-linear"), LoraSpec(target_modules="ALL-LINEAR")):
        with pytest.raises(
            RecipeError, match=r"leave the head as it is(?s:.*)toy(?s:.*)0\.001(?s:.*)lora\.target_modules"
        ):
            align(base, tmp_path / "out", lora, **rate)
    for lora in (LoraSpec(target_modules=["q_proj"]), LoraSpec(modules_to_save=["embed_tokens"])):
        with pytest.raises(
            RecipeError, match=r"no trained weight in its head(?s:.*)toy, head_learning_rate(?s:.*)0\.001"
        ):
            align(base, tmp_path / "out", lora, **rate)
    with pytest.raises(RecipeError, match=r"one rate for all weights(?s:.*)leave out head_learning_rate or deepspeed"):
        align(base, tmp_path / "out", deepspeed={"zero_optimization": {}}, **rate)
    with pytest.raises(RecipeError, match=r"one rate for all weights(?s:.*)toy, head_learning_rate"):
        run_sft(job(base, deepspeed={"zero_optimization": {}}, **rate), toy_demonstrations(4), tmp_path / "out")
    with pytest.raises(RecipeError, match=r"one rate for all weights(?s:.*)toy, head_learning_rate"):
        train_reward_model(job(base, deepspeed={"zero_optimization": {}}, **rate), toy_pairs(4), tmp_path / "out")
    assert not [*tmp_path.rglob("*.safetensors")], "the reference's log-probs, or a model"


def test_the_trainer_alone_refuses_what_it_cannot_do(base: Path, tmp_path: Path) -> None:
    given = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(
        RecipeError, match=r"an optimiser that is given has its own rates(?s:.*)args, head_learning_rate"
    ):
        trained(base, tmp_path / "given", optimizers=(given, None), head_learning_rate=1e-3)
    for rate in (0.0, -1.0, float("nan"), float("inf"), "1e-3", True):
        with pytest.raises(RecipeError, match=r"no learning rate(?s:.*)args, head_learning_rate"):
            trained(base, tmp_path / "rate", head_learning_rate=rate)
    with pytest.raises(RecipeError, match=r"no head to give a rate"):
        check_rate(torch.nn.Linear(1, 1), 1e-3, "toy")
    with pytest.raises(RecipeError, match=r"DeepSpeed makes the optimiser"):
        refuse_deepspeed(1e-3)
    refuse_deepspeed(None)


def test_a_given_optimiser_trains_without_it(base: Path, tmp_path: Path) -> None:
    model = job(base).load_model()
    given = torch.optim.SGD(model.parameters(), lr=1e-2)
    trainer = PreferenceTrainer(
        model,
        args=config(tmp_path),
        train_dataset=pair_rows(),
        processing_class=AutoTokenizer.from_pretrained(base),
        optimizers=(given, None),
    )
    assert trainer.create_optimizer() is given
    assert [group["lr"] for group in given.param_groups] == [1e-2]


def test_an_optimiser_that_is_made_early_is_kept(base: Path, tmp_path: Path) -> None:
    """And so is the rate in it: it is made once, however often it is asked for."""
    trainer = trained(base, tmp_path, head_learning_rate=3e-3, learning_rate=1e-3, max_steps=1, **CONSTANT)
    made = trainer.create_optimizer()
    assert made is trainer.optimizer and trainer.create_optimizer() is made
    assert [group["lr"] for group in made.param_groups] == pytest.approx([1e-3, 1e-3, 3e-3])
    trainer.train()


def test_an_optimiser_with_one_rate_for_all_is_refused() -> None:
    """One whose groups do not hold the head, and one that steps while gradients are computed."""
    model = torch.nn.Module()
    model.score, model.body = torch.nn.Linear(2, 1), torch.nn.Linear(2, 2)
    hollow = torch.optim.SGD(model.body.parameters(), lr=1.0)
    lomo = type("AdaLomo", (torch.optim.SGD,), {})(model.parameters(), lr=1.0)
    for optimizer in (hollow, lomo):
        with pytest.raises(RecipeError, match=r"one rate for all weights(?s:.*)adamw_torch"):
            give_rate(optimizer, model, 1e-3)


def test_biases_of_a_head_have_its_rate_and_no_decay() -> None:
    """They were in two groups, so the head has two; a group that is left empty is gone."""
    model = torch.nn.Module()
    model.score, model.body = torch.nn.Linear(2, 1), torch.nn.Linear(2, 2, bias=False)
    groups = [
        {"params": [model.body.weight, model.score.weight], "weight_decay": 0.1},
        {"params": [model.score.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    give_rate(optimizer, model, 5.0)
    found = [(group["params"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert [(len(params), rate, decay) for params, rate, decay in found] == [
        (1, 1.0, 0.1),
        (1, 5.0, 0.1),
        (1, 5.0, 0.0),
    ]
    assert found[2][0][0] is model.score.bias


def test_a_recipe_is_refused_before_any_work() -> None:
    """Also where it is the recipe's rate for all trainings."""
    data = {"p": {"format": "preference", "path": "p.jsonl"}}
    step = {"name": "A", "criterion": "h", "from": "sft", "beta": 1, "dataset": "p", "lora": {"r": 4}}
    whole = {"name": "r", "base": {"model": "x"}, "data": data, "steps": [step]}
    shown = {**data, "d": {"format": "demonstrations", "path": "d.jsonl"}}
    sft = {"dataset": "d", "lora": {"r": 4}, "training": {"head_learning_rate": 1e-3}}
    with pytest.raises(RecipeError, match=r"sft\.training, head_learning_rate"):
        parse_recipe({**whole, "data": shown, "sft": sft})
    for wrong in (0, -1.0):
        with pytest.raises(RecipeError, match=r"training\.head_learning_rate"):
            parse_recipe({**whole, "training": {"head_learning_rate": wrong}})
    biased = {**step, "lora": {"r": 4, "bias": "all"}}
    assert parse_recipe({**whole, "training": {"head_learning_rate": 1e-3}, "steps": [biased]})
    with pytest.raises(RecipeError, match=r"steps\.0\.training, head_learning_rate"):
        parse_recipe({**whole, "training": {"head_learning_rate": 1e-3}})
    lora = {"r": 4, "modules_to_save": ["lm_head"]}
    found = parse_recipe({**whole, "training": {"head_learning_rate": 1e-3}, "steps": [{**step, "lora": lora}]})
    assert found.training.options() == {"head_learning_rate": 1e-3}
    assert "head_learning_rate" not in parse_recipe(whole).training.model_dump()
