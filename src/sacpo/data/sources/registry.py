"""The formats by name. A format is a module of this package with `FORMATS = {NAME: Format(...)}`.

What a recipe knows of them (names, kinds of records) is in `sacpo.recipe.formats`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from sacpo.data.sources.format import Format
from sacpo.recipe.formats import KIND_OF_FORMAT

PACKAGE = "sacpo.data.sources"


def formats_found() -> dict[str, Format]:
    """Return the formats that the modules of this package name."""
    modules = [module.name for module in iter_modules(import_module(PACKAGE).__path__) if module.name != "registry"]
    found: dict[str, Format] = {}
    for module in modules:
        found |= getattr(import_module(f"{PACKAGE}.{module}"), "FORMATS", {})
    return found


_FOUND = formats_found()
FORMATS: dict[str, Format] = {name: _FOUND[name] for name in KIND_OF_FORMAT if name in _FOUND}
"""Those that a recipe can name, in its order."""
