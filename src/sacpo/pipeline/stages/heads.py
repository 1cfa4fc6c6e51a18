"""Scores learned from the pairs of a step, or of data sources, on frozen traits of the SFT model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sacpo.answer.batches import shared_layout
from sacpo.answer.traits import NUMBERS, completion_traits, likeliest_first_tokens
from sacpo.data.packing import Tree
from sacpo.data.records import Pair
from sacpo.data.tokenize import tokenize_pairs
from sacpo.errors import DataError
from sacpo.judging.scored import Score
from sacpo.pipeline.stage import UNSAID, Stage
from sacpo.pipeline.stages.data import Data, placed
from sacpo.pipeline.stages.pairs import LabelledPairs
from sacpo.pipeline.stages.sample_pairs import SamplePairs
from sacpo.pipeline.stages.traits import CHUNK, Known, Reader, SampleTraits, Text
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.system.files import read_json, write_json
from sacpo.theory.calibrated import Floats
from sacpo.theory.learned_score import KindsScore, LearnedScore, learn_score
from sacpo.theory.preference_process import Fit, PairTraits, ProcessScore, Reach, Traits

ARRAYS, FACTS = "head.npz", "head.json"


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
        reader: Reads what the SFT model knows of texts.
        records: The pairs.
        too_long: How they are tokenised; those of the step's own samples are cut, as its samples are.
        seed: Of folds and anchors.
        kinds: How many kinds of prompts it may tell apart.
        traits: Those of the step's samples, where pairs are of these.
        surprise: Share of what answers are compared by that says how surprising their tokens are; 0: as other traits.
    """

    title: str
    reader: Reader
    records: tuple[Data | LabelledPairs, ...]
    too_long: str
    seed: int
    kinds: int = 2
    traits: SampleTraits | None = None
    surprise: float = field(default=0.0, metadata=UNSAID)

    @property
    def name(self) -> str:
        """`head/TITLE`."""
        return f"head/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Read the traits of the pairs, learn, and write down what is known of the score.

        Raises:
            ValueError: There is a share of surprises, and the reader does not tell them, or the other way round.
        """
        if (self.surprise > 0) != bool(self.reader.bounds):
            raise ValueError(f"surprise is {self.surprise:g}, and the reader's bounds are {self.reader.bounds}")
        own = [pair for one in self.records if isinstance(one, SamplePairs) for pair in tools.read(one).train]
        others = [pair for one in self.records if not isinstance(one, SamplePairs) for pair in tools.read(one).train]
        wrong = next((record for record in others if not isinstance(record, Pair)), None)
        if wrong is not None:
            raise DataError("a score is learned from pairs", where=self.name, value=type(wrong).__name__)
        known = tools.read(self.traits) if self.traits is not None else None
        parts, first = [], [] if known is None else known.first_tokens
        if known is not None and own:
            parts.append(_of_samples(known, own))
        if others:
            part, first = self._read_traits(others, first, tools)
            parts.append(part)
        traits = PairTraits(
            np.concatenate([part.traits.first for part in parts]),
            np.concatenate([part.traits.second for part in parts]),
            np.concatenate([part.traits.prompts for part in parts]),
        )
        labels = np.concatenate([part.labels for part in parts])
        prompts = [prompt for part in parts for prompt in part.prompts]
        numbers = NUMBERS if self.surprise else 0
        with placed(self.name):
            found = learn_score(
                traits, labels, prompts, seed=self.seed, kinds=self.kinds, numbers=numbers, share=self.surprise
            )
        write_learnt(out, Learnt(found, first))

    def _read_traits(self, pairs: Sequence[Pair], first: list[int], tools: Tools) -> tuple[_Part, list[int]]:
        """Return what the model knows of pairs, and the first tokens that are traits of a prompt; [] finds them."""
        tokenizer, template = tools.tokenizer(self.reader.model, self.reader.base)
        tokens, _ = tokenize_pairs(
            pairs, tokenizer, template, max_length=self.reader.max_length, too_long=self.too_long
        )
        if not tokens:
            raise DataError(
                "no pair is left that a score could be learned from: each is longer than max_length",
                where=self.name,
                value=f"{len(pairs)} pairs, max_length {self.reader.max_length}",
                do="raise max_length of the step, or cut answers there (too_long: truncate)",
            )
        model = tools.load(self.reader.model, self.reader.base)
        sides = [Tree(pair.prompt, (side,)) for pair in tokens for side in (pair.chosen, pair.rejected)]
        first = first or likeliest_first_tokens(model, tokenizer, sides[::2])
        layout = shared_layout(model, tokenizer, sides)
        bounds = self.reader.bounds
        traits = completion_traits(
            model, tokenizer, sides, first, layout=layout, bounds=bounds, progress=tools.progress
        )
        table = PairTraits(traits.answers[::2], traits.answers[1::2], traits.prompts[::2])
        return _Part(table, [str(pair.prompt) for pair in tokens], np.array([pair.p for pair in tokens])), first

    def read(self, folder: Path) -> Learnt:
        """Return the score."""
        facts: dict[str, Any] = read_json(folder / FACTS)
        with np.load(folder / ARRAYS) as arrays:
            return Learnt(_score_of(facts, dict(arrays)), facts["first_tokens"])


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
class _Part:
    """Pairs with their traits, prompts by which they are held out, and labels."""

    traits: PairTraits
    prompts: list[str]
    labels: Floats


def _of_samples(known: Known, pairs: Sequence[Pair]) -> _Part:
    """Return pairs of samples with their traits."""
    first, second = (
        known.of([(pair.prompt, text) for pair, text in zip(pairs, texts, strict=True)])
        for texts in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    prompts = [str(known.tokens[known.places[pair.prompt, pair.chosen][1]]) for pair in pairs]
    traits = PairTraits(first.answers, second.answers, first.prompts)
    return _Part(traits, prompts, np.array([pair.p for pair in pairs]))


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


def learned_scores(scorers: Sequence[HeadScorer], tools: Tools, texts: Sequence[Text]) -> dict[str, list[Score]]:
    """Return the scores of texts by criterion; heads on one model read the traits once.

    A text is cut at the head's `max_length`.
    """
    if not scorers:
        return {}
    head = scorers[0].head
    learnt = {scorer.criterion: tools.read(scorer.head) for scorer in scorers}
    first = sorted({token for one in learnt.values() for token in one.first_tokens})
    columns = {name: [first.index(token) for token in one.first_tokens] for name, one in learnt.items()}
    found: dict[str, dict[Text, float]] = {name: {} for name in learnt}
    for some, traits in _traits(head, texts, first, tools):
        for name, one in learnt.items():
            scores = one.score.scores(Traits(traits.answers, traits.prompts[:, columns[name]]))
            found[name].update(zip(some, scores.tolist(), strict=True))
    return {name: [Score(values.get(text)) for text in texts] for name, values in found.items()}


def _traits(head: Head, texts: Sequence[Text], first: list[int], tools: Tools) -> Iterator[tuple[list[Text], Traits]]:
    """Yield the traits of some texts after others: of samples as they are known, of others as they are read."""
    known = tools.read(head.traits) if head.traits is not None else None
    asked = {*texts}
    there = [text for text in known.places if text in asked] if known is not None else []
    for start in range(0, len(there), CHUNK):
        assert known is not None
        yield (some := there[start : start + CHUNK]), known.of(some)
    if trees := head.reader.trees([text for text in texts if known is None or text not in known.places], tools):
        yield from head.reader.traits(trees, first, tools)
