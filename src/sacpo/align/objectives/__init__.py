"""Objectives: what a training minimises on its records, one file an algorithm."""
