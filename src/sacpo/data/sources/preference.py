"""Preference pairs: TRL's preference format, with an explicit or an implicit prompt, and UltraFeedback's.

Source: https://huggingface.co/docs/trl/dataset_formats,
https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized
"""

from __future__ import annotations

from dataclasses import replace

from sacpo.data.records import Pair, Record
from sacpo.data.sources.chat import agreed, completion_field, messages_of, prompt_field, prompt_of, split_last
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import Row, Skip
from sacpo.recipe.schema import SourceSpec

COLUMNS = ("prompt", "chosen", "rejected", "p", "offset", "criterion", "system")
ULTRAFEEDBACK_COLUMNS = ("prompt", "chosen", "rejected", "score_chosen", "score_rejected", "system")
NOT_SHARED = "the two dialogues do not share their prompt"
AGAINST_SCORES = "score_chosen is below score_rejected"


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's pair; its optional `p` is the probability that `chosen` is preferred, 1 by default.

    The optional `offset` is what the difference of rewards must reach, 0 by default.
    Prompt and completions are texts or messages. Where `chosen` is a whole dialogue, the prompt is what it shares
    with `rejected`, up to the last answer; a `prompt` beside it may add what stands in front. The text in `system`
    stands before the prompt.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    p = row.number("p", 0, 1) if row.has("p") else 1.0
    offset = row.number("offset") if row.has("offset") else 0.0
    return [replace(_pair(row, spec, p), offset=offset)]


def read_ultrafeedback(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's pair: a tie where its two scores are equal; it is left out where they contradict it.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    p = 1.0
    if row.has("score_chosen") or row.has("score_rejected"):
        chosen, rejected = row.number("score_chosen"), row.number("score_rejected")
        if chosen < rejected:
            raise Skip(AGAINST_SCORES)
        p = 0.5 if chosen == rejected else 1.0
    return [_pair(row, spec, p)]


def _pair(row: Row, spec: SourceSpec, p: float) -> Pair:
    criterion = row.optional_text("criterion")
    chosen = row.value("chosen")
    if isinstance(chosen, list) and len(chosen) > 1:
        return _whole_dialogues(row, spec, p, criterion)
    prompt = prompt_field(row, spec)
    return Pair(prompt, completion_field(row, "chosen"), completion_field(row, "rejected"), p, row.source, criterion)


def _whole_dialogues(row: Row, spec: SourceSpec, p: float, criterion: str) -> Pair:
    before, chosen = split_last(row, messages_of(row, row.value("chosen"), "chosen"), "chosen")
    other, rejected = split_last(row, messages_of(row, row.value("rejected"), "rejected"), "rejected")
    if before != other:
        raise Skip(NOT_SHARED)
    prompt = prompt_of(row, agreed(row, before, "chosen"), spec, "chosen")
    return Pair(prompt, chosen, rejected, p, row.source, criterion)


FORMATS = {
    "preference": Format("pairs", read, COLUMNS),
    "ultrafeedback": Format("pairs", read_ultrafeedback, ULTRAFEEDBACK_COLUMNS),
}
