"""The command line: one verb a file, and `sacpo stats`."""

from sacpo.cli.app import app, main

__all__ = ["app", "main"]
