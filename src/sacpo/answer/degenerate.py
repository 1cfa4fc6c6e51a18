"""What is degenerate about an answer: nothing in it, or a loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LONGEST_PERIOD = 64
LEAST_REPEATS = 4
LEAST_COVERED = 16
FEWEST_AGAIN = LEAST_COVERED - LEAST_COVERED // LEAST_REPEATS
"""So many of a loop's tokens occurred before, at least: it has no more different ones than its period."""


def degeneration(text: str, tokens: Sequence[int]) -> str:
    """Return "empty" for an answer without visible text, "repeating" for one that loops, and "" otherwise.

    Args:
        text: The decoded answer.
        tokens: Its tokens without the end token.
    """
    if not text.strip():
        return "empty"
    return "repeating" if loops(tokens) else ""


def loops(tokens: Sequence[int]) -> bool:
    """Tell whether some block of tokens follows itself again and again.

    That is: for some period of at most `LONGEST_PERIOD` tokens, a stretch of at least `LEAST_REPEATS` periods and
    `LEAST_COVERED` tokens in which every token equals the one a period before it. A sentence said four times in a row
    counts, and so does a word said sixteen times; a list whose lines merely begin alike does not.
    """
    if len(tokens) - len({*tokens}) < FEWEST_AGAIN:
        return False
    values = np.asarray(tokens)
    for period in range(1, min(LONGEST_PERIOD, len(values) // LEAST_REPEATS) + 1):
        covered = _longest_run(values[period:] == values[:-period]) + period
        if covered >= max(LEAST_REPEATS * period, LEAST_COVERED):
            return True
    return False


def _longest_run(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    """Return the length of the longest stretch of true values."""
    breaks = np.flatnonzero(~flags)
    if not len(breaks):
        return len(flags)
    return int(max(breaks[0], len(flags) - 1 - breaks[-1], int(np.diff(breaks).max(initial=1)) - 1))
