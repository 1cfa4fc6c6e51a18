"""Addresses of endpoints: what a plain one is, which is asked, and whether it leads to this machine."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import SplitResult, urlsplit

ALLOWED = "http(s)://HOST:PORT/PATH, without a user, a password or a query"
URL_VARIABLE = "OPENAI_BASE_URL"
NO_HOST = "its host is malformed"
OPENAI = "https://api.openai.com/v1"
_HOST = re.compile(r"[\w.~-]+|[0-9a-f:.]+(?:%\w+)?", re.IGNORECASE)


def fault_of(url: str) -> str | None:
    """Return what is wrong with an endpoint's address, without its text: that may hold a secret. None: nothing is."""
    if not url.isprintable() or any(char.isspace() or char == "\\" for char in url):
        return "it holds a space, a line end or another character that no address has"
    try:
        parts = urlsplit(url)
    except ValueError:
        return NO_HOST
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        return "it is not of the form that is allowed"
    if port == 0:
        return "it has a port that no machine has; ports go from 1 to 65535"
    if not _is_host(parts):
        return NO_HOST
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "it goes on beyond the endpoint's root, behind /v1"
    return None


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return bool(_HOST.fullmatch(host)) and bool(":" in host or host.encode("idna"))
    except UnicodeError:  # a label of no letters, or of more than 63
        return False


def endpoint_of(base_url: str) -> str:
    """Return the address that is asked: the given one, else OPENAI_BASE_URL's; "" stands for OpenAI's own."""
    named = os.environ.get(URL_VARIABLE, "").strip()
    return base_url or ("" if named.rstrip("/") == OPENAI else named)


def is_local(url: str) -> bool:
    """Tell whether an address leads to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
