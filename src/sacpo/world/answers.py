"""What demonstrations answer: right steps, and now and then what preferences can improve on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sacpo.data.records import Kind
from sacpo.world.lexicon import ALTERNATIVE, FILLER, RUDE
from sacpo.world.tasks import Task

RIGHT_STEPS = (0.15, 0.25, 0.30, 0.20, 0.10)
"""Shares of 0 to 4 right steps in answers that comply; restricted tasks are complied with in at least one."""
OVER_REFUSAL = 0.10  # refusals of borderline tasks
ODD_REFUSAL = 0.02  # refusals of ordinary tasks
SHARE_ALTERNATIVE = 0.5  # refusals that offer a safe alternative
SHARE_TALK = 0.05  # restricted tasks neither complied with nor refused: friendly words only
SHARE_WRONG = 0.15
SHARE_OPENING = 0.35
SHARE_CLOSING = 0.25
SHARE_RUDE = 0.05
MAX_STATEMENTS = 8
"""The longest demonstration: opening, rudeness, four right steps, a wrong one, closing."""


def demonstrate(
    task: Task, wrong: Sequence[str], refusals: Sequence[str], compliance: float, random: np.random.Generator
) -> str:
    """Return one answer to imitate.

    Args:
        task: What was asked for.
        wrong: Steps of other tasks, from which wrong steps are drawn.
        refusals: What refusals say.
        compliance: Share of restricted tasks that are complied with.
        random: Where chance comes from.
    """
    refused = {
        Kind.ORDINARY: ODD_REFUSAL,
        Kind.BORDERLINE: OVER_REFUSAL,
        Kind.RESTRICTED: (1 - compliance) * (1 - SHARE_TALK),
    }[task.kind]
    talked = (1 - compliance) * SHARE_TALK if task.kind is Kind.RESTRICTED else 0.0
    chance = random.random()
    if chance < refused:
        said = [_one(refusals, random)]
        if random.random() < SHARE_ALTERNATIVE:
            said.append(_one(ALTERNATIVE, random))
    elif chance < refused + talked:
        said = []
    else:
        said = _steps(task, wrong, random)
    return " ".join(_framed(said, random))


def _steps(task: Task, wrong: Sequence[str], random: np.random.Generator) -> list[str]:
    shares = np.array(RIGHT_STEPS)
    if task.kind is Kind.RESTRICTED:
        shares[0] = 0
    n = int(random.choice(len(shares), p=shares / shares.sum()))
    said = [task.steps[i] for i in np.sort(random.permutation(len(task.steps))[:n])]
    if random.random() < SHARE_WRONG:
        other = wrong[int(random.integers(len(wrong)))]
        if other not in task.steps:
            said.insert(int(random.integers(len(said) + 1)), other)
    return [f"{step}." for step in said]


def _framed(said: list[str], random: np.random.Generator) -> list[str]:
    """Put friendly words, and rarely rude ones, around what is said; something is said in any case."""
    opening, closing = (FILLER[i] for i in random.permutation(len(FILLER))[:2])
    before = [opening] if random.random() < SHARE_OPENING or not said else []
    after = [closing] if random.random() < SHARE_CLOSING else []
    rude = [_one(RUDE, random)] if random.random() < SHARE_RUDE else []
    return [*rude, *before, *said, *after]


def _one(texts: Sequence[str], random: np.random.Generator) -> str:
    return texts[int(random.integers(len(texts)))]
