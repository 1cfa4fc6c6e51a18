"""One section in a process of its own: `python -m benchmarks.gpu.section NAME OPTIONS`; a crash loses no other."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from typing import Any

from benchmarks.gpu.emit import Clock, emit, out_of_memory, told

MODULES = ("machine", "agreement", "training", "resuming", "generation", "kernels", "merging")


def main() -> None:
    """Run a section and say how it ended."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    module, _, function = name.partition(".")
    if module not in MODULES:
        sys.exit(f"no such section: {name}")
    try:
        quiet()
        clock = Clock(options.pop("device"), options.pop("until"))
        getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(clock, **options)
    except Exception as error:  # noqa: BLE001 - whatever breaks is what is to be told
        emit("failed", memory=out_of_memory(error), **told(error))
        _leave(1)
    emit("done")
    _leave(0)


def _leave(code: int) -> None:
    """End without clean-up, which may hang or fail behind a broken device."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def quiet() -> None:
    """Keep libraries from saying what no one reads."""
    warnings.simplefilter("ignore")
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


QUIET: dict[str, Any] = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}

if __name__ == "__main__":
    main()
