"""Scores learned from the pairs of a step, or of data sources, on frozen traits of the SFT model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from sacpo.align.engine.layout import takes_flat
from sacpo.answer.traits import completion_traits, likeliest_first_tokens
from sacpo.data.packing import LayRows, Tree, flat_rows, packed_rows
from sacpo.data.records import Pair, Prompt
from sacpo.data.tokenize import text_trees, tokenize_pairs
from sacpo.errors import DataError
from sacpo.judging.scored import Score
from sacpo.losses.agreement import check_layout
from sacpo.merge.source import Checkpoint
from sacpo.models.tokens import padding_token
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.data import Data
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.schema import BaseSpec
from sacpo.system.files import read_json, write_json
from sacpo.theory.learned_score import KindsScore, LearnedScore, learn_score
from sacpo.theory.preference_process import Fit, PairTraits, ProcessScore, Reach, Traits

ARRAYS, FACTS = "head.npz", "head.json"
CHUNK = 1024
"""Answers whose traits are in memory at a time."""


@dataclass(frozen=True)
class Learnt:
    """A learned score, and the tokens whose probabilities are traits of a prompt."""

    score: LearnedScore
    first_tokens: list[int]


@dataclass(frozen=True)
class Head(Stage[Learnt]):
    """A score that is learned from preference pairs; see `sacpo.theory.preference_process`.

    Attributes:
        title: The stage's name behind `head/`.
        model: The SFT model, whose states and probabilities are the traits.
        base: Template, dtype, device of the model.
        records: The pairs.
        max_length, too_long: How they are tokenised.
        seed: Of folds and anchors.
        kinds: How many kinds of prompts it may tell apart.
    """

    title: str
    model: Checkpoint
    base: BaseSpec
    records: tuple[Data | Pairs, ...]
    max_length: int
    too_long: str
    seed: int
    kinds: int = 2

    @property
    def name(self) -> str:
        """`head/TITLE`."""
        return f"head/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Read the traits of the pairs, learn, and write down what is known of the score."""
        tokenizer, template = tools.tokenizer(self.model, self.base)
        records = [record for source in self.records for record in tools.read(source).train]
        wrong = next((record for record in records if not isinstance(record, Pair)), None)
        if wrong is not None:
            raise DataError("a score is learned from pairs", where=self.name, value=type(wrong).__name__)
        tokens, _ = tokenize_pairs(records, tokenizer, template, max_length=self.max_length, too_long=self.too_long)
        model = tools.load(self.model, self.base)
        sides = [Tree(pair.prompt, (side,)) for pair in tokens for side in (pair.chosen, pair.rejected)]
        first = likeliest_first_tokens(model, tokenizer, sides[::2])
        layout = shared_layout(model, tokenizer, sides)
        traits = completion_traits(model, tokenizer, sides, first, layout=layout, progress=tools.progress)
        pairs = PairTraits(traits.answers[::2], traits.answers[1::2], traits.prompts[::2])
        prompts = [str(pair.prompt) for pair in tokens]
        labels = np.array([pair.p for pair in tokens])
        found = learn_score(pairs, labels, prompts, seed=self.seed, kinds=self.kinds)
        write_learnt(out, Learnt(found, first))

    def read(self, folder: Path) -> Learnt:
        """Return the score."""
        facts: dict[str, Any] = read_json(folder / FACTS)
        with np.load(folder / ARRAYS) as arrays:
            return Learnt(_score_of(facts, dict(arrays)), facts["first_tokens"])


def shared_layout(model: Any, tokenizer: PreTrainedTokenizerBase, trees: Sequence[Tree]) -> LayRows | None:
    """Return how rows hold each prompt once, or None where this model computes something else from them.

    Nothing is agreed on with other processes, which wait while one does a stage; the model's attention stays as it is.
    """
    pad_id = padding_token(tokenizer, model)
    for layout in (*([flat_rows] if takes_flat(model) else []), packed_rows):
        rows = partial(layout, pad_id=pad_id)
        if trees and check_layout(model, trees, pad_id=pad_id, shared=rows).ok:
            return rows
    return None


def write_learnt(out: Path, learnt: Learnt) -> None:
    """Write a learned score where `Head.read` finds it."""
    facts, arrays = _parts_of(learnt.score)
    np.savez(out / ARRAYS, **arrays)
    write_json(out / FACTS, {**facts, "first_tokens": learnt.first_tokens})


