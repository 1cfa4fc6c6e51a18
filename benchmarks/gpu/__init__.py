"""Everything worth knowing about this package on one GPU, in one command: `python -m benchmarks.gpu --help`."""
