"""What stands out in an audit, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from sacpo.plain import JsonMapping

MANY_REPEATED = 0.01
LEAST = 30
"""Pairs that differ in something, from which on a bias is told."""
SIDES = {
    "longer": ("the longer answer", "the shorter answer"),
    "refusal": ("the refusal", "the answer that does not refuse"),
    "first": ("the answer shown first", "the answer shown second"),
}


def preference_findings(found: JsonMapping) -> list[tuple[str, str]]:
    """Return what stands out in `audit_preferences`, with the set that it is about; [] where nothing does."""
    told = [(file["name"], said) for file in found["files"] for said in _of_file(file)]
    for row in found["leakage"]:
        if row["same"] or row["near"]:
            shared = f"{row['same'] + row['near']:,} of {row['prompts']:,} prompts are in {row['first']} too"
            told.append((row["second"], f"{shared}, {row['near']:,} of them nearly"))
    return told


def _of_file(file: JsonMapping) -> Iterator[str]:
    for fault in file["faults"]:
        yield f"{fault['rows']:,} rows: {fault['what']}"
    differ = [row["count"] for row in file["published"] if not row["same"]]
    if differ:
        yield f"not as published: {', '.join(differ)}"
    for row in file["conflicts"]:
        if row["both_ways"]:
            again = f"{row['both_ways']:,} of {row['repeated']:,} labelled again"
            yield f"{again} are preferred both ways round ({row['criterion']})"
        if row["circles"]:
            yield f"{row['circles']:,} prompts prefer in circles ({row['criterion']})"
    repeated = file["duplicates"]["rows"] / max(file["pairs"] + file["labelled"], 1)
    if repeated > MANY_REPEATED:
        yield f"{repeated:.0%} of the rows repeat another one"
    for row in file["bias"]:
        for name, sides in SIDES.items():
            said = _leaning(row.get(name), sides)
            if said:
                yield f"{said} ({row['criterion']})"
        said = _leaning(row.get("safe"), ("the safe answer", "the unsafe answer"))
        if said and row["criterion"] != "harmlessness":
            yield f"{said} ({row['criterion']})"


def _leaning(share: JsonMapping | None, sides: tuple[str, str]) -> str:
    """Return which side is preferred where the interval says that one is, "" elsewhere."""
    if share is None or share["value"] is None or share["n"] < LEAST:
        return ""
    low, high = share["ci95"]
    if low <= 0.5 <= high:
        return ""
    value = share["value"] if low > 0.5 else 1 - share["value"]
    return f"{sides[low <= 0.5]} is preferred in {value:.0%} of {share['n']:,} pairs that differ in it"


def prompt_findings(found: JsonMapping, enough: int, rate: float) -> list[tuple[str, str]]:
    """Return what stands out in `audit_prompts`.

    Args:
        found: The audit.
        enough: Independent prompts that bound a rate.
        rate: The rate.
    """
    told = []
    for file in found["files"]:
        few = [row for row in file["categories"] if row["independent"] < enough]
        if few:
            least = min(row["independent"] for row in few)
            told.append(
                (
                    file["name"],
                    f"{len(few)} of {len(file['categories'])} categories have fewer than {enough} independent prompts "
                    f"(the least {least}): without a failure they do not show a rate below {rate:.0%}",
                )
            )
        if file["near"]:
            told.append((file["name"], f"{file['near']:,} prompts are near-duplicates of another one"))
    return told
