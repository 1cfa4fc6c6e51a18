"""The wheel and the sdist: built from what git tracks, looked into, and used away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sacpo._version import __version__

ROOT = Path(__file__).parents[2]
SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE")
DATA = {
    "py.typed",
    "recipe/demo.yaml",
    "judging/refusal_weights.yaml",
    "judging/people/page.html",
    "chat/page.html",
    "redteam/acts.yaml",
    *(f"report/templates/{name}.html.j2" for name in ("answers", "article", "more", "report")),
    "report/templates/report.css",
    "report/templates/report.js",
    *(f"judging/rubrics/{path.name}" for path in (ROOT / "src/sacpo/judging/rubrics").glob("*.yaml")),
}
PAIR = '{"prompt": "Why is number %d so?", "chosen": "Because.", "rejected": "No."}\n'
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist; the sources are copied, so that nothing is built in the repository."""
    place = tmp_path_factory.mktemp("dist")
    copy = place / "copy"
    for name in SOURCES:
        source = ROOT / name
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    command(["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(place), "."], copy)
    command(["-c", "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])", str(place)], copy)
    return place


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed") / "site"
    (wheel,) = built.glob("*.whl")
    command(["-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], built)
    return target


def command(arguments: list[str], folder: Path, **environment: str) -> str:
    """Run Python in a folder, without this checkout on its path unless `environment` says so; return its output."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=clean | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_and_sdist_hold_every_module_and_file(built: Path) -> None:
    modules = {str(path.relative_to(ROOT / "src" / "sacpo")) for path in (ROOT / "src" / "sacpo").rglob("*.py")}
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = {name.removeprefix("sacpo/") for name in zipfile.ZipFile(wheel).namelist() if name.startswith("sacpo/")}
    assert in_wheel == modules | DATA
    with tarfile.open(sdist) as archive:
        top = f"sacpo-{__version__}/src/sacpo/"
        in_sdist = {name.removeprefix(top) for name in archive.getnames() if name.startswith(top)}
    assert in_sdist >= modules | DATA


def test_the_installed_package_works_away_from_the_repository(installed: Path, tmp_path: Path) -> None:
    def sacpo(*arguments: str) -> str:
        return command(["-m", "sacpo", *arguments], tmp_path, PYTHONPATH=str(installed))

    where = command(["-c", "import sacpo; print(sacpo.__file__)"], tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()).parent == installed / "sacpo"
    assert sacpo("--version") == f"sacpo {__version__}\n"
    demo = str(installed / "sacpo" / "recipe" / "demo.yaml")
    assert f"{demo}: valid; 3 models: sft, H, S" in sacpo("validate", demo)
    (tmp_path / "pairs.jsonl").write_text("".join(PAIR % i for i in range(60)), encoding="utf-8")
    said = sacpo("new", "own.yaml", "--model", "some/model", "--helpful", "pairs.jsonl", "--safe", "pairs.jsonl")
    assert "pairs.jsonl: preference pairs, 60 rows (format preference); prompts as texts" in said
    assert "own.yaml: valid; 6 models" in sacpo("validate", "own.yaml")
