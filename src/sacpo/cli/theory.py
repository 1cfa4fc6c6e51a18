"""`sacpo theory` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sacpo.errors import SacpoError
from sacpo.system.visible import visible

if TYPE_CHECKING:
    from sacpo.theory.check import Check

theory = typer.Typer(no_args_is_help=True, help="Check what the method rests on, with numbers.")


@theory.callback()
def part() -> None:
    """Check what the method rests on, with numbers."""


@theory.command()
def check(
    seed: Annotated[int, typer.Option("--seed", help="Root of all random numbers.")] = 0,
    instances: Annotated[int, typer.Option("--instances", help="Random worlds for the bounds.")] = 20_000,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for check.json and tightness.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check theorems, losses and bounds on small exact worlds; a refuted bound is a finding, with exit code 0."""
    from sacpo import api

    found = api.theory_check(seed=seed, instances=instances, out=out)
    print(json.dumps(found.to_json()) if as_json else _text(found))
    if out is not None and not as_json:
        print(f"written: {visible(str(out))}")
    failed = [claim.name for claim in found.claims if claim.verdict == "fails"]
    if failed:
        raise SacpoError(f"an exact claim fails, which is a mistake of this package: {', '.join(failed)}")


def _text(found: Check) -> str:
    head = ("claim", "what it says", "worlds", "worst", "broken", "verdict")
    rows = [(c.name, c.says, f"{c.instances:,}", f"{c.worst:.2g}", str(c.broken), c.verdict) for c in found.claims]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    left = (0, 1, 5)
    form = "  ".join(f"{{:{'<' if i in left else '>'}{width}}}" for i, width in enumerate(widths))
    lines = [form.format(*row) for row in [head, *rows]]
    lines += ["", "worst: the largest error; of a bound, the left side minus the right where that is largest."]
    for name, sides in found.counterexamples.items():
        lines.append(
            f"Theorem 3 as printed is broken, {name}: violation {sides['violation']:.3f}, "
            f"bound {sides['printed']:.3f}; its proof reaches {sides['repaired']:.3g}."
        )
    return "\n".join(line.rstrip() for line in lines)
