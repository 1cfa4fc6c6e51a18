"""Several processes at one run: started by `accelerate launch` or `torchrun`, they do its trainings together.

The first process owns the run folder: lock, manifests, publishing. It does alone what no other needs to share. The
others follow: they wait for its word, with no time limit that a long stage could meet, and take part in shared work.
Everything here does nothing in a single process, and inside `alone()`. The waiting goes over gloo on the CPU, beside
whatever group trains, and torch is imported only where there are several processes.

Processes of several machines need a run folder that all of them see.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sacpo.errors import SacpoError
from sacpo.system.machine import UNFORESEEN, unforeseen, unreadable

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
PATIENCE = timedelta(days=30)
"""How long a process waits for the first one's work; a process that fails ends the others long before."""
LOOK, GRACE = 0.2, 5.0  # seconds between looks for a failure; until a failing process stops waiting for the others
FAILED, LEFT = "sacpo/failed", "sacpo/left"
INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141

_alone = False
_group: Any = None


def rank() -> int:
    """Return this process's number among those of the launch, 0 for a single one."""
    return 0 if _alone else _launched("RANK", 0)


def size() -> int:
    """Return how many processes share the work at hand."""
    return 1 if _alone else _launched("WORLD_SIZE", 1)


def launched() -> int:
    """Return how many processes were launched together, whoever shares the work at hand."""
    return _launched("WORLD_SIZE", 1)


def is_first() -> bool:
    """Tell whether this process owns the run folder and speaks to the user."""
    return rank() == 0


def part_of_key() -> dict[str, int]:
    """Return what a training's result depends on here: the batch of an optimiser step holds all processes' shares."""
    return {"processes": size()} if size() > 1 else {}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Do work that the other processes take no part in: nothing in it waits for them."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def from_first(value: T) -> T:
    """Return the first process's value in every process."""
    if size() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_control())
    return values[0]


def wait() -> None:
    """Wait until every process is here."""
    if size() > 1:
        from torch import distributed

        distributed.barrier(group=_control())


def added(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a CPU tensor over all processes."""
    if size() == 1:
        return tensor
    from torch import distributed

    total = tensor.clone()
    distributed.all_reduce(total, group=_control())
    return total


class relayed:
    """Let an error in one process end all of them: the first to fail says why, and all exit with its code.

    A context for everything that the command line does; a single process is left alone.
    """

    def __enter__(self) -> None:
        self.over = threading.Event()
        if size() > 1:
            self.store = _store()
            threading.Thread(target=_watch, args=(self.store, self.over), daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if size() == 1:
            return
        if error is None or (isinstance(error, SystemExit) and not error.code):
            wait()
            self.over.set()
            return
        _leave(self.store, *_told(error))


def _told(error: BaseException) -> tuple[int, str]:
    """Return the exit code for an error and what is said of it."""
    if isinstance(error, SystemExit):
        return (error.code, "") if isinstance(error.code, int) else (UNFORESEEN, str(error.code))
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted: the same command goes on from here"
    if isinstance(error, SacpoError):
        return error.exit_code, f"error: {error}"
    refused = unreadable(error) if isinstance(error, Exception) else None
    if refused is not None:
        return refused.exit_code, f"error: {refused}"
    return UNFORESEEN, unforeseen(error)


def _leave(store: Any, code: int, message: str) -> None:
    """Exit with a code after every process knows of it; only the first to fail prints its message."""
    if store.add(FAILED, 1) == 1:
        if message:
            print(message.rstrip(), file=sys.stderr, flush=True)
        store.set(FAILED + "/code", str(code))
    else:
        code = int(store.get(FAILED + "/code"))
    _exit(store, code)


def _exit(store: Any, code: int) -> None:
    """End this process at once; a training may hang in a call that waits for a process that is gone."""
    left = store.add(LEFT, 1)
    until = time.monotonic() + GRACE
    while left < size() and time.monotonic() < until:
        time.sleep(LOOK)
        left = store.add(LEFT, 0)
    if is_first():
        time.sleep(2 * LOOK)  # its end may close the store that the others still read
    sys.stdout.flush()
    os._exit(code)


def _watch(store: Any, over: threading.Event) -> None:
    """Look for another process's failure until this one is done."""
    while not over.wait(LOOK):
        try:
            failed = store.check([FAILED + "/code"])
        except RuntimeError:  # the process that held the store is gone
            os._exit(UNFORESEEN)
        if failed and not over.is_set():
            _exit(store, int(store.get(FAILED + "/code")))


def _store() -> object:
    """Return a connection of its own to the store that the process group met at."""
    from torch import distributed

    _control()
    store = distributed.distributed_c10d._get_default_store()
    return store.clone()  # type: ignore[attr-defined]


def _control() -> Any:
    """Return the group that waits, made at the first use together with the group that trains."""
    global _group
    if _group is None:
        import torch
        from torch import distributed

        # loading on one process only would leave the others without the reference's weights
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        if torch.cuda.is_available():
            torch.cuda.set_device(_launched("LOCAL_RANK", 0))  # so that "cuda" is this process's own device
        if not distributed.is_initialized():
            distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        _group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        atexit.register(_let_go)
    return _group


def _let_go() -> None:
    """End the group's threads before the interpreter ends."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group(_group)


def _launched(name: str, otherwise: int) -> int:
    """Return a number that the launcher gave this process; RANK alone, as some schedulers set it, is none."""
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    return int(os.environ.get(name, otherwise)) if launched else otherwise
