"""sacpo: as helpful as possible under a safety constraint, and shown to be."""

from sacpo._version import __version__

__all__ = ["__version__"]
