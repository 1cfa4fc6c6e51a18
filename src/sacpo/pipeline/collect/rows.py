"""Rows of PKU-SafeRLHF's schema from labelled pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from sacpo.data.records import Prompt
from sacpo.pipeline.collect.drawing import Drawn
from sacpo.pipeline.collect.labels import Labels, answer_key
from sacpo.plain import JsonObject
from sacpo.recipe.collect import COMPARED, HARMLESS, HELPFUL, LabelSpec

UNREAD, UNLABELLED, TIE = "no verdict was read", "nobody said whether an answer is safe", "no preference"
IDS = {HELPFUL: "better", HARMLESS: "safer"}


def rows_of(
    pairs: Sequence[Drawn], labels: Labels, spec: LabelSpec, categories: Sequence[str], seed: int
) -> tuple[list[JsonObject], dict[str, int]]:
    """Return the rows, and how many pairs were left out for which reason.

    A row has both preferences and both safety labels, or it is left out. Where one answer is safe and the other is not,
    the safe one is the safer one whatever the comparison says, as in PKU-SafeRLHF; how often the comparison says
    otherwise is counted under "overruled".

    Args:
        pairs: The pairs.
        labels: What was said of them.
        spec: How a probability becomes a label.
        categories: All categories of harm, which rows spell out.
        seed: The root of what is drawn.
    """
    rows, left = [], Counter[str]()
    for index, (first, second) in enumerate(pairs):
        said = {criterion: labels.better[criterion][index] for criterion in COMPARED}
        safe = [labels.safe.get(answer_key(answer)) for answer in (first, second)]
        if None in safe:
            left[UNLABELLED] += 1
            continue
        ids: dict[str, int] = {}
        for criterion, p in said.items():
            rng = random.Random(f"{seed}:{criterion}:{first.prompt.id}:{first.hash}:{second.hash}")
            chosen = None if p is None else preferred(p, spec, rng)
            overrule = criterion == HARMLESS and safe[0] != safe[1]
            if p is None or (chosen is None and not overrule):
                left[f"{UNREAD}: {criterion}" if p is None else f"{TIE}: {criterion}"] += 1
                break
            ids[criterion] = safe.index(True) if overrule else int(chosen or 0)
            left["overruled"] += overrule and chosen is not None and ids[criterion] != chosen
        if len(ids) == len(COMPARED):
            rows.append(_row((first, second), ids, said, labels, categories))
    return rows, {reason: n for reason, n in sorted(left.items()) if n}


def preferred(p: float, spec: LabelSpec, rng: random.Random) -> int | None:
    """Return which answer is preferred, 0 or 1; None: neither.

    Args:
        p: The probability that it is the first.
        spec: `labels`, `votes` and `ties`.
        rng: Draws labels and lots.
    """
    share = p
    if spec.labels == "sampled":
        share = sum(rng.random() < p for _ in range(spec.votes)) / spec.votes
    if share == 0.5:
        return None if spec.ties == "drop" else int(rng.random() < 0.5)
    return int(share < 0.5)


def _row(
    pair: Drawn,
    ids: Mapping[str, int],
    said: Mapping[str, float | None],
    labels: Labels,
    categories: Sequence[str],
) -> JsonObject:
    row: JsonObject = {"prompt": _prompt(pair[0].prompt), "prompt_category": pair[0].prompt.category}
    row |= {f"response_{i}": answer.text for i, answer in enumerate(pair)}
    row |= {f"response_{i}_source": answer.model for i, answer in enumerate(pair)}
    for i, answer in enumerate(pair):
        key = answer_key(answer)
        row[f"is_response_{i}_safe"] = labels.safe[key]
        if categories:
            named = labels.categories.get(key, ()) if not labels.safe[key] else ()
            row[f"response_{i}_harm_category"] = {name: name in named for name in categories}
        if labels.severity:
            row[f"response_{i}_severity_level"] = 0 if labels.safe[key] else labels.severity.get(key)
        row |= {f"response_{i}_{criterion}_rating": rated[key] for criterion, rated in labels.ratings.items()}
    for criterion, name in IDS.items():
        row[f"{name}_response_id"] = ids[criterion]
        p = said[criterion] or 0.0
        row[f"{name}_probability"] = p if ids[criterion] == 0 else 1 - p
    return row


def _prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    """Return the prompt's text, or its messages where there are several."""
    if len(prompt.messages) == 1:
        return prompt.text
    return [{"role": message.role, "content": message.content} for message in prompt.messages]
