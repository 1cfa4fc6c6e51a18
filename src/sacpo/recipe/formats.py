"""Formats of data sources, as far as a recipe knows them: their names and what their rows hold.

How one is read is a module of `sacpo.data.sources` that names it.
"""

from __future__ import annotations

from typing import Literal

RecordKind = Literal["pairs", "unpaired", "demonstrations", "prompts"]
FormatName = Literal[
    "pku-safe-rlhf",
    "hh-rlhf",
    "ultrafeedback",
    "preference",
    "unpaired",
    "demonstrations",
    "prompts",
    "sharegpt",
    "alpaca",
    "pandalm",
    "xstest",
    "world",
]

KIND_OF_FORMAT: dict[FormatName, RecordKind | None] = {
    "pku-safe-rlhf": "pairs",
    "hh-rlhf": "pairs",
    "ultrafeedback": "pairs",
    "preference": "pairs",
    "unpaired": "unpaired",
    "demonstrations": "demonstrations",
    "prompts": "prompts",
    "sharegpt": None,
    "alpaca": "demonstrations",
    "pandalm": "pairs",
    "xstest": "prompts",
    "world": "prompts",
}
"""What a format's records are where the recipe does not say 'as'; None where each file's rows tell."""
