"""What a section tells: one JSON line a result, marked, on standard output, and where an error came from."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MARK = "@gpu "
TEXT = 150
"""Characters of a message at its beginning, and as many at its end: compilers say there what is wrong."""


def emit(part: str, **values: Any) -> None:
    """Tell one result at once."""
    print(MARK + json.dumps({"part": part, **values}), flush=True)


def parsed(line: str) -> dict[str, Any] | None:
    """Return a line's result, None for a line that is none."""
    if not line.startswith(MARK):
        return None
    try:
        found = json.loads(line[len(MARK) :])
    except ValueError:  # cut off
        return None
    return found if isinstance(found, dict) and "part" in found else None


def told(error: BaseException) -> dict[str, str]:
    """Return an error's type, its message in a line and the innermost places of this repository and of all."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).parents[2])
    own = [frame for frame in frames if frame.filename.startswith(root)]
    places = dict.fromkeys(f"{Path(f.filename).name}:{f.lineno}" for f in [*own[-1:], *frames[-1:]])
    message = " ".join(str(error).split())
    message = message if len(message) <= 2 * TEXT else f"{message[:TEXT]} ... {message[-TEXT:]}"
    return {"error": type(error).__name__, "message": message, "place": " < ".join(places)}


def out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is memory that ran out."""
    while error is not None:
        if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "out of memory" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


class Clock:
    """The device's time: it is waited for before the clock is read.

    Args:
        device: "cuda" or "cpu".
        until: When a section ends, as `time.time` counts.
    """

    def __init__(self, device: str, until: float) -> None:
        self.device, self.until = device, until

    def now(self) -> float:
        """Return seconds, when the device has done what it was given."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def left(self) -> float:
        """Return the seconds that the section has left."""
        return self.until - time.time()

    def reset_peak(self) -> None:
        """Forget the peak of the device's memory."""
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gb(self) -> float:
        """Return the peak of the device's memory since `reset_peak`; on a CPU that of the process."""
        if self.device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / 1e9
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
