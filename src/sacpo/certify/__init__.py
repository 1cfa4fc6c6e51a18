"""Certificates: a model's rates stay within bounds, at a stated confidence, on prompts that the choice has not seen."""

from __future__ import annotations

from sacpo.certify.looks import certify
from sacpo.certify.of_run import request_of_run
from sacpo.certify.power import prompts_for
from sacpo.certify.verify import verify_certificate

__all__ = ["certify", "prompts_for", "request_of_run", "verify_certificate"]
