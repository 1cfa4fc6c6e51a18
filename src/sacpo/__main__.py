"""The command line as `python -m sacpo`, which is what launchers of several processes start."""

from sacpo.cli import main

main()
