"""Benchmarks: each side by side with its peer in one run, as a ratio with its spread. `python -m benchmarks --help`."""
