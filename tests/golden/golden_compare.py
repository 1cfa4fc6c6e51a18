"""What differs between golden results and today's: bit for bit, or within a tolerance for another kind of CPU."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far a number may be from the golden one on another kind of CPU; rounding grows over the steps of training."""
EXACT = re.compile(
    r"data/|prompts/|overlap/|.*(tokenizer\.json|tokenizer_config\.json|chat_template\.jinja|config\.json)$"
    r"|(pairs|unpaired|demonstrations|prompts)\.jsonl$"
)
"""Files that no floating point has a part in."""
ROUNDING = "this CPU is of another kind: results are golden within rounding, not bit for bit"
SAMPLED = "this CPU is of another kind and sampled other tokens: only files without floating point were compared"
HASH = re.compile(r"[0-9a-f]{64}")


def compared(golden: dict[str, Any], found: dict[str, Any], same_machine: bool) -> tuple[list[str], str]:
    """Compare the results of a part.

    Returns:
        What is wrong, and why not everything was compared bit for bit: "" where it was, or `ROUNDING` or `SAMPLED`.
    """
    changed = [*differences(golden, found)]
    if same_machine or not changed:
        return changed, ""
    wrong = [*differences(exact(golden["files"]), exact(found["files"]), "/files")]
    if texts(golden["files"]) != texts(found["files"]):
        return wrong, SAMPLED
    return wrong + [one for one in far(golden, found) if one not in wrong], ROUNDING


def differences(golden: Any, found: Any, path: str = "") -> Iterator[str]:
    """Tell every place where two results are not the same, bit for bit: 1 and 1.0 differ, 0.0 and -0.0, too."""
    if isinstance(golden, dict) and isinstance(found, dict):
        yield from _keys(golden, found, path)
        for key in [key for key in golden if key in found]:
            yield from differences(golden[key], found[key], f"{path}/{key}")
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for i, (one, other) in enumerate(zip(golden, found, strict=True)):
            yield from differences(one, other, f"{path}/{i}")
    elif repr(golden) != repr(found):
        yield f"{path}: {_shown(golden)} became {_shown(found)}"


def far(golden: Any, found: Any, path: str = "") -> Iterator[str]:
    """Tell every place where two results are further apart than rounding takes them; hashes say nothing here."""
    if isinstance(golden, dict) and isinstance(found, dict):
        yield from _keys(golden, found, path)
        for key in [key for key in golden if key in found]:
            yield from far(golden[key], found[key], f"{path}/{key}")
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for i, (one, other) in enumerate(zip(golden, found, strict=True)):
            yield from far(one, other, f"{path}/{i}")
    elif isinstance(golden, float) and isinstance(found, float):
        if not math.isclose(golden, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{path}: {golden} became {found}"
    elif not (isinstance(golden, str) and HASH.fullmatch(golden)) and repr(golden) != repr(found):
        yield f"{path}: {_shown(golden)} became {_shown(found)}"


def exact(files: dict[str, Any]) -> dict[str, Any]:
    """Return the files whose digests are the same on every machine."""
    return {name: one for name, one in files.items() if EXACT.match(name)}


def texts(files: dict[str, Any]) -> dict[str, Any]:
    """Return the answers, which were sampled or chosen by floating point and on which all that follows depends."""
    return {name: one for name, one in files.items() if name.endswith(("answers.jsonl", "samples.jsonl"))}


def _keys(golden: dict[str, Any], found: dict[str, Any], path: str) -> Iterator[str]:
    if [*golden] != [*found]:
        gone, new = [key for key in golden if key not in found], [key for key in found if key not in golden]
        yield f"{path}: gone {gone}, new {new}" if gone or new else f"{path}: another order of names"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
