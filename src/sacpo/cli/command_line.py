"""The command line. torch is imported by the commands that need it only, so that help and checks answer at once."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sacpo._version import __version__
from sacpo.cli import verbs
from sacpo.errors import RecipeError, SacpoError
from sacpo.system import processes
from sacpo.system.machine import UNFORESEEN, unforeseen, unreadable

AGAIN_SECONDS = 0.05
"""How long after a signal that was dropped the next one comes."""

app = typer.Typer(
    name="sacpo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Make a language model as helpful as possible under a safety constraint, and show that it is.",
)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a training diverged, 2 bad input or a machine that refuses, 70 unforeseen, 130 interrupted,
    141 nobody reads standard output any more, 143 terminated.
    """
    told = threading.Event()
    try:
        with _terminated(told), processes.relayed(), _first_speaks():
            _check_arguments(sys.argv[1:])
            warnings.formatwarning = _plain(warnings.formatwarning)
            try:
                app(standalone_mode=True)
            finally:
                sys.stdout.flush()  # here, where its failure can still be told
    except SacpoError as error:
        _end(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns the former into the latter without a word
        if isinstance(end, SystemExit) and end.code not in (1, processes.INTERRUPTED):
            raise
        if isinstance(end, SystemExit) and end.code == 1:  # typer's word for a pipe that was closed
            sys.exit(processes.BROKEN_PIPE)
        code = processes.TERMINATED if told.is_set() else processes.INTERRUPTED
        _end("interrupted: the same command goes on from here", code)
    except BrokenPipeError:
        if sys.stdout is sys.__stdout__ and sys.stdout is not None:  # nothing is left to say at the interpreter's end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(processes.BROKEN_PIPE)
    except Exception as error:  # noqa: BLE001 - the last resort: exit code 1 means "diverged" and nothing else
        refused = unreadable(error)
        _end(*((f"error: {refused}", refused.exit_code) if refused is not None else (unforeseen(error), UNFORESEEN)))


def _end(said: str, code: int) -> NoReturn:
    print(said, file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def _terminated(told: threading.Event) -> Iterator[None]:
    """Let SIGTERM say its word like Ctrl-C, and note it; processes of a launcher end each other in their own way."""
    if processes.launched() > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*signal_and_frame: object) -> NoReturn:
        told.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with _heard(told):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _heard(told: threading.Event) -> Iterator[None]:
    """Send a signal again that came in a weak reference's callback or a finalizer: what is raised there is dropped.

    None is sent once the block is left: it would end a command that has just ended well.
    """
    usual, left, sending = sys.unraisablehook, threading.Event(), _thread.allocate_lock()

    def again(number: int) -> None:
        time.sleep(AGAIN_SECONDS)
        with sending:
            if not left.is_set():
                os.kill(os.getpid(), number)

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            usual(dropped)
            return
        # not threading.Thread: this may stand in the middle of its code, with its locks held
        _thread.start_new_thread(again, (signal.SIGTERM if told.is_set() else signal.SIGINT,))

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual
        left.set()
        with sending:  # one that is just being sent comes here, not later
            pass


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that are not text: they would have to be written into results and reports."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RecipeError(
                "an argument is not valid UTF-8", where="command line", value=argument, do="rename the file or the name"
            ) from error


def _plain(usual: Callable[..., str]) -> Callable[..., str]:
    """Return how warnings are written: this package's own as a sentence, others as usual."""

    def written(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> str:
        own = category.__module__.startswith("sacpo.")
        return f"{message}\n" if own else usual(message, category, *rest, **more)

    return written


def _version(asked: bool) -> None:
    if asked:
        print(f"sacpo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options in front of a command."""


@contextlib.contextmanager
def _first_speaks() -> Iterator[None]:
    """Let one process of several write results to standard output."""
    if processes.is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


verbs.add_to(app)
