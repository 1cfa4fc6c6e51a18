"""Human labels on the items that judges judge, and how far people and judges agree."""

from __future__ import annotations

from sacpo.labelling.raters import agreement

__all__ = ["agreement"]
