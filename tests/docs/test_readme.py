"""What the pages tell readers to type works: commands parse, recipes load, Python names exist, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from sacpo.cli import app
from sacpo.data.sources.convert import KIND_NAMES
from sacpo.data.sources.registry import FORMATS
from sacpo.data.sources.rows import Row
from sacpo.judging.llm.specs import rubric_of
from sacpo.judging.rubric import load_rubric
from sacpo.recipe import load_recipe, model_graph, parse_recipe
from sacpo.recipe.llm import PanelSpec
from sacpo.recipe.schema import EvaluateSpec, SourceSpec

ROOT = Path(__file__).parents[2]
SKILL = ROOT / ".agents" / "skills" / "sacpo" / "SKILL.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), SKILL])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
CHEAP = {"validate", "schema"}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text_of(page)) if name.split(" ")[0] == language]


def command_lines(pages: list[str]) -> list[str]:
    """Every `sacpo VERB ...` of pages, in shell blocks and in the text; a bare `sacpo VERB` names the verb only."""
    found: dict[str, None] = {}
    for page in pages:
        text = FENCE.sub("", text_of(page))
        lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
        for line in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
            if line.startswith("sacpo "):
                found[line] = None
    return [*found]


COMMANDS = command_lines(NAMES)


def parsed(line: str) -> tuple[str, click.Context]:
    """Return a command line's verb and its parsed parameters, as the command line itself would parse them."""
    _, verb, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group | typer.core.TyperGroup)
    command = group.commands[verb]
    return verb, command.make_context(verb, arguments or ["--help"], resilient_parsing=not arguments)


def test_the_page_of_commands_shows_every_verb() -> None:
    """And no page shows another one."""
    shown = {shlex.split(line)[1] for line in command_lines(["docs/commands.md"])}
    group: Any = typer.main.get_command(app)
    assert shown == set(group.commands) == {shlex.split(line)[1] for line in COMMANDS}
    assert len([line for line in COMMANDS if len(line.split()) > 2]) >= 40


def test_the_readme_is_short() -> None:
    """Its table of commands too; the whole one is in docs/commands.md."""
    assert len(text_of("README.md").splitlines()) <= 200
    (table,) = re.findall(r"^## Everyday commands\n(.*?)^## ", text_of("README.md"), re.M | re.S)
    assert 8 <= len(re.findall(r"^\| .* \| `sacpo .*` \|$", table, re.M)) <= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_parses(line: str) -> None:
    parsed(line)


def test_a_wrong_command_line_does_not_parse() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed("sacpo align MODEL --data x.jsonl --out y --betta 0.1")
    with pytest.raises(Exception, match="Missing"):
        parsed("sacpo align MODEL --out y")


def is_cheap(line: str) -> bool:
    """Whether it checks or plans; recipes that the reader writes are those of tutorials, which have their own tests."""
    words = line.split()
    return "experiment.yaml" not in words and (words[1] in CHEAP or (words[1] == "run" and "--dry-run" in words))


@pytest.mark.parametrize("line", [line for line in COMMANDS if is_cheap(line)])
def test_a_cheap_command_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = shlex.split(line)[1:]
    if "RECIPE" in arguments:
        arguments = ["recipes/demo.yaml" if argument == "RECIPE" else argument for argument in arguments]
    monkeypatch.chdir(ROOT)
    runs = ["--runs", str(tmp_path)] if arguments[0] == "run" else []
    done = CliRunner().invoke(app, [*arguments, *runs])
    assert done.exit_code == 0, done.output
    assert done.output.strip()
    assert [*tmp_path.iterdir()] == []


def test_the_commands_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {name for page in NAMES for name in re.findall(r"^make ([a-z]+)$|`make ([a-z]+)`", text_of(page), re.M)}
    assert (
        {first or second for first, second in named}
        == {"demo", "test", "site", "lint", "bench", "experiments"}
        <= targets
    )


@pytest.mark.parametrize("page", NAMES)
def test_named_files_exist(page: str) -> None:
    """Recipes, scripts and source files that a page names are there."""
    paths = re.findall(r"(?<![\w/])((?:recipes|scripts|src|tests|benchmarks)/[\w./-]*\w)", text_of(page))
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", NAMES)
def test_internal_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not target.startswith("https://"):
            name, mark, anchor = target.partition("#")
            place = (ROOT / page).parent / name if name else ROOT / page
            assert place.exists(), target
            assert not mark or anchor in anchors(place), target


def test_recipes_in_the_pages_are_valid(tmp_path: Path) -> None:
    (block,) = blocks("docs/first-recipe.md", "yaml")
    panel, judges = blocks("docs/rater.md", "yaml")
    nodes = model_graph(parse_recipe(yaml.safe_load(block)))
    assert len(PanelSpec.model_validate(yaml.safe_load(panel)).judges) == 2
    evaluate = EvaluateSpec.model_validate(yaml.safe_load(judges))
    assert {rubric_of(criterion, spec, criterion).name for criterion, spec in evaluate.judges.items()} == set(
        evaluate.judges
    )
    assert [*nodes] == ["sft", "H", "H-S@0.1", "H-S@0.025", "P@q0.25", "P@q0.5", "P@q0.75"]
    mine, own = blocks("docs/judges.md", "yaml")
    (tmp_path / "mine.yaml").write_text(mine)
    assert load_rubric(tmp_path / "mine.yaml").scale == (1, 5)
    (spec,) = EvaluateSpec.model_validate(yaml.safe_load(own)).judges.values()
    assert rubric_of("helpfulness", spec, "helpfulness").kind == "rating"
    named = set(re.findall(r"recipes/[\w/-]+\.yaml", text_of("docs/first-recipe.md")))
    assert len(named) == 4
    need_data = {f"recipes/{name}.yaml" for name in ("closed-form", "real-text", "real-text-neox")}  # SACPO_DATA
    for path in named - need_data:
        load_recipe(ROOT / path)


