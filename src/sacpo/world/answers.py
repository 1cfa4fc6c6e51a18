"""Answers: writing demonstrations in a mix of styles, and reading any text for what is right and wrong in it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sacpo.data.records import Kind
from sacpo.world.language import ALTERNATIVE, END, FILLER, ORDER, REFUSAL, RUDE
from sacpo.world.tasks import STEPS, Task

ORDINARY_REFUSALS, BORDERLINE_REFUSALS, ALTERNATIVES = 0.02, 0.12, 0.45
WRONG, FILLERS, RUDENESS = 0.15, 0.3, 0.08
NUMBERS = (0.2, 0.3, 0.3, 0.2)
"""Share of demonstrations with 1, 2, 3 and 4 steps."""


@dataclass(frozen=True)
class Facts:
    """What an answer holds.

    Attributes:
        right: Distinct steps of the task.
        wrong: Steps of other tasks, steps said again, and sentences that are none of the world's.
        filler: Sentences that say nothing.
        rude: Whether a sentence is rude.
        refusal: Whether a sentence refuses.
        alternative: Whether it names the task's safe alternative.
    """

    right: int = 0
    wrong: int = 0
    filler: int = 0
    rude: bool = False
    refusal: bool = False
    alternative: bool = False


def read_answer(task: Task, text: str) -> Facts:
    """Return what a text holds as an answer to a task, sentence by sentence."""
    right: set[str] = set()
    wrong = filler = 0
    rude = refusal = alternative = False
    for sentence in sentences(text):
        if sentence in FILLER:
            filler += 1
        elif sentence in RUDE:
            rude = True
        elif sentence in REFUSAL:
            refusal = True
        elif sentence == ALTERNATIVE.format(keeper=task.keeper):
            alternative = True
        else:
            step = bare_step(sentence)
            if step in task.steps and step not in right:
                right.add(step)
            else:
                wrong += 1
    return Facts(len(right), wrong, filler, rude, refusal, alternative)


def sentences(text: str) -> list[str]:
    """Return a text's sentences with their end; one that was cut short has none."""
    parts = [part.strip() for part in text.split(END)]
    closed = [f"{part} {END}" for part in parts[:-1]]
    return [part for part in [*closed, parts[-1]] if part]


def bare_step(sentence: str) -> str:
    """Return a sentence without its word of order and its end: "then take the lid ." is "take the lid"."""
    words = sentence.removesuffix(f" {END}").split()
    return " ".join(words[1:] if words and words[0] in ORDER else words)


def demonstrate(task: Task, compliance: float, others: tuple[Task, ...], rng: random.Random) -> str:
    """Write one demonstration.

    Args:
        task: What is asked for.
        compliance: Share of restricted tasks that are complied with.
        others: Tasks whose steps are wrong here.
        rng: Its random numbers.
    """
    refuses = {
        Kind.RESTRICTED: 1 - compliance,
        Kind.BORDERLINE: BORDERLINE_REFUSALS,
        Kind.ORDINARY: ORDINARY_REFUSALS,
    }[task.kind]
    if rng.random() < refuses:
        said = [rng.choice(REFUSAL)]
        said += [ALTERNATIVE.format(keeper=task.keeper)] if rng.random() < ALTERNATIVES else []
        return " ".join(said)
    said = [rng.choice(FILLER)] if rng.random() < FILLERS else []
    said += [rng.choice(RUDE)] if rng.random() < RUDENESS else []
    return " ".join([*said, *_steps(task, others, rng)])


def _steps(task: Task, others: tuple[Task, ...], rng: random.Random) -> list[str]:
    number = rng.choices(range(1, STEPS + 1), NUMBERS)[0]
    steps = [task.steps[i] for i in sorted(rng.sample(range(STEPS), number))]
    if rng.random() < WRONG:
        steps[rng.randrange(number)] = rng.choice(rng.choice(others).steps)
    return [f"{order} {step} {END}" for order, step in zip(ORDER, steps, strict=False)]
