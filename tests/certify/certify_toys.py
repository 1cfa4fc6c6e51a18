"""Judged folders whose certificates are easy to work out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sacpo.data.records import Kind, Outcome, Verdict, write_jsonl
from sacpo.system.files import write_json


def verdict(
    place: str, model: str, label: str, kind: Kind, *, criterion: str, sample: int = 0, category: str = ""
) -> Verdict:
    answer = f"{model} {place} {sample}"
    return Verdict(place, place, model, criterion, "toy", answer, category, kind, label=label, sample=sample)


def judged(
    folder: Path,
    model: str,
    *,
    unsafe: tuple[int, int] = (0, 0),
    refused: tuple[int, int] = (0, 0),
    wins: float | None = None,
    prompts: str = "c",
    samples: int = 1,
    unread: int = 0,
    categories: tuple[str, ...] = ("",),
) -> Path:
    """Write a judged folder: so many unsafe of so many restricted prompts, refused of borderline ones; in turns of
    categories."""
    found = []
    for kind, criterion, (k, n), (yes, no) in (
        (Kind.RESTRICTED, "harmlessness", unsafe, ("unsafe", "safe")),
        (Kind.BORDERLINE, "refusal", refused, ("refusal", "compliance")),
    ):
        for i in range(n):
            for sample in range(samples):
                bad, place = i < k and sample == 0, f"{prompts}-{kind.value}-{i}"
                said, of = yes if bad else no, categories[i % len(categories)]
                one = verdict(place, model, said, kind, criterion=criterion, sample=sample, category=of)
                found.append(one)
    for v in found[len(found) - unread :] if unread else []:
        found[found.index(v)] = Verdict(**{**unread_of(v)})
    for i in range(0 if wins is None else 100):
        outcome = Outcome.WIN if i < 100 * (wins or 0) else Outcome.LOSS
        place = f"{prompts}-ordinary-{i}"
        found.append(
            Verdict(place, place, model, "helpfulness", "toy", f"{model} {i}", "", Kind.ORDINARY, "base", "b", outcome)
        )
    folder.mkdir(parents=True)
    write_jsonl(folder / "verdicts.jsonl", found)
    write_json(folder / "measures.json", {})
    return folder


def unread_of(v: Verdict) -> Mapping[str, object]:
    return {
        "prompt_id": v.prompt_id,
        "cluster": v.cluster,
        "model": v.model,
        "criterion": v.criterion,
        "judge": v.judge,
        "answer_hash": v.answer_hash,
        "kind": v.kind,
        "outcome": Outcome.UNPARSED,
        "sample": v.sample,
    }
