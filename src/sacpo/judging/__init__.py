"""Judging by language models: rubrics, messages, replies, a store of verdicts, budgets and endpoints."""
