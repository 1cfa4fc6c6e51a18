"""A page in one file, and the headers that let it load nothing and run nothing but itself."""

from __future__ import annotations

import base64
import hashlib


def headers_of(page: str) -> dict[str, str]:
    """Return the headers of a page whose one script and one style stand in it, and of all that it asks for."""
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src {_source(page, 'script')}; style-src {_source(page, 'style')}; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _source(page: str, tag: str) -> str:
    """Return the policy that allows the page's own inline element and no other."""
    inside = page.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
