"""Language models that judge: messages, endpoints, budgets, a store of verdicts, panels."""
