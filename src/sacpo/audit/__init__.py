"""What a preference set or a prompt set holds, and what is wrong with it."""

from sacpo.audit.preferences import audit_preferences
from sacpo.audit.prompts import audit_prompts

__all__ = ["audit_preferences", "audit_prompts"]
