"""The bounds of the paper's section 5 on a real model's features: `python -m benchmarks.theory_features MODEL`.

MODEL is the SFT model of the synthetic world, such as `runs/demo/stages/sft/model`. Two Bradley-Terry heads are fitted
to its hidden states: one to pairs about helpfulness, one to pairs about harmlessness, both sampled from the model, one
vote each, or with `--exact` its probability. Then U_D, the errors of both heads, and both theorems' sides on fresh
prompts, as JSON.

A completion's features are the mean of the last layer's hidden states over its tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from sacpo.answer.generate import generate_answers
from sacpo.data.packing import Tree, padded_rows
from sacpo.data.records import Answer, Kind, Prompt
from sacpo.data.templates import make_template
from sacpo.data.tokenize import tokenize_prompt
from sacpo.models.loading import load_model, load_tokenizer
from sacpo.models.tokens import padding_token
from sacpo.recipe.schema import GenerationSpec, WorldSpec
from sacpo.theory.features import Scored, bounds_on, fit_head, unit_ball, votes
from sacpo.world.world import World

Floats = NDArray[np.float64]
HELPFUL = {Kind.ORDINARY: 0.6, Kind.BORDERLINE: 0.2, Kind.RESTRICTED: 0.2}
SAFE = {Kind.ORDINARY: 0.2, Kind.BORDERLINE: 0.2, Kind.RESTRICTED: 0.6}
BATCH = 256


class Sampler:
    """Samples of the model with their features and true scores.

    Args:
        folder: The model.
        seed: Root of the samples; the world's seed is 0.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.model, self.tokenizer = load_model(folder), load_tokenizer(folder)
        self.template = make_template("chat", self.tokenizer)
        self.world, self.seed = World(WorldSpec(seed=0)), seed

    def draw(self, prompts: Sequence[Prompt], samples: int, name: str) -> tuple[Floats, Floats, Floats]:
        """Return features (prompts, samples, d), and r* and g* (prompts, samples)."""
        spec = GenerationSpec(max_new_tokens=40, batch_size=BATCH, do_sample=True)
        answers = generate_answers(
            self.model, self.tokenizer, prompts, self.template, spec, model_name=name, seed=self.seed, samples=samples
        )
        shape = (len(prompts), samples)
        features = np.concatenate([self._features(answers[i : i + BATCH]) for i in range(0, len(answers), BATCH)])
        scores = [[score(a.prompt, a.text) for a in answers] for score in (self.world.reward, self.world.safety)]
        reward, safety = (np.array(column).reshape(shape) for column in scores)
        return features.reshape(*shape, -1), reward, safety

    def _features(self, answers: Sequence[Answer]) -> Floats:
        trees = [Tree(tuple(tokenize_prompt(a.prompt, self.template, self.tokenizer)), (a.tokens,)) for a in answers]
        rows = padded_rows(trees, pad_id=padding_token(self.tokenizer, self.model))
        with torch.no_grad():
            hidden = self.model.base_model(rows.input_ids, attention_mask=rows.attention_mask).last_hidden_state
        means = [hidden[i, len(tree.prompt) : len(tree)].double().mean(0).numpy() for i, tree in enumerate(trees)]
        return np.stack(means)


def run(
    folder: Path, *, pairs: int, prompts: int, samples: int, seed: int, beta: float, exact: bool = False
) -> dict[str, Any]:
    """Fit both heads and return what `sacpo.theory.features.bounds_on` says of them."""
    sampler, random = Sampler(folder, seed), np.random.default_rng(seed)
    world = sampler.world
    drawn = {
        name: sampler.draw(world.prompts("pairs", pairs, seed=seed + i, mix=mix), 2, name)
        for i, (name, mix) in enumerate((("helpful", HELPFUL), ("safe", SAFE)))
    }
    features, reward, safety = sampler.draw(world.prompts("report", prompts, seed=seed), samples, "fresh")
    phi_r, phi_g, phi = unit_ball(drawn["helpful"][0], drawn["safe"][0], features)
    heads = [
        fit_head(rows[:, 0] - rows[:, 1], expit(scores[:, 0] - scores[:, 1]) if exact else votes(scores, random))
        for rows, scores in ((phi_r, drawn["helpful"][1]), (phi_g, drawn["safe"][2]))
    ]
    return bounds_on(Scored(phi, reward, safety), *heads, beta=beta)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.theory_features", description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--pairs", type=int, default=1500, help="pairs for each head")
    parser.add_argument("--prompts", type=int, default=100, help="fresh prompts")
    parser.add_argument("--samples", type=int, default=16, help="answers to each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--exact", action="store_true", help="labels are probabilities, not votes")
    options = parser.parse_args()
    sizes = {"pairs": options.pairs, "prompts": options.prompts, "samples": options.samples}
    print(json.dumps(run(options.model, **sizes, seed=options.seed, beta=options.beta, exact=options.exact), indent=2))


if __name__ == "__main__":
    main()
