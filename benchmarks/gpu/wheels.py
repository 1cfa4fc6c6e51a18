"""Packages for a machine without a network: downloaded here as wheels, unpacked there where they are missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MODULES = {
    "trl": "trl",
    "peft": "peft",
    "accelerate": "accelerate",
    "datasets": "datasets",
    "dill": "dill",
    "multiprocess": "multiprocess",
    "xxhash": "xxhash",
    "fsspec": "fsspec",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic_core",
    "annotated-doc": "annotated_doc",
    "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection",
    "typing_extensions": "typing_extensions",
    "typer": "typer",
    "rich": "rich",
    "markdown-it-py": "markdown_it",
    "mdurl": "mdurl",
    "Pygments": "pygments",
    "shellingham": "shellingham",
    "click": "click",
    "PyYAML": "yaml",
    "psutil": "psutil",
    "Jinja2": "jinja2",
    "MarkupSafe": "markupsafe",
    "tqdm": "tqdm",
    "packaging": "packaging",
    "pandas": "pandas",
    "python-dateutil": "dateutil",
}
"""Distribution: module. Those that torch and transformers bring (numpy, tokenizers, huggingface_hub) stay out."""
LARGE = {"pyarrow": "pyarrow"}
"""Only with `--large`: what `datasets` needs; 50 MB."""
EXACT = {"pydantic_core": "pydantic", "typing_extensions": "pydantic"}
"""Installed also where an older one is there, if the package behind the colon is missing."""
MOST = 64 * 2**20


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines)


def pack(folder: Path, *, large: bool = False) -> list[Path]:
    """Download the wheels into a folder and return them.

    Raises:
        RuntimeError: pip fails, or the wheels are larger than 64 MiB.
    """
    versions, folder = pins(), folder.resolve()
    wanted = [f"{name}=={versions[name]}" for name in (*MODULES, *(LARGE if large else ()))]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", *options]
    done = subprocess.run([*command, "-d", str(folder), *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip download failed: {done.stderr[-1000:]}")
    found = sorted(folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in found)
    if size > MOST:
        raise RuntimeError(f"the wheels take {size / 2**20:.0f} MiB, more than {MOST / 2**20:.0f}")
    return found


def missing() -> list[str]:
    """Return the distributions whose modules are not here, and those that must match one of them."""
    absent = [name for name, module in {**MODULES, **LARGE}.items() if importlib.util.find_spec(module) is None]
    versions = pins()
    partners = [name for name, other in EXACT.items() if other in absent and name not in absent]
    return [*absent, *(name for name in partners if _installed(name) != versions[name])]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install(folder: Path, target: Path) -> tuple[list[str], list[str]]:
    """Unpack what is missing into a folder for `sys.path`; return what was installed, and what no wheel is there for.

    pip does it where it can, for it checks the platform; else the wheels, which are archives, are unpacked.
    """
    wheels = {path.name.split("-")[0].lower().replace("_", "-"): path for path in folder.glob("*.whl")}
    wanted = {name: wheels.get(name.lower().replace("_", "-")) for name in missing()}
    have = [str(path) for path in wanted.values() if path is not None]
    absent = [name for name, path in wanted.items() if path is None]
    if not have:
        return [], absent
    target.mkdir(parents=True, exist_ok=True)
    options = ["--no-index", "--no-deps", "--no-compile", "--find-links", str(folder), "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *options, *have]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        for path in have:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(target)
    return [Path(path).name for path in have], absent
