"""Human labels on the items that judges judge, and how far people and judges agree."""

from sacpo.judging.people.raters import agreement
from sacpo.judging.people.server import LabelServer, serve
from sacpo.judging.people.session import Session

__all__ = ["LabelServer", "Session", "agreement", "serve"]
