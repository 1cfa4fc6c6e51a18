"""The site holds every page, method.md's equations lead to their functions, and faq.md says what Diagnosis says.

`make site`, which `make test` begins with, builds the site and checks its links.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo.report import cases, signoff
from sacpo.report.diagnosis import TESTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
METHOD = (DOCS / "method.md").read_text(encoding="utf-8")
FAQ = (DOCS / "faq.md").read_text(encoding="utf-8")
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
FROM_ELSEWHERE = {"index.md", "skill.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"}
FUNCTION = re.compile(r"\[`(sacpo(?:\.\w+)+)\.(\w+)`\]\(\.\./(src/[\w/]+\.py)\)")


def leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for part in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(part)]


def test_the_site_has_every_page_once_and_is_strict() -> None:
    pages = {page.name for page in DOCS.glob("*.md")}
    assert sorted(leaves(SITE["nav"])) == sorted(pages | FROM_ELSEWHERE)
    assert SITE["strict"] and set(SITE["validation"]["links"].values()) == {"warn"}
    assert SITE["theme"]["font"] is False


@pytest.mark.parametrize(("module", "name", "path"), FUNCTION.findall(METHOD), ids=lambda part: part)
def test_an_equation_leads_to_its_function(module: str, name: str, path: str) -> None:
    """The function is defined in the file that the link leads to."""
    found = getattr(importlib.import_module(module), name)
    assert Path(inspect.getsourcefile(found) or "") == ROOT / path


def test_every_equation_of_the_method_has_a_function() -> None:
    table = METHOD.split("## Which loss line differs", 1)[1].split("\n## ", 1)[0]
    rows = [row for row in table.splitlines() if row.startswith("| ") and not row.startswith(("| algo", "| equ"))]
    assert len(rows) >= 16
    assert all(FUNCTION.search(row) for row in rows)


def test_the_lines_that_differ_are_the_losses_lines() -> None:
    rows = re.findall(r"^\| (DPO|IPO|KTO) \| `([^`]+)` \| \[`sacpo\.losses\.(\w+)\.(\w+)`", METHOD, re.M)
    assert [row[0] for row in rows] == ["DPO", "IPO", "KTO"]
    for _, line, module, name in rows:
        assert line in inspect.getsource(getattr(importlib.import_module(f"sacpo.losses.{module}"), name))


def test_the_questions_name_every_diagnosis_with_its_threshold() -> None:
    said = {
        name: text for text in FAQ.split("\n## ") for name in re.findall(r"\*\*Diagnosis\*\* says \*([^*]+)\*", text)
    }
    assert {*said} == {test.name for test in TESTS}
    flat = {name: " ".join(text.split()) for name, text in said.items()}
    assert f"at least {100 * cases.OVER_REFUSAL_RISE:.0f} points" in flat["exaggerated refusals"]
    assert f"at least {cases.FALLEN:g} nat" in flat["chosen answers lose probability"]
    assert f"{cases.FEWEST_LOGGED} logged rows" in flat["chosen answers lose probability"]
    assert f"more than {100 * cases.HARDLY_REFUSES:.0f} %" in flat["lost support"]
    assert f"less than {100 * cases.STAYS_UNSAFE:.0f} points" in flat["lost support"]
    assert f"at least {100 * cases.BROKEN_RISE:.0f} points" in FAQ


def test_the_page_for_signing_off_names_the_statements_of_the_first_screen() -> None:
    page = (DOCS / "sign-off.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (The [a-z]+|On new prompts|What it costs) \|", page, re.M)
    source = inspect.getsource(signoff)
    assert shown == ["The bound", "The answer", "On new prompts", "The certificate", "What it costs"]
    assert all(f'"{about}"' in source for about in shown)
