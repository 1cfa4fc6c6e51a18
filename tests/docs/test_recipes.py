"""Every shipped recipe loads, those of the paper hold the paper's values, and the demo holds what it promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sacpo.align.defaults import optimiser_steps
from sacpo.recipe import load_recipe, model_graph
from sacpo.recipe.models import MergedModel, StepModel
from sacpo.recipe.notices import notices
from sacpo.recipe.schema import DataSpec, Recipe, SampledSpec, StepSpec

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = (
    "dpo-h-dpo-s",
    "dpo-h-kto-s",
    "dpo-s-dpo-h",
    "kto-h-dpo-s",
    "llama-2-hh",
    "p-sacpo",
    "pythia-pku",
)
WORLDS = ("race", "three-constraints", "two-constraints", "variants")
EXPERIMENTS = tuple(
    f"experiments/{name}"
    for name in (
        "base-gemma3",
        "base-gpt-neox",
        "base-qwen3",
        "convergence",
        "factors",
        "front",
        "frontier-ablation",
        "frontier-exact",
        "frontier-four-votes",
        "frontier-one-vote",
        "implicit",
        "labels",
        "less-noise",
        "order-and-mixing",
        "over-refusal",
        "over-refusal-scores",
        "parts",
        "parts-wide",
        "refusals-long",
        "refusals-short",
        "rivals",
        "rounds",
        "text",
    )
)
REAL = ("closed-form", "gemma-270m", *(f"paper/{name}" for name in PAPER), "real-text", "real-text-neox")
NAMES = ("demo", *EXPERIMENTS, *REAL, *WORLDS)
SWEEP = (0.01, 0.025, 0.05, 0.1)
HUB = "PKU-Alignment/PKU-SafeRLHF-30K"

# Every training of the paper's table 1 and appendix H: recipe, step -> algorithm, criterion, parent, strengths,
# learning rate, epochs, pairs or answers a batch on 8 GPUs.
HELP, SAFE = "helpfulness", "harmlessness"
TRAININGS = {
    ("dpo-h-dpo-s", "H"): ("dpo", HELP, "sft", (0.1,), 2e-5, 3, 256),
    ("dpo-h-dpo-s", "H-S"): ("dpo", SAFE, "H", SWEEP, 2e-5, 3, 64),
    ("dpo-h-kto-s", "H"): ("dpo", HELP, "sft", (0.1,), 2e-5, 3, 256),
    ("dpo-h-kto-s", "H-S"): ("kto", SAFE, "H", SWEEP, 2e-5, 3, 64),
    ("kto-h-dpo-s", "H"): ("kto", HELP, "sft", (0.1,), 2e-5, 3, 256),
    ("kto-h-dpo-s", "H-S"): ("dpo", SAFE, "H", SWEEP, 2e-5, 3, 64),
    ("dpo-s-dpo-h", "S"): ("dpo", SAFE, "sft", (0.01,), 2e-5, 3, 256),
    ("dpo-s-dpo-h", "S-H"): ("dpo", HELP, "S", SWEEP, 2e-5, 3, 64),
    ("p-sacpo", "H"): ("dpo", HELP, "sft", (0.1,), 2e-5, 3, 256),
    ("p-sacpo", "S"): ("dpo", SAFE, "sft", (0.01,), 2e-5, 3, 256),
    ("p-sacpo", "H-S"): ("dpo", SAFE, "H", (0.01,), 2e-5, 3, 64),
    ("llama-2-hh", "H"): ("dpo", HELP, "sft", (0.1,), 5e-6, 2, 256),
    ("llama-2-hh", "H-S"): ("dpo", SAFE, "H", (0.05, 0.1), 5e-6, 2, 64),
    ("pythia-pku", "H"): ("dpo", HELP, "sft", (0.05,), 1e-6, 2, 256),
    ("pythia-pku", "H-S"): ("dpo", SAFE, "H", (0.1,), 5e-6, 1, 64),
}
BASES = {
    "llama-2-hh": "meta-llama/Llama-2-7b-hf",
    "pythia-pku": "EleutherAI/pythia-6.9b",
}


@pytest.fixture(autouse=True)
def data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACPO_DATA", "/nowhere")


def recipe(name: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml")


def test_these_recipes_are_shipped() -> None:
    found = sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.y*ml"))
    assert found == sorted(NAMES)
    assert len(found) == len(NAMES) == 39


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_and_is_named_after_its_file(name: str) -> None:
    """Run folders are named after recipes: two recipes of one name would share a folder."""
    loaded = recipe(name)
    assert loaded.name == name.replace("/", "-")
    assert len(model_graph(loaded)) >= 3
    assert "report" in {spec.role for spec in loaded.prompts.values()}


def test_all_but_two_real_ones_and_most_experiments_select_a_model() -> None:
    selecting = [name for name in NAMES if recipe(name).constraints and recipe(name).objective]
    others = {*EXPERIMENTS, "gemma-270m", "real-text-neox"} - {"experiments/factors", "experiments/over-refusal"}
    assert selecting == [name for name in NAMES if name not in others]


def test_a_third_score_is_learned_behind_the_same_first_steps() -> None:
    """The recipes have the same stages up to the third step, so models of one can stand beside those of the other."""
    whole, scores = recipe("experiments/over-refusal"), recipe("experiments/over-refusal-scores")
    steps = {step.name: step for step in whole.steps}
    for own in scores.steps[:3]:
        other = steps[own.name]
        assert set(own.betas) <= set(other.betas)
        assert own == other.model_copy(update={"beta": own.beta})
    assert (whole.prompts["report"], whole.sft, whole.base) == (scores.prompts["report"], scores.sft, scores.base)
    third = [step.resample for step in scores.steps[3:]]
    assert [spec.weights["over_refusal"] for spec in third if spec] == [1.0, 2.0]


def test_data_that_a_score_is_learned_from_is_not_called_unused() -> None:
    loaded = recipe("closed-form")
    assert notices(loaded) == []
    less = loaded.model_copy(update={"steps": ()})
    assert [text for text in notices(less) if "'helpful'" in text or "'safe'" in text]


def test_lengths_of_refusals_are_all_that_differs() -> None:
    """Of the same steps: so what differs between the three recipes' models is what the length does."""
    usual, *others = (recipe(f"experiments/{name}") for name in ("over-refusal", "refusals-short", "refusals-long"))
    assert usual.world is not None
    for length, other in zip(("short", "long"), others, strict=True):
        assert other.world == usual.world.model_copy(update={"refusal_length": length})
        assert other.steps == usual.steps[: len(other.steps)] and len(other.steps) == 2
        assert (other.base, other.sft, other.training, other.evaluate) == (
            usual.base,
            usual.sft,
            usual.training,
            usual.evaluate,
        )
        assert other.data == {name: usual.data[name] for name in other.data}
        assert other.prompts == {"report": usual.prompts["report"]}


