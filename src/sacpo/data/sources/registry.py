"""The formats by name: what each reads a row with, and the columns it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sacpo.data.records import Record
from sacpo.data.sources import demonstrations, hh, pandalm, pku, preference, prompts, sharegpt, unpaired
from sacpo.data.sources.rows import Row
from sacpo.recipe.schema import SourceSpec


@dataclass(frozen=True)
class Format:
    """A format of data files.

    Attributes:
        read: Turns a row into records; it is told what they will be used as (None: the format's own kind).
        columns: The canonical columns, which a recipe's `columns` may map to a file's own.
    """

    read: Callable[[Row, SourceSpec, str | None], list[Record]]
    columns: tuple[str, ...]


FORMATS: dict[str, Format] = {
    "pku-safe-rlhf": Format(pku.read, pku.COLUMNS),
    "hh-rlhf": Format(hh.read, hh.COLUMNS),
    "ultrafeedback": Format(preference.read_ultrafeedback, preference.ULTRAFEEDBACK_COLUMNS),
    "preference": Format(preference.read, preference.COLUMNS),
    "unpaired": Format(unpaired.read, unpaired.COLUMNS),
    "demonstrations": Format(demonstrations.read, demonstrations.COLUMNS),
    "prompts": Format(prompts.read, prompts.COLUMNS),
    "sharegpt": Format(sharegpt.read, sharegpt.COLUMNS),
    "alpaca": Format(demonstrations.read_alpaca, demonstrations.ALPACA_COLUMNS),
    "pandalm": Format(pandalm.read, pandalm.COLUMNS),
    "xstest": Format(prompts.read_xstest, prompts.XSTEST_COLUMNS),
}
