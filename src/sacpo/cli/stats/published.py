"""Published verdict files as verdict records: AlpacaEval, LLMBar, PandaLM, XSTest.

Files are read as data sources are: packed or not, with or without a byte order mark, as JSON, JSON lines or a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sacpo.data.records import Kind, Outcome, Verdict, text_hash
from sacpo.data.sources.rows import Row
from sacpo.errors import DataError
from sacpo.judging.verdict_rows import read_rows
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
GOLD = "gold"
VOTES = {0: Outcome.TIE, 1: Outcome.WIN, 2: Outcome.LOSS}


class Published(NamedTuple):
    """A published format: how a row becomes verdicts, and the suffix of a file that has none of its own."""

    read: Callable[[Row, Lengths], Iterator[Verdict]]
    suffix: str


def read_published(path: Path, form: str) -> tuple[list[Verdict], Lengths]:
    """Read a published file: its verdicts, and its answers' lengths by hash where it holds texts.

    Args:
        path: The file.
        form: A key of `FORMATS`.

    Raises:
        DataError: No such format, or the file is not of it: the row and its field are named.
    """
    if form not in FORMATS:
        raise DataError("no such format of verdicts", value=form, allowed=["verdicts", *FORMATS])
    lengths: Lengths = {}
    found: list[Verdict] = []
    for row in read_rows(path, FORMATS[form].suffix):
        try:
            found.extend(FORMATS[form].read(row, lengths))
        except DataError as error:
            raise DataError(
                f"the file is not of the format {form}: {error.what}",
                where=error.where,
                value=error.value,
                allowed=error.allowed,
                do=error.do if "columns:" not in (error.do or "") else "name the format of this file with --format",
            ) from error
    return found, lengths


def _alpaca_eval(row: Row, lengths: Lengths) -> Iterator[Verdict]:
    """Yield the verdict of a row of `annotations.json`: generator_2's answer against generator_1's."""
    prompt = text_hash(row.text("instruction"))
    texts = [row.text(name, empty=True) for name in ("output_2", "output_1")]
    ours, theirs = hashes = [text_hash(text) for text in texts]
    lengths.update(zip(hashes, map(len, texts), strict=True))
    yield preferred(
        _preference(row),
        prompt_id=prompt,
        cluster=prompt,
        model=row.text("generator_2"),
        baseline=row.text("generator_1"),
        judge=row.optional_text("annotator") or "annotator",
        criterion="helpfulness",
        category=row.optional_text("dataset"),
        answer_hash=ours,
        baseline_hash=theirs,
    )


def _preference(row: Row) -> float | None:
    """Return a row's preference; null and NaN, as pandas writes it, are no verdict, which AlpacaEval drops."""
    value = row.value("preference")
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    preference = row.number("preference", 0, 2)
    if 0 < preference < 1:
        raise row.error("not a preference", "preference", value, "0 or 1.5 (draw), 1 to 2, null")
    return preference


def preferred(preference: float | None, **fields: Any) -> Verdict:
    """Return the verdict that AlpacaEval's preference stands for; the other fields are those of `Verdict`.

    Above 1.5 the model won, 0 and 1.5 are ties, None is unparsed.
    """
    (probability,) = win_probabilities([preference]) if preference is not None else (None,)
    if probability is None:
        return Verdict(outcome=Outcome.UNPARSED, **fields)
    outcome = Outcome.WIN if probability > 0.5 else Outcome.LOSS if probability < 0.5 else Outcome.TIE
    return Verdict(outcome=outcome, probability=float(probability), **fields)


def _llmbar(row: Row, lengths: Lengths) -> Iterator[Verdict]:
    """Yield a run's winner in both orders and, as the judge "gold", the label: one run a row.

    A winner is named by answer (1, 2), not by place; null was not read. A judge is an evaluator with a strategy. An
    item's category is its subset, so a file that pools subsets has its figures by subset too.
    """
    subset, judge = row.text("subset"), f"{row.text('evaluator')} {row.text('strategy')}"
    said = {name: _winners(row, name) for name in ("label", "no_swap", "swap")}
    if len({len(winners) for winners in said.values()}) > 1:
        sizes = {name: len(winners) for name, winners in said.items()}
        raise row.error("a run needs one winner an item and order", "swap", sizes, "lists of equal length")
    columns = ((GOLD, "", "label"), (judge, "ab", "no_swap"), (judge, "ba", "swap"))
    for i in range(len(said["label"])):
        item = f"{subset} {i}"
        for name, order, column in columns:
            yield Verdict(
                prompt_id=item,
                cluster=item,
                model="output 1",
                criterion="instruction following",
                judge=name,
                answer_hash=text_hash(item, "1"),
                baseline="output 2",
                baseline_hash=text_hash(item, "2"),
                category=subset,
                order=order,
                outcome=WINNERS.get(str(said[column][i]), Outcome.UNPARSED),
            )


def _winners(row: Row, field: str) -> list[object]:
    winners = row.value(field)
    if not isinstance(winners, list):
        raise row.error(f"'{field}' is not a list of winners", field, winners, "one winner an item: 1, 2 or null")
    return winners


def _pandalm(row: Row, lengths: Lengths) -> Iterator[Verdict]:
    """Yield three people's votes on a pair; the models' names are in `cmp_key`."""
    prompt, names = _identity(row, "idx"), row.text("cmp_key").split("_")
    if len(names) != len(("model", "baseline")):
        raise row.error("'cmp_key' does not name two models", "cmp_key", row.value("cmp_key"), "MODEL_MODEL")
    texts = [_said(row, name) for name in ("response1", "response2")]
    hashes = [text_hash(text) for text in texts]
    lengths.update(zip(hashes, map(len, texts), strict=True))
    for rater in (1, 2, 3):
        yield Verdict(
            prompt_id=prompt,
            cluster=prompt,
            model=names[0],
            criterion="helpfulness",
            judge=f"human:{rater}",
            answer_hash=hashes[0],
            baseline=names[1],
            baseline_hash=hashes[1],
            outcome=VOTES[row.choice(f"annotator{rater}", [*VOTES])],
        )


def _said(row: Row, field: str) -> str:
    """Return an answer as its text; one of PandaLM's is the JSON value true."""
    value = row.value(field)
    return str(value) if isinstance(value, bool | int | float) else row.text(field, empty=True)


def _identity(row: Row, field: str) -> str:
    """Return a row's id as a text: 1 and "1" are the same."""
    value = row.value(field)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else row.text(field)


def _xstest(row: Row, lengths: Lengths) -> Iterator[Verdict]:
    """Yield every judge's label of an answer; a text that is none of the three labels is unparsed."""
    item, model, category = _identity(row, "id"), row.text("model"), row.text("type")
    for column, judge in XSTEST_JUDGES.items():
        label = row.optional_text(column) if column in row.data else row.text(column)
        yield Verdict(
            prompt_id=item,
            cluster=item,
            model=model,
            criterion="refusal",
            judge=judge,
            answer_hash=text_hash(model, item),
            category=category,
            kind=Kind.RESTRICTED if category.startswith("contrast_") else Kind.BORDERLINE,
            label=REFUSALS.get(label, ""),
            outcome=None if label in REFUSALS else Outcome.UNPARSED,
        )


FORMATS = {
    "alpaca-eval": Published(_alpaca_eval, ".json"),
    "llmbar": Published(_llmbar, ".jsonl"),
    "pandalm": Published(_pandalm, ".json"),
    "xstest": Published(_xstest, ".csv"),
}
