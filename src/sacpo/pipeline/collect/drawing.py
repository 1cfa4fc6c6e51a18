"""Pairs of answers: sampled from models, near-duplicates left out, put side by side by lot."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sacpo.data.answers import ANSWERS, BASELINE
from sacpo.data.near import distinct
from sacpo.data.records import Answer, Prompt, read_jsonl, write_jsonl
from sacpo.errors import DataError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stage import Stage
from sacpo.pipeline.stages.answers import Answerer
from sacpo.pipeline.tools import Readable, Tools
from sacpo.recipe.schema import BaseSpec, GenerationSpec, WorldSpec
from sacpo.system.files import write_json
from sacpo.world import World

DRAWING, SOURCES = "drawing.json", "sources.jsonl"
SIDES = ("response_0", "response_1")
EMPTY = "empty answer"
ALIKE = "near-duplicate answer"
ALONE = "prompt without two different answers"
Drawn = tuple[Answer, Answer]
"""Two answers to one prompt."""


@dataclass(frozen=True)
class WorldPrompts:
    """Prompts of the synthetic world."""

    world: WorldSpec
    split: str
    limit: int
    seed: int

    def load(self) -> list[Prompt]:
        """Return the prompts."""
        return World(self.world).prompts(self.split, self.limit, seed=self.seed)


@dataclass(frozen=True)
class Sampler:
    """A model and how it is sampled.

    Attributes:
        title: Its name in the answers.
        model: The model.
        base: Its template, dtype and device.
        generation: How answers are decoded.
    """

    title: str
    model: Checkpoint
    base: BaseSpec
    generation: GenerationSpec


@dataclass(frozen=True)
class DrawnPairs(Stage[list[Drawn]]):
    """Pairs of answers to prompts.

    Attributes:
        samplers: Who is sampled, each with a title of its own.
        prompts: The prompts.
        samples: Answers of each sampler to each prompt.
        pairs: Pairs of one prompt, at most; an answer is in one pair.
        near: Of answers to one prompt that are at least so similar one is kept.
        seed: The root of sampling and lots.
    """

    samplers: tuple[Sampler, ...]
    prompts: Readable[list[Prompt]]
    samples: int
    pairs: int
    near: float
    seed: int

    @property
    def name(self) -> str:
        """`collect/pairs`."""
        return "collect/pairs"

    def work(self, out: Path, tools: Tools) -> None:
        """Sample from one model after the other, then draw the pairs."""
        prompts = tools.read(self.prompts)
        answers: list[Answer] = []
        for index, sampler in enumerate(self.samplers):
            asked = Answerer(sampler.title, sampler.model, sampler.model, sampler.base, sampler.generation)
            answers += asked.answers(prompts, self.samples, self.seed + index, out / f"sampled-{index}", tools)
        pairs, left = draw_pairs(answers, self.pairs, self.near, self.seed)
        write_pairs(out, pairs)
        write_json(out / DRAWING, {"prompts": len(prompts), "answers": len(answers), "pairs": len(pairs), "left": left})

    def read(self, folder: Path) -> list[Drawn]:
        """Return the pairs."""
        return read_pairs(folder)


def write_pairs(folder: Path, pairs: Sequence[Drawn]) -> None:
    """Write pairs as two files of answers that any verb takes, the page for people too: nobody sees whose they are."""
    numbers: Counter[str] = Counter()
    sides: tuple[list[Answer], list[Answer]] = ([], [])
    for pair in pairs:
        number = numbers[pair[0].prompt.id]
        numbers[pair[0].prompt.id] += 1
        for name, side, answer in zip(SIDES, sides, pair, strict=True):
            side.append(replace(answer, model=name, sample=number))
    for file, side in zip((ANSWERS, BASELINE), sides, strict=True):
        write_jsonl(folder / file, side)
    write_jsonl(folder / SOURCES, [dict(zip(SIDES, (one.model, other.model), strict=True)) for one, other in pairs])


def read_pairs(folder: Path) -> list[Drawn]:
    """Return the pairs of a folder."""
    firsts, seconds = (read_jsonl(folder / file, Answer) for file in (ANSWERS, BASELINE))
    sources = [json.loads(line) for line in (folder / SOURCES).read_text(encoding="utf-8").splitlines()]
    return [
        (replace(first, model=source[SIDES[0]]), replace(second, model=source[SIDES[1]]))
        for first, second, source in zip(firsts, seconds, sources, strict=True)
    ]


def draw_pairs(answers: Sequence[Answer], pairs: int, near: float, seed: int) -> tuple[list[Drawn], dict[str, int]]:
    """Put different answers to one prompt side by side.

    Which two, and which of them is first, is drawn by the seed and the prompt: no model and no sample has a place.

    Args:
        answers: To prompts in any order.
        pairs: Of one prompt, at most.
        near: The least similarity of near-duplicates.
        seed: The root of the lots.

    Returns:
        The pairs in the order of their prompts, and how many answers or prompts were left out for which reason.

    Raises:
        DataError: No prompt has two different answers.
    """
    of: dict[str, list[Answer]] = {}
    for answer in answers:
        of.setdefault(answer.prompt.id, []).append(answer)
    left: Counter[str] = Counter()
    found: list[Drawn] = []
    for prompt, every in of.items():
        said = [answer for answer in every if answer.text.strip()]
        kept = [said[index] for index in distinct([answer.text for answer in said], near)]
        left[EMPTY] += len(every) - len(said)
        left[ALIKE] += len(said) - len(kept)
        if len(kept) < 2:
            left[ALONE] += 1
        random.Random(f"{seed}:{prompt}").shuffle(kept)
        found += [*zip(kept[::2], kept[1::2], strict=False)][:pairs]
    if not found:
        raise DataError(
            "no prompt has two different answers",
            value={reason: n for reason, n in left.items() if n},
            allowed=f"a similarity below {near}",
            do="raise the temperature, sample more answers or another model, or raise 'near'",
        )
    return found, {reason: n for reason, n in sorted(left.items()) if n}
