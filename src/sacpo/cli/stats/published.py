"""Published verdict files as verdict records: AlpacaEval, LLMBar, PandaLM, XSTest."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sacpo.data.records import Kind, Outcome, Verdict, text_hash
from sacpo.errors import DataError
from sacpo.stats.alpaca import win_probabilities

Lengths = dict[str, int]
REFUSALS = {
    "1_full_compliance": "full_compliance",
    "2_full_refusal": "full_refusal",
    "3_partial_refusal": "partial_refusal",
}
XSTEST_JUDGES = {
    "annotation_1": "human:1",
    "annotation_2": "human:2",
    "final_label": "human:final",
    "gpt4_label": "gpt4",
    "strmatch_label": "string match",
}
WINNERS = {"1": Outcome.WIN, "2": Outcome.LOSS}
GOLD, GZIP = "gold", b"\x1f\x8b"
VOTES = {0: Outcome.TIE, 1: Outcome.WIN, 2: Outcome.LOSS}


def read_published(path: Path, form: str) -> tuple[list[Verdict], Lengths]:
    """Read a published file: its verdicts, and its answers' lengths by hash where it holds texts.

    Args:
        path: The file.
        form: A key of `FORMATS`.

    Raises:
        DataError: No such format, or the file is not of it.
    """
    if form not in FORMATS:
        raise DataError("no such format of verdicts", value=form, allowed=["verdicts", *FORMATS])
    if not path.is_file():
        raise DataError("no such file", where=path)
    lengths: Lengths = {}
    try:
        return list(FORMATS[form](path, lengths)), lengths
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the file is not of the format {form}: {error!r}", where=path) from error


def _alpaca_eval(path: Path, lengths: Lengths) -> Iterator[Verdict]:
    """Yield the verdicts of `annotations.json`: generator_2's answers against generator_1's."""
    for item in json.loads(path.read_text(encoding="utf-8")):
        prompt = text_hash(item["instruction"])
        ours, theirs = (text_hash(item[name]) for name in ("output_2", "output_1"))
        lengths |= {ours: len(item["output_2"]), theirs: len(item["output_1"])}
        yield preferred(
            item["preference"],
            prompt_id=prompt,
            cluster=prompt,
            model=item["generator_2"],
            baseline=item["generator_1"],
            judge=item.get("annotator") or "annotator",
            criterion="helpfulness",
            category=item.get("dataset") or "",
            answer_hash=ours,
            baseline_hash=theirs,
        )


def preferred(preference: float | None, **fields: Any) -> Verdict:
    """Return the verdict that AlpacaEval's preference stands for; the other fields are those of `Verdict`.

    Above 1.5 the model won, 0 and 1.5 are ties, None is unparsed.
    """
    (probability,) = win_probabilities([preference]) if preference is not None else (None,)
    if probability is None:
        return Verdict(outcome=Outcome.UNPARSED, **fields)
    outcome = Outcome.WIN if probability > 0.5 else Outcome.LOSS if probability < 0.5 else Outcome.TIE
    return Verdict(outcome=outcome, probability=float(probability), **fields)


def _llmbar(path: Path, lengths: Lengths) -> Iterator[Verdict]:
    """Yield each run's winner in both orders and, as the judge "gold", the label: one run a line, plain or gzipped.

    A winner is named by answer ("1", "2"), not by place; null was not read. A judge is an evaluator with a strategy.
    """
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw.startswith(GZIP) else raw).decode("utf-8")
    for run in map(json.loads, filter(str.strip, text.splitlines())):
        judge = f"{run['evaluator']} {run['strategy']}"
        winners = zip(run["label"], run["no_swap"], run["swap"], strict=True)
        for i, (label, straight, swapped) in enumerate(winners):
            item = f"{run['subset']} {i}"
            for name, order, winner in ((GOLD, "", label), (judge, "ab", straight), (judge, "ba", swapped)):
                yield Verdict(
                    prompt_id=item,
                    cluster=item,
                    model="output 1",
                    criterion="instruction following",
                    judge=name,
                    answer_hash=text_hash(item, "1"),
                    baseline="output 2",
                    baseline_hash=text_hash(item, "2"),
                    category=run["subset"],
                    order=order,
                    outcome=WINNERS.get(str(winner), Outcome.UNPARSED),
                )


def _pandalm(path: Path, lengths: Lengths) -> Iterator[Verdict]:
    """Yield three people's votes on each pair; the models' names are in `cmp_key`."""
    for item in json.loads(path.read_text(encoding="utf-8")):
        prompt, (model, baseline) = str(item["idx"]), item["cmp_key"].split("_")
        texts = [str(item[name]) for name in ("response1", "response2")]  # one of them is the JSON value true
        hashes = [text_hash(text) for text in texts]
        lengths |= dict(zip(hashes, map(len, texts), strict=True))
        for rater in (1, 2, 3):
            yield Verdict(
                prompt_id=prompt,
                cluster=prompt,
                model=model,
                criterion="helpfulness",
                judge=f"human:{rater}",
                answer_hash=hashes[0],
                baseline=baseline,
                baseline_hash=hashes[1],
                outcome=VOTES[int(item[f"annotator{rater}"])],
            )


def _xstest(path: Path, lengths: Lengths) -> Iterator[Verdict]:
    """Yield every judge's label of every answer; a text that is none of the three labels is unparsed."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield from (_refusal(row, judge, row[column]) for column, judge in XSTEST_JUDGES.items())


def _refusal(row: Mapping[str, str], judge: str, label: str) -> Verdict:
    unsafe = row["type"].startswith("contrast_")
    return Verdict(
        prompt_id=row["id"],
        cluster=row["id"],
        model=row["model"],
        criterion="refusal",
        judge=judge,
        answer_hash=text_hash(row["model"], row["id"]),
        category=row["type"],
        kind=Kind.RESTRICTED if unsafe else Kind.BORDERLINE,
        label=REFUSALS.get(label, ""),
        outcome=None if label in REFUSALS else Outcome.UNPARSED,
    )


FORMATS: dict[str, Callable[[Path, Lengths], Iterator[Verdict]]] = {
    "alpaca-eval": _alpaca_eval,
    "llmbar": _llmbar,
    "pandalm": _pandalm,
    "xstest": _xstest,
}
