"""Align: SFT and the one mechanism behind every alignment step."""
