"""Pushing models and data to the Hugging Face hub: which files, with which card, and the upload."""
