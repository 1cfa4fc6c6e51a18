"""The pages that follow from the code are up to date, and ARCHITECTURE.md is true to the tree and the dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sacpo.align.defaults import with_defaults
from sacpo.data.sources.registry import FORMATS
from sacpo.recipe.document import MEANINGS, recipe_document, section_keys
from sacpo.recipe.schema import SourceSpec, StepSpec
from sacpo.report.document import results_document

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return what stands under a heading of level 2."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no section '{title}'"
    return found.group(1)


@pytest.mark.parametrize(
    ("page", "document"), [("recipe.md", recipe_document(with_defaults({}))), ("results.md", results_document())]
)
def test_a_written_page_is_up_to_date(page: str, document: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == document, "run: python scripts/write_docs.py"


def test_the_recipes_page_says_of_a_key_what_the_schema_says() -> None:
    """`beta` is required and may be a list, or found; `from` goes by its alias; a training default is the trainer's."""
    page = (DOCS / "recipe.md").read_text(encoding="utf-8")
    step = section(page, "StepSpec")
    assert "| `beta` | number, above 0 or list (number, above 0) or `auto` | **required** | strength; a list is" in step
    assert "| `from` | text | none | model to start from; the step before by default |" in step
    assert "`from_`" not in page
    assert "| `algorithm` | `dpo`, `ipo`, `kto`, `robust`, `chipo`, `bso`, `rwr` | `dpo` |" in step
    assert "| `learning_rate` | number, above 0 | `2e-05` |" in section(page, "TrainingSpec")
    assert [*section_keys(StepSpec)][:6] == ["name", "criterion", "algorithm", "dataset", "beta", "from"]


def test_every_key_has_a_meaning_and_every_meaning_a_key() -> None:
    page = (DOCS / "recipe.md").read_text(encoding="utf-8")
    cells = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("| `")]
    assert len(cells) > 120
    assert all(row[-1].strip() for row in cells)
    for key in MEANINGS:
        owner, name = key.split(".")
        titles = {"SourceSpec": ["DataSpec"], "PairLabels": ["SampledSpec", "ScorePairs"]}.get(owner, [owner])
        assert all(f"| `{name}` |" in section(page, title) for title in titles), key


def test_every_format_has_a_row_in_the_data_page() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", section((DOCS / "data.md").read_text(encoding="utf-8"), "Formats"), re.M)
    assert sorted(rows) == sorted([*FORMATS, "world"])
    allowed = SourceSpec.model_json_schema()["properties"]["format"]["enum"]
    assert sorted(rows) == sorted(allowed)


def test_architecture_names_every_part_of_the_package_and_no_other() -> None:
    named = set(re.findall(r"^\| `([\w./]+)` \|", section(ARCHITECTURE, "Parts"), re.M))
    package = ROOT / "src" / "sacpo"
    folders = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    files = {path.name for path in package.glob("*.py") if path.name not in ("__init__.py", "_version.py")}
    assert named == folders | files


@pytest.mark.parametrize(
    ("what", "files"),
    [
        ("An algorithm", ["align/objectives/", "losses/", "recipe/algorithms.py"]),
        ("A data format", ["data/sources/", "recipe/formats.py"]),
        ("A judge", ["judging/kinds/", "recipe/schema/judges.py"]),
        ("A metric", ["measure/measures.py", "recipe/metrics.py"]),
    ],
)
def test_architecture_says_where_users_extend(what: str, files: list[str]) -> None:
    """The registries' own tests hold that these files do: a forgotten one of them fails there."""
    bullets = re.split(r"^- ", section(ARCHITECTURE, "Where to add what"), flags=re.M)
    (text,) = [bullet for bullet in bullets if bullet.startswith(f"**{what}**")]
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)(?:NAME\.py)?`", text)
    assert named[: len(files)] == files
    assert all((ROOT / "src" / "sacpo" / path).exists() for path in named)


def test_architecture_gives_the_reason_of_every_dependency_and_of_no_other() -> None:
    named = re.findall(r"^\| `([\w-]+)` \|", section(ARCHITECTURE, "Dependencies"), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [re.split(r"[<>=!~\[; ]", dependency)[0] for dependency in project["dependencies"]]
    assert sorted(named) == sorted(declared)


def test_the_changelog_and_the_citation_name_the_packages_version() -> None:
    from sacpo import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_page_of_limits_denies_nothing_that_the_trainer_takes() -> None:
    """docs/trl.md says how `load_best_model_at_end` works."""
    limits = " ".join((ROOT / "docs" / "limits.md").read_text(encoding="utf-8").split())
    said = next(part for part in limits.split(" - ") if part.startswith("`PreferenceTrainer` has"))
    assert "not load the best" not in said and "loads the best weights at the end by `eval_loss`" in said
