"""Alignment algorithms, as far as a recipe knows them: names, records, options. It is free of torch.

How one trains is a module of the same name in `sacpo.align.objectives`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from sacpo.recipe.formats import RecordKind
from sacpo.recipe.resample import ResampleSpec
from sacpo.recipe.section import Positive, Section

AlgorithmName = Literal["dpo", "ipo", "kto", "robust", "chipo", "bso", "rwr"]
Weight = float | Literal["balanced"]


@dataclass(frozen=True)
class Algorithm:
    """What a recipe knows of an algorithm.

    Attributes:
        title: How texts call it.
        learns_from: How texts call its records.
        records: The kinds of records that it takes, the usual one first.
        options: Those of `AlgorithmOptions` that it has; others must be left out.
        trl: The `loss_type` of TRL that is the same; None: there is none.
        units: How many terms of the loss a pair becomes.
        margins: Whether pairs may have offsets.
    """

    title: str
    learns_from: str
    records: tuple[RecordKind, ...]
    options: tuple[str, ...] = ()
    trl: str | None = None
    units: int = 1
    offsets: bool = False


ALGORITHMS: dict[AlgorithmName, Algorithm] = {
    "dpo": Algorithm("DPO", "pairs", ("pairs",), ("soft_labels", "label_smoothing"), trl="sigmoid", offsets=True),
    "ipo": Algorithm("IPO", "pairs", ("pairs",), ("soft_labels",), trl="ipo"),
    "kto": Algorithm(
        "KTO",
        "pairs or from unpaired records",
        ("pairs", "unpaired"),
        ("desirable_weight", "undesirable_weight"),
        trl="kto",
        units=2,
    ),
    "robust": Algorithm(
        "robust DPO", "pairs", ("pairs",), ("soft_labels", "label_smoothing"), trl="robust", offsets=True
    ),
    "chipo": Algorithm("chi-PO", "pairs", ("pairs",), ("soft_labels",)),
    "bso": Algorithm("BSO", "pairs", ("pairs",), ("soft_labels", "generator"), offsets=True),
    "rwr": Algorithm(
        "RWR", "answers sampled from SFT and resampled by their scores", ("demonstrations",), ("resample", "listwise")
    ),
}


class AlgorithmOptions(Section):
    """The options of a step that belong to some algorithms only."""

    soft_labels: bool = Field(
        True, description="DPO, IPO, robust DPO, chi-PO, BSO: use preference probabilities; false rounds them"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="DPO, robust DPO: share of the labels that is taken to be flipped"
    )
    generator: Positive = Field(0.2, description="BSO: exponent of the generator of its divergence")
    desirable_weight: Positive | Literal["balanced"] = Field(1.0, description="KTO: w+")
    undesirable_weight: Positive | Literal["balanced"] = Field(1.0, description="KTO: w-; balanced: w- n- = w+ n+")
    resample: ResampleSpec | None = Field(
        None, description="RWR: answer the dataset's prompts and resample; null: the dataset holds resampled answers"
    )
    listwise: float = Field(
        0.0,
        ge=0,
        le=100,
        description="RWR: with `draw: all`, weight of a listwise loss beside the likelihood, which holds down answers "
        "that the target hardly gives (InfoNCA): the cross-entropy between a prompt's weights and "
        "softmax(log pi/pi_sft) over its answers in a device batch; 0: none",
    )

    @model_validator(mode="after")
    def _one_balance(self) -> AlgorithmOptions:
        if self.desirable_weight == "balanced" and self.undesirable_weight == "balanced":
            raise ValueError("only one of 'desirable_weight' and 'undesirable_weight' can be 'balanced'")
        return self

    def refuse_options_of_others(self, algorithm: AlgorithmName) -> None:
        """Raise a ValueError where an option is set that this algorithm would ignore."""
        own = ALGORITHMS[algorithm]
        if algorithm == "robust" and not self.label_smoothing:
            raise ValueError("robust DPO without 'label_smoothing' is DPO: give the share of flipped labels")
        for name, field in AlgorithmOptions.model_fields.items():
            if name in own.options or getattr(self, name) == field.default:
                continue
            owners = _owners(name)
            alike = [f"'{other}'" for other in AlgorithmOptions.model_fields if _owners(other) == owners]
            are, them = ("is", "it") if len(alike) == 1 else ("are", "them")
            *most, last = (f"{owner}'s" for owner in owners)
            whose = f"{', '.join(most)} and {last}" if most else last
            raise ValueError(f"{' and '.join(alike)} {are} {whose}: {own.title} would ignore {them}")


def _owners(option: str) -> list[str]:
    return [known.title for known in ALGORITHMS.values() if option in known.options]


def algorithms_and_records() -> str:
    """Return what each algorithm learns from, for the recipe's page."""
    return "; ".join(f"{known.title} learns from {known.learns_from}" for known in ALGORITHMS.values())
