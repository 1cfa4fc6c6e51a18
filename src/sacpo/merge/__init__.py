"""Merge: linear merging, task vectors, token-level mixing."""
