"""Human labels on the items that judges judge, and how far people and judges agree."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sacpo.labelling.raters import agreement
    from sacpo.labelling.server import LabelServer, serve
    from sacpo.labelling.session import Session

__all__ = ["LabelServer", "Session", "agreement", "serve"]

_WHERE = {"LabelServer": "server", "Session": "session", "agreement": "raters", "serve": "server"}


def __getattr__(name: str) -> Any:  # the command line imports this package for its options alone
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