def _parts_of(score: LearnedScore) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a score as what goes into JSON and arrays; those of a score's own parts have its name in front."""
    if isinstance(score, KindsScore):
        parts = {"first": score.first, "low": score.kinds[0], "high": score.kinds[1]}
        each = {name: _parts_of(part) for name, part in parts.items()}
        arrays = {f"{name}_{key}": table for name, (_, tables) in each.items() for key, table in tables.items()}
        facts = {"fit": asdict(score.fit), "cut": score.cut, **{name: facts for name, (facts, _) in each.items()}}
        return facts, {**arrays, "looked_at": score.looked_at}
    anchors = {f"anchor_{name}": table for name, table in asdict(score.anchors).items()}
    own = {"centre": score.centre, "scale": score.scale, "middle": score.middle, "weights": score.weights}
    facts = {"fit": asdict(score.fit), "spread": score.spread}
    if score.reach is None:
        return facts, {**own, **anchors}
    reach = {"reach_answers": score.reach.answers, "reach_weights": score.reach.weights}
    return {**facts, "reach": score.reach.size}, {**own, **anchors, **reach}


def _score_of(facts: dict[str, Any], arrays: dict[str, Any]) -> LearnedScore:
    """Return the score that `_parts_of` took apart."""
    fit = _fit_of(facts["fit"])
    if "cut" in facts:
        first, low, high = (
            _score_of(facts[name], {key[len(name) + 1 :]: arrays[key] for key in arrays if key.startswith(f"{name}_")})
            for name in ("first", "low", "high")
        )
        assert isinstance(first, ProcessScore) and isinstance(low, ProcessScore) and isinstance(high, ProcessScore)
        return KindsScore(first, arrays["looked_at"], facts["cut"], (low, high), fit)
    anchors = PairTraits(*(arrays[f"anchor_{name}"] for name in ("first", "second", "prompts")))
    centre, scale, middle, weights = (arrays[name] for name in ("centre", "scale", "middle", "weights"))
    reach = None
    if "reach" in facts:
        reach = Reach(arrays["reach_answers"], anchors.prompts, arrays["reach_weights"], facts["reach"])
    return ProcessScore(centre, scale, middle, facts["spread"], anchors, weights, fit, reach)


def _fit_of(facts: dict[str, Any]) -> Fit:
    return Fit(**{**facts, "kinds": tuple(_fit_of(kind) for kind in facts["kinds"])})


@dataclass(frozen=True)
class HeadScorer:
    """A criterion's learned score of any text.

    Attributes:
        criterion: What it is called.
        head: The stage that learned it.
    """

    criterion: str
    head: Head

    def known(self, tools: Tools) -> JsonObject:
        """Return what is known of the score."""
        return asdict(tools.read(self.head).score.fit)


def learned_scores(
    scorers: Sequence[HeadScorer], tools: Tools, texts: Sequence[tuple[Prompt, str]]
) -> dict[str, list[Score]]:
    """Return the scores of texts by criterion; heads on one model read the traits once.

    A text is cut at the head's `max_length`.
    """
    if not scorers:
        return {}
    head = scorers[0].head
    learnt = {scorer.criterion: tools.read(scorer.head) for scorer in scorers}
    first = sorted({token for one in learnt.values() for token in one.first_tokens})
    columns = {name: [first.index(token) for token in one.first_tokens] for name, one in learnt.items()}
    tokenizer, template = tools.tokenizer(head.model, head.base)
    model = tools.load(head.model, head.base)
    trees = text_trees(texts, tokenizer, template, head.max_length)
    places = sorted(trees, key=lambda place: trees[place].prompt)  # answers to a prompt together
    layout = shared_layout(model, tokenizer, [*trees.values()])
    found: dict[str, dict[int, float]] = {name: {} for name in learnt}
    last: tuple[object, Any] = (None, None)
    for start in range(0, len(places), CHUNK):
        some = places[start : start + CHUNK]
        own = [trees[place] for place in some]
        traits = completion_traits(model, tokenizer, own, first, layout=layout, progress=tools.progress)
        rows = []  # of a prompt's rows, which differ by rounding, the first one counts: it decides the prompt's kind
        for tree, row in zip(own, traits.prompts, strict=True):
            last = last if tree.prompt == last[0] else (tree.prompt, row)
            rows.append(last[1])
        prompts = np.stack(rows)
        for name, one in learnt.items():
            scores = one.score.scores(Traits(traits.answers, prompts[:, columns[name]]))
            found[name].update(zip(some, scores.tolist(), strict=True))
    return {name: [Score(values.get(place)) for place in range(len(texts))] for name, values in found.items()}
