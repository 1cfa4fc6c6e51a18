"""The data card: how the data came about, how far its labels can be believed, what they cost. It quotes no text."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sacpo.audit.tables import Table, preference_tables, render
from sacpo.data.records import Outcome, Verdict
from sacpo.judging.llm.store import Store
from sacpo.judging.ratings import mean_ratings
from sacpo.judging.scored import compare
from sacpo.measure.reliability import reliability_of
from sacpo.pipeline.collect.drawing import Drawn
from sacpo.pipeline.collect.labels import Labels, answer_key
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.llm import LlmSpec
from sacpo.stats.agreement import fleiss_kappa
from sacpo.stats.intervals import OUTCOME_VALUES

INTRODUCTION = """---
task_categories: [text-generation]
tags: [preference, safety, sacpo]
---

# Preference pairs with separate labels of helpfulness and safety

Made by `sacpo collect`. `data.jsonl` and `data.parquet` hold the same rows in PKU-SafeRLHF's schema: `prompt`,
`response_0`, `response_1`, `is_response_0_safe`, `is_response_1_safe`, `better_response_id` (helpfulness),
`safer_response_id` (safety). `better_probability` and `safer_probability` say how sure the labellers are of these ids.
`response_*_helpfulness_rating` and `response_*_harmlessness_rating` are the mean ratings, where single answers were
rated. `verdicts.jsonl` holds what was said one by one.

In a recipe: `{format: pku-safe-rlhf, path: data.jsonl, label: safer}`.

