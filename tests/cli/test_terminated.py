"""SIGTERM ends a command wherever it comes."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from sacpo.cli.command_line import AGAIN_SECONDS, _terminated


class Thing:
    """What a weak reference can be of."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where tests were started behind a shell's `&`, which lets it be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_weak_references_callback_is_heard(number: signal.Signals) -> None:
    """Python drops what is raised there; without a second signal the loop would run to its end."""
    told, heard = threading.Event(), []
    with pytest.raises(KeyboardInterrupt), _terminated(told):
        thing = Thing()
        kept = weakref.ref(thing, lambda _: (heard.append(1), signal.raise_signal(number)))
        del thing
        for _ in range(100):
            time.sleep(0.05)
    assert heard == [1] and kept() is None
    assert told.is_set() == (number is signal.SIGTERM)


def test_no_signal_is_sent_again_once_the_block_is_left() -> None:
    """Its handler is no longer there: the signal would end a command that ended well."""
    late: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: late.append(number))
    try:
        with _terminated(told := threading.Event()):
            thing = Thing()
            kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
            del thing
        time.sleep(3 * AGAIN_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (told.is_set(), kept(), late) == (True, None, [])
