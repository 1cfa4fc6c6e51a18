"""The engine of all trainings: options, order and layout of records, checkpoints, sharding, metrics."""