The answers were sampled from models and some of them may be harmful. This card quotes none.
"""


def figures(
    drawing: JsonMapping,
    left: Mapping[str, int],
    rows: Sequence[JsonMapping],
    pairs: Sequence[Drawn],
    labels: Labels,
    panels: Mapping[str, LlmSpec],
    store: Path | None,
) -> JsonObject:
    """Return the card's figures, JSON-ready.

    Args:
        drawing: How the pairs were drawn.
        left: Pairs that were left out, by reason.
        rows: The rows.
        pairs: The pairs.
        labels: What was said.
        panels: The language models that judge, by name.
        store: Where their verdicts are kept.
    """
    lengths = {answer.hash: len(answer.text) for pair in pairs for answer in pair}
    return {
        "drawing": dict(drawing),
        "left": dict(left),
        "rows": len(rows),
        "sources": dict(sorted(Counter(row[f"response_{i}_source"] for row in rows for i in (0, 1)).items())),
        "expected_noise": {
            name: math.fsum(1 - row[f"{name}_probability"] for row in rows) / len(rows) for name in ("better", "safer")
        },
        "reliability": [
            {**judge, "noise": noise(judge["repeat_agreement"]) if judge["kind"] == "comparison" else None}
            for judge in reliability_of(labels.verdicts, lengths)
        ],
        "agreement": agreement(labels.verdicts, pairs),
        "usage": usage(labels.verdicts, panels, store),
    }


def noise(repeats: JsonMapping) -> float | None:
    """Return how often one label is wrong, from how often two repeats agree: 2 e (1 - e) = 1 - agreement.

    It is the noise of the judge about its own usual answer, not its distance from people. None without repeats.
    """
    value = repeats["value"]
    return None if value is None else (1 - math.sqrt(max(0.0, 2 * value - 1))) / 2


def agreement(verdicts: Sequence[Verdict], pairs: Sequence[Drawn]) -> list[JsonObject]:
    """Return Fleiss' kappa of the judges of each criterion, over questions that at least two of them answered.

    Of judges that rate single answers a question is a pair, and what they say is which answer has the higher rating.
    """
    said: dict[str, dict[tuple[str, str, str], dict[str, list[float | str]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for verdict in [*verdicts, *_implied(verdicts, pairs)]:
        value = OUTCOME_VALUES.get(verdict.outcome) if verdict.outcome is not None else verdict.label or None
        if value is not None:
            key = verdict.prompt_id, verdict.answer_hash, verdict.baseline_hash
            said[verdict.criterion][key][verdict.judge].append(value)
    found = []
    for criterion, questions in sorted(said.items()):
        ratings = [[_usual(values) for values in judges.values()] for judges in questions.values()]
        if any(len(rating) > 1 for rating in ratings):
            estimate = fleiss_kappa(ratings, [key[0] for key in questions])
            found.append({"criterion": criterion, "kappa": estimate.to_json()})
    return found


def _implied(verdicts: Sequence[Verdict], pairs: Sequence[Drawn]) -> list[Verdict]:
    """Return which answer of each pair every judge that rates single answers gave the higher rating."""
    raters: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.score is not None and not verdict.baseline_hash and not verdict.label:
            raters[verdict.judge, verdict.criterion].append(verdict)
    found = []
    for own in raters.values():
        ratings = mean_ratings(own)
        said = {(verdict.prompt_id, verdict.answer_hash): verdict for verdict in own}
        for first, second in pairs:
            outcome = compare(ratings.get(answer_key(first)), ratings.get(answer_key(second)))
            if outcome is not Outcome.UNPARSED:
                found.append(replace(said[answer_key(first)], baseline_hash=second.hash, outcome=outcome, score=None))
    return found


def _usual(values: Sequence[float | str]) -> str:
    """Return what a judge said most: of outcomes the side of their mean, of labels the most frequent."""
    numbers = [value for value in values if not isinstance(value, str)]
    if numbers:
        mean = math.fsum(numbers) / len(numbers)
        return "tie" if mean == 0.5 else "first" if mean > 0.5 else "second"
    counts = Counter(str(value) for value in values)
    return min(counts, key=lambda label: (-counts[label], label))


def usage(verdicts: Sequence[Verdict], panels: Mapping[str, LlmSpec], store: Path | None) -> list[JsonObject]:
    """Return what the verdicts of language models used, by judge; a verdict that was known before cost nothing anew.

    Replies on the way to a verdict that could not be read were paid for, too.
    """
    if store is None or not store.exists() or not panels:
        return []
    judged = set(verdicts)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    asked: dict[str, str] = {}
    with Store(store) as kept:
        for row in kept.rows():
            if row.verdict in judged:
                counts[row.verdict.judge].update(verdicts=1, **row.usage)
                asked[row.key] = row.verdict.judge
        for key, judge in asked.items():
            for reply in kept.unread(key):
                counts[judge].update(unread=1, **reply.usage)
    found = []
    for name, count in sorted(counts.items()):
        price = panels[name].price if name in panels else None
        tokens = {kind: count[kind] for kind in ("prompt_tokens", "completion_tokens")}
        cost = None
        if price is not None:
            cost = (tokens["prompt_tokens"] * price.prompt + tokens["completion_tokens"] * price.completion) / 1e6
        found.append({"judge": name, "verdicts": count["verdicts"], "unread": count["unread"], **tokens, "cost": cost})
    return found


def card(found: JsonMapping, audit: JsonMapping) -> str:
    """Return the card, Markdown."""
    drawing = found["drawing"]
    came = [["prompts", drawing["prompts"]], ["answers sampled", drawing["answers"]]]
    came += [[f"left out: {reason}", n] for reason, n in drawing["left"].items()]
    came += [["pairs drawn", drawing["pairs"]]]
    came += [
        [
            "safety label against the comparison (the label decides)"
            if reason == "overruled"
            else f"left out: {reason}",
            n,
        ]
        for reason, n in found["left"].items()
    ]
    came += [["rows", found["rows"]], *([f"answers of {name}", n] for name, n in found["sources"].items())]
    expected = [[name, f"{value:.3f}"] for name, value in found["expected_noise"].items()]
    judged = [_judge_cells(row) for row in found["reliability"]]
    tables = [
        Table("## How the rows came about", "what;number", [[str(name), f"{n:,}"] for name, n in came]),
        Table("## How far the labels can be believed", RELIABILITY, judged),
        Table("Agreement of several judges (Fleiss' kappa; of raters by which answer is rated higher)",
              "criterion;kappa", [[row["criterion"], _cell(row["kappa"])] for row in found["agreement"]]),
        Table("Share of ids that the labellers' own probabilities expect to be wrong", "id;share", expected),
        Table("## What the verdicts used", "judge;verdicts;unread replies;prompt tokens;completion tokens;cost", [
            [row["judge"], f"{row['verdicts']:,}", f"{row['unread']:,}", f"{row['prompt_tokens']:,}",
             f"{row['completion_tokens']:,}", "-" if row["cost"] is None else f"{row['cost']:.4f}"]
            for row in found["usage"]
        ]),
    ]  # fmt: skip
    return "\n".join([INTRODUCTION, render(tables, True), "## Audit\n", render(preference_tables(audit), True)])


RELIABILITY = "judge;criterion;verdicts;unread;order flips;kappa of orders;repeats agree;noise from repeats"


def _judge_cells(row: JsonMapping) -> list[str]:
    names = ("unparsed_rate", "flip_rate", "order_kappa", "repeat_agreement")
    shares = [_cell(row[name]) if name in row else "-" for name in names]
    return [row["judge"], row["criterion"], f"{row['verdicts']:,}", *shares,
            "-" if row["noise"] is None else f"{row['noise']:.3f}"]  # fmt: skip


def _cell(estimate: JsonMapping) -> str:
    low, high = estimate["ci95"]
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")
