"""The bounds on a model's hidden states: that the script runs on a model of the world, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.theory_features import run
from sacpo.models.loading import build_model, save_model
from sacpo.recipe.schema import WorldSpec
from sacpo.world.world import World

CONFIG = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


def test_it_runs_on_a_model_of_the_world(tmp_path: Path) -> None:
    """An untrained model: 20 pairs for each head, of which a fifth is held out; the covering alpha covers."""
    tokenizer = World(WorldSpec(seed=0)).tokenizer()
    config = {**CONFIG, "num_attention_heads": 2, "max_position_embeddings": 128}
    save_model(build_model(config, tokenizer, seed=0), tokenizer, tmp_path)
    found = run(tmp_path, pairs=20, prompts=4, samples=3, seed=0, beta=0.5, exact=True)
    for head in (found["reward"], found["safety"]):
        assert head["pairs"] == 16
        assert 0 < head["U_D_median"] <= head["U_D_largest"] <= 1
        assert head["error_median"] <= head["error_largest"] <= head["alpha_covering"] * head["U_D_largest"] + 1e-9
        assert head["B"] < head["alpha_paper"]
    assert found["alpha_paper"]["violation"] == pytest.approx(found["alpha_covering"]["violation"])
    assert found["alpha_paper"]["times_smaller_to_say_something"] >= 1
