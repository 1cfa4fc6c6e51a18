"""The theory check as a function of the api; numpy and matplotlib wait until it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacpo.theory.check import Check


def theory_check(*, seed: int = 0, instances: int = 20_000, out: str | Path | None = None) -> Check:
    """Check the theory's claims on small exact worlds and return the table; see docs/theory.md.

    Args:
        seed: The root of all random numbers.
        instances: Random worlds for the bounds.
        out: A folder for `check.json` and `tightness.png`; None: nothing is written.

    Raises:
        RecipeError: The seed, the number or the folder cannot be used.
    """
    from sacpo.report.tightness import folder_for, write_check
    from sacpo.theory.check import check

    folder = None if out is None else folder_for(Path(out))
    found = check(seed, instances)
    if folder is not None:
        write_check(found, folder)
    return found
