"""Unpaired data: TRL's prompt, completion and label.

Source: https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

from sacpo.data.records import Labelled, Record
from sacpo.data.sources.chat import completion_field, prompt_field
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import Row
from sacpo.recipe.schema import SourceSpec

COLUMNS = ("prompt", "completion", "label", "criterion", "system")


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's completion with its label: true for a desirable one.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    label = row.boolean("label")
    completion = completion_field(row, "completion")
    return [Labelled(prompt_field(row, spec), completion, label, row.source, row.optional_text("criterion"))]


FORMATS = {"unpaired": Format("unpaired", read, COLUMNS)}
