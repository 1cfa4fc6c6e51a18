"""The reference: its log-probs, computed once and cached, and the check of the first loss."""
