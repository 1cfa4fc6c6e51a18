"""Human labels on the items that judges judge, and how far people and judges agree."""

from sacpo.labelling.raters import agreement
from sacpo.labelling.server import LabelServer, serve
from sacpo.labelling.session import Session

__all__ = ["LabelServer", "Session", "agreement", "serve"]
