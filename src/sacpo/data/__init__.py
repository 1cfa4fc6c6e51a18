"""Data: records, readers of public formats, prompt templates, tokenising, splits and the data report."""
