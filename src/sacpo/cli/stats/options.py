"""What `sacpo stats` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacpo.errors import DataError


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """What to compute.

    Attributes:
        baseline: The model that win rates are tested at and ratings anchored at; it can be left out where the verdicts
            name only one.
        against: Compare every model with this one, not every two models.
        ratings: Also fit Bradley-Terry ratings.
        prompts: Only this prompt set of a run.
        answers: Answer files, for the length bias; a run's are found.
        tie_model: Ties in ratings: davidson, rao-kupper or half.
        draws: Bootstrap resamples of the ratings.
        seed: Root of bootstraps and permutations.
        form: Of the files: verdicts, alpaca-eval, llmbar, pandalm or xstest.
        gold: Score judges by the labels of this judge or annotator, taken as true.
        majority: Also the majority of all judges, as a judge of its own.
        difficulty: AlpacaEval's instruction difficulties, for the length control.
        length_weights: AlpacaEval's length-control coefficients, to compare with.

    Raises:
        DataError: There are fewer than 0 draws.
    """

    baseline: str | None = None
    against: str | None = None
    ratings: bool = False
    prompts: str | None = None
    answers: Sequence[Path] = ()
    tie_model: str = "davidson"
    draws: int = 500
    seed: int = 0
    form: str = "verdicts"
    gold: str | None = None
    majority: bool = False
    difficulty: Path | None = None
    length_weights: Path | None = None

    def __post_init__(self) -> None:
        if self.draws < 0:
            raise DataError("too few draws", where="--draws", value=self.draws, allowed="0 or more", do="correct it")
