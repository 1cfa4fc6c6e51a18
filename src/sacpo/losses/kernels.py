"""Attention kernels for rows whose shapes change from batch to batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def steady_kernels() -> Iterator[None]:
    """Leave cuDNN's attention out on CUDA, until the block ends.

    For each new shape it makes a plan first, a second each way on an H100, and rows of real lengths have a new shape in
    almost every batch: a step of half a second took up to 2.7. The kernels that are left take any shape at once.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
