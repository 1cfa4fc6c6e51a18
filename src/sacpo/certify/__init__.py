"""Certificates: a model's rates stay within bounds, at a stated confidence, on prompts that the choice has not seen."""

from __future__ import annotations

from sacpo.certify.looks import certify
from sacpo.certify.power import prompts_for
from sacpo.certify.verify import verify_certificate

__all__ = ["certify", "prompts_for", "verify_certificate"]
