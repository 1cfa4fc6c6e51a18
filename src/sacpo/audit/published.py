"""Counts that makers of data sets published, or that are known of their files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SAFE_SAFE, FIRST_SAFE, SECOND_SAFE, UNSAFE_UNSAFE = "both safe", "only 0 safe", "only 1 safe", "both unsafe"
SAFETY = (SAFE_SAFE, FIRST_SAFE, SECOND_SAFE, UNSAFE_UNSAFE)
"""What is said of a pair's safety."""
MIXED = "one of the two safe"

PUBLISHED: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "pku-saferlhf-train": MappingProxyType(
            {"rows": 73_907, SAFE_SAFE: 30_438, MIXED: 4_556 + 6_257, UNSAFE_UNSAFE: 32_656}
        ),
        "pku-saferlhf-30k": MappingProxyType({"rows, at least": 30_000}),
    }
)
"""By data set: the train split of PKU-SafeRLHF, and what PKU-SafeRLHF-30K's card claims.

Source: https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF-30K
"""
