"""Measure the house: lines, loose types, silenced checks, and how long and wide functions are.

Run `python scripts/measure_house.py [FOLDER]`; the folder is the package by default.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "src" / "sacpo"
PUBLIC = ("api.py", "cli", "trl")
"""Whose parameters are a user's: functions of Python, commands, and the trainer; and what the api takes from rooms."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(folder: Path) -> Iterator[tuple[str, Function]]:
    """Give every function with its file's path."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield file.relative_to(folder).as_posix(), node


def body_lines(function: Function) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def width(function: Function) -> int:
    """Return how many parameters a function has, without `self` and `cls`."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in every if one.arg not in ("self", "cls")])


def of_rooms(api: Path) -> set[str]:
    """Return the functions that the api offers as a room has them."""
    tree = ast.parse(api.read_text(encoding="utf-8"))
    return {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def widest(folder: Path) -> tuple[int, str]:
    """Return the most parameters of a function outside public signatures, and which function it is."""
    offered = of_rooms(folder / "api.py")
    return max(
        (width(function), f"{file}, {function.name}")
        for file, function in functions(folder)
        if not file.startswith(PUBLIC) and function.name not in offered
    )


def comments(text: str) -> list[str]:
    """Return the comments of a source."""
    return [one.string for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type == tokenize.COMMENT]


def any_uses(text: str) -> int:
    """Return how often the name `Any` is used, imports aside."""
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(ast.parse(text)))


def measures(folder: Path) -> dict[str, object]:
    """Return all measures by name."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*.py"))]
    said = [comment for text in texts for comment in comments(text)]
    lengths = sorted(body_lines(function) for _, function in functions(folder))
    wide, where = widest(folder)
    return {
        "files": len(texts),
        "lines": sum(text.count("\n") for text in texts),
        "Any": sum(any_uses(text) for text in texts),
        "type: ignore": sum("type: ignore" in comment for comment in said),
        "noqa": sum("noqa" in comment for comment in said),
        "functions": len(lengths),
        "median lines of a function": statistics.median(lengths),
        "90th percentile": lengths[int(0.9 * len(lengths))],
        "widest outside public": f"{wide} ({where})",
    }


if __name__ == "__main__":
    for name, value in measures(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE).items():
        print(f"{name:28} {value}")