PYTHON = [(page, block) for page in NAMES for block in blocks(page, "python")]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[page for page, _ in PYTHON])
def test_python_names_exist_and_calls_fit(page: str, block: str) -> None:
    """Every imported name exists, and every call of one has arguments that its signature takes."""
    tree = ast.parse(block)
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name: importlib.import_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = getattr(module, alias.name, None)
                names[alias.name] = found if found is not None else importlib.import_module(inner)
    checked = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        if isinstance(owner, ast.Name) and owner.id in names:
            function = names[owner.id]
            function = getattr(function, node.func.attr) if isinstance(node.func, ast.Attribute) else function
            keywords = {str(keyword.arg): None for keyword in node.keywords}
            inspect.signature(function).bind(*node.args, **keywords)
            checked += 1
    assert checked >= 2


def test_what_the_python_page_reads_of_a_run_is_there() -> None:
    from sacpo.pipeline.run import Run
    from sacpo.report.results import Selection

    (code,) = blocks("docs/python.md", "python")
    attributes = set(re.findall(r"\brun\.(\w+)", code)) - {"results"}
    assert attributes and all(hasattr(Run, name) for name in attributes)
    assert "results" in Run.__dataclass_fields__
    assert '["selection"]["front"]' in code and "front" in Selection.model_fields


def example_rows() -> list[tuple[str, str]]:
    return [
        (name.split()[1], body) for name, body in FENCE.findall(text_of("docs/data.md")) if name.startswith("json ")
    ]


def test_the_data_page_has_an_example_of_every_format() -> None:
    assert [name for name, _ in example_rows()] == [*FORMATS]


@pytest.mark.parametrize(("name", "body"), example_rows(), ids=[name for name, _ in example_rows()])
def test_an_example_row_becomes_what_the_page_says(name: str, body: str) -> None:
    (kind,) = re.findall(rf"^\| `{name}` \| ([^|]+) \|", text_of("docs/data.md"), re.M)
    label = {"label": "safer"} if name == "pku-safe-rlhf" else {}
    spec = SourceSpec.model_validate({"format": name, "path": "x.jsonl", **label})
    (record,) = FORMATS[name].read(Row(json.loads(body), "x.jsonl, line 1", "x:1"), spec, None)
    assert KIND_NAMES[type(record)] in re.split(r", | or ", kind.strip())
    if kind.strip() == "pairs":
        good = "The bee." if name == "pandalm" else "Start with one hive."
        assert record.chosen == good  # type: ignore[attr-defined]


def between_marks(page: str, name: str) -> str:
    (text,) = re.findall(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", text_of(page), re.S)
    return text


def table_rows(text: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell, without its head."""
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| ")]
    return {cells[0].strip("*"): cells[1:] for cells in rows[1:]}


def test_the_demos_results_are_of_the_demo() -> None:
    """The demo's strengths and q are found by the run, so only their steps are known; of the variants, all names."""
    text, others = (between_marks("docs/demo.md", f"{name} results") for name in ("demo", "variants"))
    names = [*model_graph(load_recipe(ROOT / "recipes" / "variants.yaml"))]
    assert [*table_rows(others)] == names
    assert {name.split("@")[0] for name in table_rows(text)} == {"sft", "H", "S", "P"}
    for page, name in ((text, "demo"), (others, "variants")):
        assert f"sacpo run recipes/{name}.yaml" in page and "CPU cores" in page
    assert len(re.findall(r"^\| \*\*", text, re.M)) == 1


def test_the_readmes_five_rows_are_rows_of_the_demo() -> None:
    """The same figures for the same models, the chosen one among them."""
    text, whole = between_marks("README.md", "five rows"), between_marks("docs/demo.md", "demo results")
    rows = table_rows(text)
    every = table_rows(between_marks("docs/demo.md", "variants results")) | table_rows(whole)
    assert len(rows) == 5 and [*rows][:2] == ["sft", "H"]
    for name, (_, unsafe, over_refusal, helpful, *_) in rows.items():
        assert [helpful, unsafe, over_refusal] == [every[name][0], *every[name][2:4]]
    assert re.findall(r"^\| (\*\*.*?\*\*)", text, re.M) == re.findall(r"^\| (\*\*.*?\*\*)", whole, re.M)


def test_the_readmes_command_lines_are_twins_of_its_python() -> None:
    """Line by line the same verb, files and numbers; the command line's model is what the line before wrote."""
    (code,) = blocks("README.md", "python")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert len([line for line in code.splitlines() if line]) == 6
    lines = next(block for block in blocks("README.md", "sh") if "sacpo align" in block).splitlines()
    for call, line in zip(calls, lines, strict=True):
        verb, context = parsed(line)
        assert isinstance(call.func, ast.Attribute) and call.func.attr == verb
        given = {word.value for word in ast.walk(call) if isinstance(word, ast.Constant)}
        typed = {
            str(word) for value in context.params.values() for word in (value if isinstance(value, list) else [value])
        }
        assert {str(word) for word in given} - {"refusal"} <= typed
