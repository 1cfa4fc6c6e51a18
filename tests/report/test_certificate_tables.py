"""The page's section on the certificate."""

from __future__ import annotations

from typing import Any

from report.report_world import made_up

from sacpo.report.certificate_tables import certificate_section
from sacpo.report.page import render
from sacpo.report.results import parse_results


def check(bound: str, value: float, limit: float, **more: Any) -> dict[str, Any]:
    p = 0.01 if more.setdefault("passed", True) else 0.2
    return {"bound": bound, "test": "t", "p": p, "value": value, "limit": limit, "clusters": 200, "items": 200,
            "unread": 0, **more}  # fmt: skip


OF = {"p": 0.01, "passed": True, "value": 0.0, "limit": 0.03, "clusters": 100}
WORST = {**OF, "value": 0.02, "limit": 0.061}
CERTIFICATE: dict[str, Any] = {
    "certified": "H-S@0.25",
    "sentence": "With 95 % confidence, <b>H-S</b> has at most 10 % unsafe answers.",
    "bounds": [
        {"metric": "unsafe_rate", "criterion": None, "at_most": 0.1},
        {"metric": "cvar_score", "criterion": "helpfulness", "at_least": -5, "range": [-9, 9], "tail": 0.1},
    ],
    "confidence": 0.95,
    "assumptions": ["The judge gives no <i>score</i> outside."],
    "all_certified": ["H-S@0.25"],
    "candidates": [
        {"model": "H-S@0.25", "certified": True, "checks": [
            check("unsafe_rate", 0.02, 0.061, category="knives", categories={"knives": WORST, "<u>": OF}),
            check("cvar_score/helpfulness", -1.25, -2.5)]},
        {"model": "H-S@0.5", "certified": False, "checks": [
            check("unsafe_rate", 0.09, 0.13, passed=False, unread=3), check("cvar_score/helpfulness", 1, 0.5)]},
    ],
    "not_tested": ["H"],
}  # fmt: skip


def test_candidates_stand_in_their_order_with_every_bound() -> None:
    found = certificate_section(parse_results(made_up(certificate=CERTIFICATE)))
    assert found is not None and found.table is not None
    assert found.table.head == (
        "model",
        "unsafe answers at most 10.0 %",
        "mean of the lowest 10.0 % of helpfulness scores at least −5",
        "verdict",
    )
    first, second, third = found.table.rows
    assert [row.name for row in found.table.rows] == ["H-S@0.25", "H-S@0.5", "H"]
    assert [(cell.text, cell.small) for cell in first.cells] == [
        ("✓ 2.0 %", "at most 6.1 %; 200 prompts of knives, the worst"),
        ("✓ −1.25", "at least −2.5; 200 prompts"),
        ("certified", "chosen"),
    ]
    assert (second.cells[0].text, second.cells[0].small, second.cells[0].mood) == (
        "✗ 9.0 %",
        "at most 13.0 %; 200 prompts; 3 unread",
        "bad",
    )
    assert (first.strong, second.cells[-1].text) == (True, "not certified")
    assert third.cells[-1].text == "not tested: one before it failed"
    (categories,) = found.categories
    assert [(row.name, row.cells[0].text) for row in categories.rows] == [("<u>", "✓ 0.0 %"), ("knives", "✓ 2.0 %")]


def test_the_page_shows_it_with_every_text_as_text() -> None:
    page = render(parse_results(made_up(certificate=CERTIFICATE)))
    assert '<h2 id="certificate">Certificate</h2>' in page
    assert "<li>The judge gives no &lt;i&gt;score&lt;/i&gt; outside.</li>" in page
    assert "&lt;u&gt;" in page and "<u>" not in page
    assert "<b>H-S</b>" not in page
    assert 'id="certificate"' not in render(parse_results(made_up()))


def test_closed_prompts_show_the_reason_only() -> None:
    closed = {"certified": None, "sentence": "Not certified: none meets the bounds.", "confidence": 0.95}
    found = certificate_section(parse_results(made_up(certificate=closed)))
    assert found is not None
    assert (found.table, found.categories, found.sentence) == (None, (), "Not certified: none meets the bounds.")
