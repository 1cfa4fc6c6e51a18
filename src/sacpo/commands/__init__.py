"""The verbs on the command line; each imports what it runs when it runs, so that `--help` answers at once."""
