"""The command line: one verb a file, and `sacpo stats`."""

from sacpo.system.threads import let_threads_sleep

let_threads_sleep()  # before the verbs load numpy, which reads it once

from sacpo.cli.command_line import app, main  # noqa: E402

__all__ = ["app", "main"]
