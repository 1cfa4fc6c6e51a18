"""PKU-SafeRLHF: two answers with a helpfulness label and a safety label, or its reshaped safety pairs.

Source: https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF
"""

from __future__ import annotations

from sacpo.data.records import Labelled, Pair, Prompt, Record
from sacpo.data.sources.chat import prompt_field
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import Row
from sacpo.errors import DataError
from sacpo.recipe.schema import SourceSpec

COLUMNS = (
    "prompt",
    "response_0",
    "response_1",
    "better_response_id",
    "safer_response_id",
    "is_response_0_safe",
    "is_response_1_safe",
    "chosen",
    "rejected",
)
CRITERIA = {"better": "helpfulness", "safer": "harmlessness"}


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's pair by `spec.label`, or its two answers labelled safe or not.

    Rows reshaped to {prompt, chosen, rejected} hold the safety preference alone: `chosen` is safe, `rejected` is not.
    As unpaired data with `label: better`, the better answer is the desirable one; otherwise safe answers are.

    Raises:
        DataError: The label is not given, or the row does not hold it; or a field is not as the format says.
    """
    prompt = prompt_field(row, spec)
    if not row.has("response_0") and row.has("chosen"):
        return _reshaped(row, prompt, spec, as_)
    answers = (row.text("response_0"), row.text("response_1"))
    if as_ == "unpaired" and spec.label != "better":
        safe = (row.boolean("is_response_0_safe"), row.boolean("is_response_1_safe"))
        return [
            Labelled(prompt, answer, label, row.source, CRITERIA["safer"])
            for answer, label in zip(answers, safe, strict=True)
        ]
    if spec.label is None:
        raise DataError(
            "the source has two preferences and the recipe names none",
            where=f"{row.place}, field 'label' of the recipe's data source",
            allowed=("better", "safer"),
            do="add 'label: better' (helpfulness) or 'label: safer' (harmlessness)",
        )
    first = row.choice(f"{spec.label}_response_id", (0, 1))
    return [Pair(prompt, answers[first], answers[1 - first], 1.0, row.source, CRITERIA[spec.label])]


def _reshaped(row: Row, prompt: Prompt, spec: SourceSpec, as_: str | None) -> list[Record]:
    if spec.label == "better":
        raise DataError(
            "rows with 'chosen' and 'rejected' hold only the safety preference",
            where=row.place,
            value=spec.label,
            allowed=("safer",),
            do="use 'label: safer', or a file with 'better_response_id'",
        )
    chosen, rejected = row.text("chosen"), row.text("rejected")
    if as_ == "unpaired":
        return [
            Labelled(prompt, chosen, True, row.source, CRITERIA["safer"]),
            Labelled(prompt, rejected, False, row.source, CRITERIA["safer"]),
        ]
    return [Pair(prompt, chosen, rejected, 1.0, row.source, CRITERIA["safer"])]


FORMATS = {"pku-safe-rlhf": Format("pairs", read, COLUMNS)}