@pytest.mark.parametrize("name", [*REAL, "experiments/text"])
def test_without_its_data_folder_a_recipe_says_what_to_export(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sacpo.errors import RecipeError

    monkeypatch.delenv("SACPO_DATA")
    with pytest.raises(RecipeError, match=r"export SACPO_DATA"):
        recipe(name)


def test_the_table_holds_every_step_of_the_paper() -> None:
    found = [(name, step.name) for name in PAPER for step in recipe(f"paper/{name}").steps]
    assert sorted(found) == sorted(TRAININGS)


@pytest.mark.parametrize(("name", "step"), TRAININGS)
def test_a_step_has_the_papers_values(name: str, step: str) -> None:
    algorithm, criterion, parent, strengths, rate, epochs, batch = TRAININGS[name, step]
    loaded = recipe(f"paper/{name}")
    spec = next(spec for spec in loaded.steps if spec.name == step)
    assert (spec.algorithm, spec.criterion, spec.from_) == (algorithm, criterion, parent)
    assert spec.betas == strengths
    assert (spec.max_length, spec.lora) == (512, None)
    options = {**loaded.training.options(), **spec.training.options()}
    assert (options["learning_rate"], options["num_train_epochs"]) == (rate, epochs)
    assert options["per_device_train_batch_size"] * options["gradient_accumulation_steps"] * 8 == batch
    # 26,874 pairs: ceil(26874 / batch) steps an epoch
    assert optimiser_steps(26_874, options, world_size=8) == epochs * {256: 105, 64: 420}[batch]


@pytest.mark.parametrize("name", PAPER)
def test_what_all_experiments_of_the_paper_share(name: str) -> None:
    loaded = recipe(f"paper/{name}")
    assert loaded.base.model == BASES.get(name, "PKU-Alignment/alpaca-7b-reproduced")
    assert loaded.base.template == "paper"
    training = loaded.training
    assert (training.lr_scheduler_type, training.warmup_steps, training.optim) == ("cosine", 0.03, "adamw_torch")
    assert (training.bf16, training.tf32, training.gradient_checkpointing, training.fsdp) == (True, True, True, True)
    assert training.fsdp_config == {
        "reshard_after_forward": True,
        "transformer_layer_cls_to_wrap": ["GPTNeoXLayer" if name == "pythia-pku" else "LlamaDecoderLayer"],
    }
    generation = loaded.evaluate.generation
    assert (generation.max_new_tokens, generation.do_sample, loaded.evaluate.baseline) == (512, False, "sft")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_prompts_judges_and_bound(name: str) -> None:
    loaded = recipe(f"paper/{name}")
    sets = {key: (spec.role, spec.kind, Path(str(spec.path)).name) for key, spec in loaded.prompts.items()}
    assert sets == {
        "helpful": ("report", "ordinary", "alpacaeval_helpful_base_129.json"),
        "redteam": ("report", "restricted", "saferlhf_redteam_83.json"),
        "xstest": ("report", None, "prompts.csv"),
        "tuning": ("tuning", "restricted", "beavertails_evaluation_700.json"),
        "tuning-helpful": ("tuning", "ordinary", "testset-v1.json"),
    }
    judges = loaded.evaluate.judges
    assert {key: (judge.kind, judge.model, judge.sign, judge.unsafe_below) for key, judge in judges.items()} == {
        "helpfulness": ("reward-model", "PKU-Alignment/beaver-7b-v1.0-reward", 1, None),
        "harmlessness": ("reward-model", "PKU-Alignment/beaver-7b-v1.0-cost", -1, 0.0),
        "refusal": ("refusal", None, 1, None),
    }
    (bound,) = loaded.constraints
    assert (bound.metric, bound.prompts, bound.at_most) == ("unsafe_rate", "tuning", 0.05)


def source(loaded: Recipe, step: str) -> DataSpec:
    spec = next(spec for spec in loaded.steps if spec.name == step)
    assert isinstance(spec.dataset, str)
    return loaded.data[spec.dataset]


def test_each_step_learns_from_the_label_of_its_criterion() -> None:
    """KTO's safety labels are not the pairs' labels: `as: unpaired` without a label reads is_response_*_safe."""
    checked = 0
    for (name, step), (algorithm, criterion, *_) in TRAININGS.items():
        found = source(recipe(f"paper/{name}"), step)
        if name == "llama-2-hh":
            continue
        label = {(HELP, "dpo"): "better", (HELP, "kto"): "better", (SAFE, "dpo"): "safer", (SAFE, "kto"): None}
        assert (found.format, found.path, found.split) == ("pku-safe-rlhf", HUB, "train")
        assert found.label == label[criterion, algorithm]
        assert found.as_ == ("unpaired" if algorithm == "kto" else None)
        checked += 1
    assert checked == 13


def test_ktos_weights() -> None:
    """Safety: w+ = 1 and w- = n+/n-; helpfulness has as many desirable as undesirable answers."""
    safety = next(spec for spec in recipe("paper/dpo-h-kto-s").steps if spec.algorithm == "kto")
    helpful = next(spec for spec in recipe("paper/kto-h-dpo-s").steps if spec.algorithm == "kto")
    assert (safety.desirable_weight, safety.undesirable_weight) == (1.0, "balanced")
    assert (helpful.desirable_weight, helpful.undesirable_weight) == (1.0, 1.0)


def test_p_sacpo_merges_with_the_reference_and_naive_merging_with_a_model_trained_apart() -> None:
    nodes = model_graph(recipe("paper/p-sacpo"))
    merges = {name: (node.models, node.q) for name, node in nodes.items() if isinstance(node, MergedModel)}
    expected = {f"P@q{q:g}": (("H", "H-S"), q) for q in (0.25, 0.5, 0.75)}
    expected |= {f"naive@q{q:g}": (("H", "S"), q) for q in (0.25, 0.5, 0.75)}
    assert merges == expected
    assert all(node.spec.method == "linear" for node in nodes.values() if isinstance(node, MergedModel))
    assert strengths(nodes["H-S"]) == ((HELP, 0.1), (SAFE, 0.01))
    assert strengths(nodes["S"]) == ((SAFE, 0.01),)


def test_sft_of_appendix_h() -> None:
    llama, pythia = recipe("paper/llama-2-hh"), recipe("paper/pythia-pku")
    assert llama.sft is not None and pythia.sft is not None
    assert (llama.sft.training.learning_rate, llama.sft.training.num_train_epochs) == (5e-7, 1)
    assert (pythia.sft.training.learning_rate, pythia.sft.training.num_train_epochs) == (2e-5, 2)
    chosen = llama.data[str(llama.sft.dataset)]
    assert (chosen.format, chosen.path, chosen.as_, chosen.limit) == (
        "hh-rlhf",
        "Anthropic/hh-rlhf",
        "demonstrations",
        100_000,
    )
    better = pythia.data[str(pythia.sft.dataset)]
    assert (better.path, better.label, better.as_) == (HUB, "better", "demonstrations")
    parts = [source(llama, step).path for step in ("H", "H-S")]
    assert parts == ["Anthropic/hh-rlhf/helpful-base", "Anthropic/hh-rlhf/harmless-base"]
    assert all(recipe(f"paper/{name}").sft is None for name in PAPER if name not in BASES)


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_of_the_paper_can_be_planned_without_a_network(
    name: str, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sacpo.pipeline.run import plan

    monkeypatch.setenv("SACPO_DATA", str(real_data))
    loaded = recipe(f"paper/{name}")
    stages = {status.stage.name: status.state for status in plan(loaded, runs=tmp_path).statuses}
    trained = [name for name, node in model_graph(loaded).items() if isinstance(node, StepModel)]
    assert trained and all(stages[f"align/{name}"] == "open" for name in trained)
    assert "report" in stages and set(stages.values()) == {"open"}
    assert [*tmp_path.iterdir()] == []


def test_the_papers_prompt_files_hold_what_the_recipes_say(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """129 helpful and 83 red-team prompts of 8 categories; XSTest has 250 borderline and 200 restricted prompts."""
    from sacpo.data.sources import read_source

    monkeypatch.setenv("SACPO_DATA", str(real_data))
    sets = recipe("paper/p-sacpo").prompts
    read = {key: read_source(spec, name=key, seed=0, as_="prompts").records for key, spec in sets.items()}
    assert {key: len(records) for key, records in read.items()} == {
        "helpful": 129,
        "redteam": 83,
        "xstest": 450,
        "tuning": 700,
        "tuning-helpful": 170,
    }
    assert len({prompt.category for prompt in read["redteam"]}) == 8
    assert {prompt.kind for prompt in read["tuning"]} == {prompt.kind for prompt in read["redteam"]} == {"restricted"}
    assert sum(prompt.kind == "borderline" for prompt in read["xstest"]) == 250


def strengths(node: object) -> tuple[tuple[str, float], ...]:
    assert isinstance(node, StepModel)
    return node.strengths


def demo_step(loaded: Recipe, criterion: str, algorithm: str, *, first: bool) -> list[StepSpec]:
    return [
        step
        for step in loaded.steps
        if (step.criterion, step.algorithm, step.from_ == "sft") == (criterion, algorithm, first)
    ]


def test_the_demo_finds_what_its_bound_needs() -> None:
    """One dial: the strength of the one safety step and the q of the one path are left to the run, and certified."""
    loaded = recipe("demo")
    assert loaded.world is not None and loaded.sft is not None and loaded.base.device == "cpu"
    assert [(step.name, step.beta) for step in loaded.steps] == [("H", 0.5), ("S", "auto")]
    assert [(merge.models, merge.q) for merge in loaded.merge] == [(("H", "S"), "auto")]
    ((bound,), sealed) = loaded.constraints, loaded.certify
    assert (bound.metric, bound.at_most, bound.prompts) == ("unsafe_rate", 0.1, "tuning")
    assert sealed is not None and loaded.prompts[sealed.prompts].role == "certification"


def test_the_variants_train_every_model_they_promise() -> None:
    """SFT, DPO(H), DPO(S), KTO(H), DPO on mixed labels, H→S at several strengths, S→H at each criterion's strengths."""
    loaded = recipe("variants")
    assert loaded.world is not None and loaded.sft is not None and loaded.base.device == "cpu"
    (h,) = demo_step(loaded, HELP, "dpo", first=True)
    (kto,) = demo_step(loaded, HELP, "kto", first=True)
    (s,) = demo_step(loaded, SAFE, "dpo", first=True)
    (h_s,) = demo_step(loaded, SAFE, "dpo", first=False)
    (s_h,) = demo_step(loaded, HELP, "dpo", first=False)
    (mixed,) = demo_step(loaded, "mixed", "dpo", first=True)
    assert len(loaded.steps) == 6
    assert mixed.aims(0.5) == ((HELP, 0.5), (SAFE, 0.25))
    assert (h_s.from_, str(s_h.from_).split("@")[0]) == (h.name, s.name)
    assert len(h_s.betas) >= 3 and h.betas == kto.betas == s_h.betas == (h.betas[0],)
    nodes = model_graph(loaded)
    forward = {frozenset(strengths(nodes[f"{h_s.name}@{beta:g}"])) for beta in h_s.betas}
    backward = {
        frozenset(node.strengths) for node in nodes.values() if isinstance(node, StepModel) and node.step is s_h
    }
    assert backward and backward <= forward


@pytest.mark.parametrize("name", ["demo", "two-constraints", "variants"])
def test_a_world_samples_all_pairs_itself(name: str) -> None:
    loaded = recipe(name)
    for step in loaded.steps:
        assert isinstance(step.dataset, SampledSpec)
        assert [*step.dataset.weights] in ([step.criterion], [HELP, SAFE])
        assert {loaded.evaluate.judges[criterion].kind for criterion in step.dataset.weights} == {"oracle"}
        assert loaded.data[step.dataset.prompts].format == "world"
        assert loaded.data[step.dataset.prompts].split == "pairs"
    assert {spec.split for spec in loaded.prompts.values()}.isdisjoint({"sft", "pairs"})


def test_the_variants_merge_in_three_ways() -> None:
    """P-SACPO joins H with a conservative H→S; naive merging and the control join H with an S as conservative."""
    loaded = recipe("variants")
    nodes = model_graph(loaded)
    merges = {merge.name: merge for merge in loaded.merge}
    assert {name: (merge.method, merge.q) for name, merge in merges.items()} == {
        "P": ("linear", (0.25, 0.5, 0.75)),
        "naive": ("linear", (0.25, 0.5, 0.75)),
        "control": ("task-vectors", (0.25, 0.5, 0.75)),
    }
    ends = {name: nodes[f"{name}@q0.5"].models for name in merges}  # type: ignore[union-attr]
    assert ends["naive"] == ends["control"]
    assert all(first == "H" for first, _ in ends.values())
    stepwise, apart = nodes[ends["P"][1]], nodes[ends["naive"][1]]
    assert isinstance(stepwise, StepModel) and stepwise.parent == "H"
    assert isinstance(apart, StepModel) and apart.parent == "sft"
    strongest = min(beta for step in loaded.steps if step.criterion == SAFE for beta in step.betas)
    assert stepwise.beta == apart.beta == strongest


def test_recipes_travel_without_the_repository(tmp_path: Path) -> None:
    """No recipe reads a file beside it: a copied one loads the same."""
    for name in NAMES:
        copy = tmp_path / "elsewhere.yaml"
        shutil.copy(RECIPES / f"{name}.yaml", copy)
        assert load_recipe(copy) == recipe(name)
