"""Models: loading, checking and saving them, and what a model is that has no weights of its own."""
