"""The command line: one verb a file, and `sacpo stats`."""

from sacpo.cli.command_line import app, main

__all__ = ["app", "main"]
