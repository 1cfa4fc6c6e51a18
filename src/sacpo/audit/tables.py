"""The tables of audits, as plain text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacpo.audit.findings import preference_findings, prompt_findings
from sacpo.audit.prompts import BOUNDS, DRAWN, needed
from sacpo.audit.published import SAFETY
from sacpo.plain import JsonMapping
from sacpo.stats.plain import number_cell, section

SHOWN = 14
"""Categories of one set in the text; JSON holds all."""
Rows = list[list[str]]


@dataclass(frozen=True)
class Table:
    """A titled table; `header` names its columns, separated by semicolons."""

    title: str
    header: str
    rows: Rows

    def text(self) -> str:
        """Return it for a terminal."""
        return section(self.title, self.header, self.rows)

    def markdown(self) -> str:
        """Return it for a page."""
        names = self.header.split(";")
        lines = [names, ["---"] * len(names), *self.rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"{self.title}\n\n{table}"


def render(tables: Sequence[Table], markdown: bool = False) -> str:
    """Return the tables that have rows, one after the other."""
    return "\n\n".join(table.markdown() if markdown else table.text() for table in tables if table.rows) + "\n"


def preference_tables(found: JsonMapping) -> list[Table]:
    """Return the tables of `audit_preferences`."""
    files = found["files"]
    findings = Table("What stands out", "set;finding", [list(row) for row in preference_findings(found)])
    return [findings, *_counts(files), *_conflicts(files), *_sides(files), _leaks(found["leakage"])]


def _counts(files: Sequence[JsonMapping]) -> list[Table]:
    held = "set;format;rows;pairs;single answers;left out;prompts;rows a prompt;most;words a prompt"
    safety = [
        [f["name"], *(_n(f["safety"][s]) for s in SAFETY), _estimate(f["disagreeing"])] for f in files if f["safety"]
    ]
    published = [
        [f["name"], row["count"], _n(row["here"]), _n(row["published"]), "yes" if row["same"] else "no"]
        for f in files
        for row in f["published"]
    ]
    return [
        Table("What the sets hold", held, [_held(file) for file in files]),
        _left_out(files),
        Table("Safety of the two answers", f"set;{';'.join(SAFETY)};the two preferences disagree", safety),
        Table("Counts against the published ones", "set;count;here;published;as published", published),
    ]


def _conflicts(files: Sequence[JsonMapping]) -> list[Table]:
    faults = [
        [f["name"], row["what"], _n(row["rows"]), "line or row " + ", ".join(row["first"])]
        for f in files
        for row in f["faults"]
    ]
    header = (
        "set;criterion;pairs labelled again;both ways round;prompts with circles;repeated rows;"
        "near-duplicate prompts;equal answers;nearly equal answers"
    )
    conflicts = [_conflict(file, row) for file in files for row in file["conflicts"]]
    return [
        Table("Faults", "set;what;rows;first", faults),
        Table("Contradictions and duplicates", header, conflicts),
    ]


def _sides(files: Sequence[JsonMapping]) -> list[Table]:
    rows = [(file["name"], row) for file in files for row in file["bias"]]
    labels = "set;desirable;undesirable;refusals among desirable;among undesirable;words of desirable;of undesirable"
    return [
        Table(
            "What the preferred answer is (share of the pairs that differ in it, 95 %)",
            "set;criterion;pairs;ties;longer;words more;refusal;shown first;safe",
            [_bias(name, row) for name, row in rows if "pairs" in row],
        ),
        Table(
            "Desirable and undesirable answers (95 %)",
            labels,
            [_labels(n, row) for n, row in rows if "pairs" not in row],
        ),
        Table(
            "Prompts by category",
            "set;category;prompts;effective categories",
            [row for file in files for row in _categories(file["name"], file["coverage"])],
        ),
    ]


def prompt_tables(found: JsonMapping) -> list[Table]:
    """Return the tables of `audit_prompts`."""
    files = found["files"]
    most = [f"{needed(rate):,} for {rate:.0%}" for rate in BOUNDS]
    findings = prompt_findings(found, needed(BOUNDS[0]), BOUNDS[0])
    return [
        Table("What stands out", "set;finding", [list(row) for row in findings]),
        Table(
            "Prompt sets",
            "set;prompts;repeated;near-duplicates;left out;categories;effective categories",
            [_prompts(file) for file in files],
        ),
        _left_out(files),
        Table(
            "The failure rate that a set without a failure leaves open (95 %)",
            "set;kind;prompts;independent;undetected up to",
            [[file["name"], row["kind"], *_open(row)] for file in files for row in file["kinds"]],
        ),
        Table(
            f"Diversity (of {_drawn(files)}; similarity of two prompts)",
            "set;words a prompt;distinct words;pairs of words;triples;openings;similarity",
            [_diversity(file) for file in files],
        ),
        Table(
            f"Meanings (cosine of two vectors; how many differ, of {_drawn(files)}; said before: cosine .9)",
            "set;similarity;effective number;said before",
            [_meaning(file["name"], file["meaning"]) for file in files if "meaning" in file],
        ),
        Table(
            f"By category (independent prompts without a failure that bound a rate: {', '.join(most)})",
            "set;kind;category;prompts;independent;undetected up to",
            [
                [file["name"], row["kind"], row["category"] or "not said", *_open(row)]
                for file in files
                for row in file["categories"]
            ],
        ),
        _leaks(found["shared"]),
    ]


def _drawn(files: Sequence[JsonMapping]) -> str:
    """Return which prompts of the sets are compared: of small ones all are."""
    small = [file["prompts"] <= DRAWN for file in files]
    some = f"{DRAWN} prompts drawn, mean over draws"
    return "all prompts" if all(small) else f"{some}, or all of a set that has no more" if any(small) else some


def _n(value: int) -> str:
    return f"{value:,}"


def _left_out(files: Sequence[JsonMapping]) -> Table:
    rows = [[file["name"], why, _n(n)] for file in files for why, n in file["dropped"].items()]
    return Table("Why rows were left out", "set;why;rows", rows)


def _open(row: JsonMapping) -> list[str]:
    return [_n(row["prompts"]), _n(row["independent"]), f"{row['undetected']:.3f}"]


def _estimate(estimate: JsonMapping | None, digits: int = 2) -> str:
    """Return a value with its interval and the number of items; "-" where nothing could be counted."""
    if estimate is None or estimate["value"] is None:
        return "-"
    low, high = estimate["ci95"]
    ends = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{estimate['value']:.{digits}f}{ends} of {estimate['n']:,}"


def _held(file: JsonMapping) -> list[str]:
    cover = file["coverage"]
    left = sum(file["dropped"].values())
    counts = [_n(file[name]) for name in ("rows", "pairs", "labelled")]
    rows = cover["rows_a_prompt"]
    prompts = [_n(cover["prompts"]), f"{rows['mean']:.1f}", _n(rows["most"]), f"{cover['words']:.1f}"]
    return [file["name"], file["format"], *counts, _n(left), *prompts]


def _conflict(file: JsonMapping, row: JsonMapping) -> list[str]:
    same = file["duplicates"]
    counts = [row["repeated"], row["both_ways"], row["circles"], same["rows"], same["near_prompts"]]
    return [file["name"], row["criterion"], *(_n(n) for n in (*counts, same["equal_answers"], same["near_answers"]))]


def _bias(name: str, row: JsonMapping) -> list[str]:
    shares = [_estimate(row["longer"]), _estimate(row["words_more"], 1)]
    shares += [_estimate(row[what]) for what in ("refusal", "first", "safe")]
    return [name, row["criterion"], _n(row["pairs"]), _n(row["ties"]), *shares]


def _labels(name: str, row: JsonMapping) -> list[str]:
    sides = ("desirable", "undesirable")
    shares = [_estimate(row["refusals"][side]) for side in sides] + [_estimate(row["words"][side], 1) for side in sides]
    return [name, *(_n(row[side]) for side in sides), *shares]


def _categories(name: str, cover: JsonMapping) -> Rows:
    ranked = sorted(cover["categories"].items(), key=lambda item: (-item[1], item[0]))
    number = number_cell(cover["effective_categories"], 1)
    rows = [[name, category, _n(n), number] for category, n in ranked[:SHOWN]]
    left = ranked[SHOWN:]
    return rows + ([[name, f"{len(left)} more", _n(sum(n for _, n in left)), number]] if left else [])


def _leaks(pairs: Sequence[JsonMapping]) -> Table:
    """Return the sets that share prompts; of two sets alone also that they share none."""
    shown = [row for row in pairs if row["same"] or row["near"] or len(pairs) == 1]
    return Table(
        "Prompts of one set in another (sets that are not named together share none)",
        "held by;of;prompts;the same;nearly the same",
        [[r["first"], r["second"], *(_n(r[name]) for name in ("prompts", "same", "near"))] for r in shown],
    )


def _prompts(file: JsonMapping) -> list[str]:
    counts = [file["prompts"], file["prompts"] - file["distinct"], file["near"], sum(file["dropped"].values())]
    categories = len({row["category"] for row in file["categories"]})
    effective = number_cell(file["effective_categories"], 1)
    return [file["name"], *(_n(n) for n in counts), _n(categories), effective]


def _meaning(name: str, found: JsonMapping) -> list[str]:
    return [name, number_cell(found["similarity"]), number_cell(found["effective"], 1), _n(found["same"])]


def _diversity(file: JsonMapping) -> list[str]:
    found = file["diversity"]
    shares = [number_cell(found[name]) for name in ("distinct_1", "distinct_2", "distinct_3", "openings", "similarity")]
    return [file["name"], f"{found['words']:.1f}", *shares]
