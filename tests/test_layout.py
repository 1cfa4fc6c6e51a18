"""The package's shape: who may import whom, what stays light, what is exported."""

from __future__ import annotations

import ast
import inspect
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report.report_world import made_up

import sacpo
from sacpo import api
from sacpo.data.records import Outcome, Verdict, write_jsonl

ROOT = Path(sacpo.__file__).parent
MEASURES = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "measure_house.py"))
LAYERS: tuple[set[str], ...] = (
    {"_version", "errors", "plain"},
    {"recipe", "serve", "system"},
    {"data"},
    {"losses", "models", "stats", "world"},
    {"theory"},
    {"align", "answer", "measure", "merge", "report", "select"},
    {"certify", "hub", "judging"},
    {"audit", "bridges", "redteam", "trl"},
    {"chat", "pipeline"},
    {"api"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Every room of the package, the ground floor first: a room imports from the floors below it only.

So the stages of the way (align, answer, measure, merge, select, report) never import each other.
"""
LONGEST_FILE, LONGEST_FUNCTION, WIDEST_FUNCTION = 350, 50, 10
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate")
SLOW = "scipy.stats"
"""Takes longer to import than all else behind the command line: only what counts with it does."""
LIGHT = (
    "sacpo",
    "sacpo.api",
    "sacpo.certify",
    "sacpo.cli",
    "sacpo.data.records",
    "sacpo.errors",
    "sacpo.judging.llm.files",
    "sacpo.judging.people",
    "sacpo.system.processes",
    "sacpo.system.progress",
    "sacpo.recipe",
    "sacpo.report.build",
    "sacpo.report.figures",
    "sacpo.report.page",
    "sacpo.system.runs",
    "sacpo.select",
    "sacpo.stats.report",
)
API = {
    *("align", "certify", "chat", "convert", "export", "generate", "judge", "label", "merge", "push", "report"),
    *("select", "sft"),
}


def parts_imported(file: Path) -> set[str]:
    """Return the top-level parts of the package that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names = [f"sacpo.{alias.name}" for alias in node.names] if node.module == "sacpo" else [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("sacpo.")}
    return found


def files_of(part: str) -> list[Path]:
    single = ROOT / f"{part}.py"
    return [single] if single.is_file() else sorted((ROOT / part).rglob("*.py"))


def rooms() -> set[str]:
    """Return every room of the package: its folders and the files beside them."""
    return {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}


def test_files_and_functions_are_short() -> None:
    """At most 350 lines a file, and 50 lines a function without its signature and docstring."""
    long = []
    for file in ROOT.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            long.append(f"{file.relative_to(ROOT)}: {text.count(chr(10))} lines")
    for place, function in MEASURES["functions"](ROOT):
        if (lines := MEASURES["body_lines"](function)) > LONGEST_FUNCTION:
            long.append(f"{place}, {function.name}: {lines} lines")
    assert long == []


def test_functions_take_few_parameters() -> None:
    """At most 10 outside public signatures: what belongs together is one value."""
    width, function = MEASURES["widest"](ROOT)
    assert width <= WIDEST_FUNCTION, function


def test_parameters_are_counted_as_a_caller_gives_them() -> None:
    """Those of a user's functions are not: `api.judge` takes twenty-two."""
    function = ast.parse("def f(self, a, /, b, *c, d=1, **e): ...").body[0]
    assert MEASURES["width"](function) == 3
    assert max(MEASURES["width"](one) for place, one in MEASURES["functions"](ROOT) if place == "api.py") > 20


def test_lines_of_a_body_are_counted_without_the_docstring() -> None:
    text = 'def f(\n    a,\n):\n    """What.\n\n    More.\n    """\n    b = (\n        a\n    )\n    return b\n'
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert MEASURES["body_lines"](function) == 4


def test_every_room_has_its_floor() -> None:
    placed = [room for layer in LAYERS for room in layer]
    assert sorted(placed) == sorted(rooms())


@pytest.mark.parametrize("room", sorted(rooms()))
def test_rooms_import_from_the_floors_below_only(room: str) -> None:
    floor = next(i for i, layer in enumerate(LAYERS) if room in layer)
    below = set().union(*LAYERS[:floor])
    assert files_of(room)
    for file in files_of(room):
        assert parts_imported(file) - {room} <= below, file


def test_the_walk_sees_what_it_should() -> None:
    """The pipeline imports every stage: if the walk did not find that, the test above would test nothing."""
    assert set().union(*(parts_imported(file) for file in files_of("pipeline"))) >= LAYERS[5]


def loaded(code: str) -> tuple[set[str], float]:
    """Return which heavy libraries a fresh interpreter has after some code, and the seconds that it took."""
    report = f"\nimport json, sys; print(); print(json.dumps([m for m in {(*HEAVY, SLOW)} if m in sys.modules]))"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1])), time.monotonic() - started


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_do_not_import_torch(module: str) -> None:
    assert loaded(f"import {module}")[0] == set()


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "run --help",
        "schema",
        "schema results",
        "validate {recipe}",
        "select {folder} {folder} --at-most unsafe_rate=0.1",
        "stats {folder}/verdicts.jsonl",
        "report {folder}/results.json --out {folder}/report",
        "label --help",
        "chat --help",
        "new {folder}/own.yaml --model m --helpful {folder}/pairs.jsonl --safe {folder}/pairs.jsonl",
        "demo --help",
        "certify --power unsafe_rate=0.01",
        "theory check --instances 1",
    ],
)
def test_light_commands_do_not_import_torch(
    arguments: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    recipe = Path(__file__).parent / "e2e" / "tiny.yaml"
    lay_out_judged(tmp_path)
    line = ["sacpo", *arguments.format(recipe=recipe, folder=tmp_path).split()]
    code = f"import sys; sys.argv = {line!r}\nfrom sacpo.cli import main\ntry:\n    main()\nexcept SystemExit as e:\n"
    found, seconds = loaded(code + "    assert not e.code, e.code")
    assert found <= {SLOW}
    record_property("seconds", round(seconds, 2))


def lay_out_judged(folder: Path) -> None:
    """Write what light verbs read: measures and verdicts of two models, results of a run, and pairs."""
    rate = {"ci95": [0.0, 0.5], "n": 10, "clusters": 10, "unparsed": 0, "method": ""}
    measures = {
        name: {"metrics": {"unsafe_rate": {"value": 0.1, **rate}, "win_rate/helpfulness": {"value": won, **rate}}}
        for name, won in (("H", 0.7), ("H-S", 0.6))
    }
    (folder / "measures.json").write_text(json.dumps(measures), encoding="utf-8")
    verdict = {"criterion": "helpfulness", "judge": "j", "baseline": "sft", "outcome": Outcome.WIN}
    verdicts = [Verdict(f"p{i}", f"p{i}", "H", answer_hash=f"a{i}", **verdict) for i in range(3)]  # type: ignore[arg-type]
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    pairs = [{"prompt": f"Why {i}?", "chosen": "Yes.", "rejected": "No."} for i in range(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(made_up()), encoding="utf-8")


def test_torch_is_seen_where_it_is_imported() -> None:
    assert loaded("import sacpo.models.loading")[0] >= {"torch", "transformers"}


def test_exported_names() -> None:
    assert sorted(sacpo.__all__) == [
        "PreferenceConfig",
        "PreferenceTrainer",
        "Recipe",
        "Run",
        "__version__",
        "load_recipe",
        "parse_recipe",
        "plan",
        "run",
    ]
    assert {getattr(sacpo, name) for name in sacpo.__all__} - {None}
    with pytest.raises(AttributeError, match="no attribute 'trainer'"):
        sacpo.trainer  # noqa: B018


def test_the_api_has_every_verb_and_says_what_it_does() -> None:
    assert {*api.__all__} >= API
    for name in api.__all__:
        function = getattr(api, name)
        text = inspect.getdoc(function) or ""
        assert text.splitlines()[0].endswith("."), name
        for parameter in inspect.signature(function).parameters.values() if inspect.isfunction(function) else ():
            assert f"{parameter.name}:" in text, f"{name}: {parameter.name} is not explained"


def test_every_verb_of_the_command_line_is_a_function_of_the_api() -> None:
    from sacpo.cli import app

    names = {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    }
    assert names >= {*API, "run", "validate", "schema"}
    for command in app.registered_commands:
        assert command.help or inspect.getdoc(command.callback), command
