"""Statistics: intervals, tests and ratings; a leaf that any stage may use."""
