"""What must be right before the first request: the address, the key, headers and proxies of the environment."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from sacpo.errors import RunError
from sacpo.judging.llm.judge import LlmModel
from sacpo.recipe.address import ALLOWED, OPENAI, URL_VARIABLE, fault_of, is_local
from sacpo.recipe.llm import plain_key

DEFAULT_KEY, NO_KEY = "OPENAI_API_KEY", "none"
HEADERS = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")
PROXIES = ("http", "https", "all")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
CERTIFICATES = {"SSL_CERT_FILE": Path.is_file, "SSL_CERT_DIR": Path.is_dir}


def check_access(judge: LlmModel) -> str:
    """Return the key of a judge's endpoint, "" for none, and check what the environment does to its requests.

    Nothing is sent.

    Raises:
        RunError: The key is missing or no header can carry it, or a variable of the environment (OPENAI_BASE_URL, a
            proxy, a header, a certificate) makes every request fail. The message names the variable.
        RecipeError: The key would leave this machine in clear.
    """
    where = f"{judge.title}"
    if not judge.spec.base_url and judge.endpoint and (fault := fault_of(judge.endpoint)) is not None:
        raise RunError(
            f"{URL_VARIABLE} is no plain address of an endpoint: {fault}",
            where=where,
            allowed=ALLOWED,
            do="correct this environment variable, unset it, or set base_url",
        )
    key = key_of(judge)
    if key and not judge.spec.send_key_anyway and judge.address.startswith("http:") and not is_local(judge.address):
        raise plain_key(judge.spec.api_key_env, where)
    _check_headers(where)
    if not is_direct(judge.address):
        _check_proxies(where)
        _check_certificates(where)
    return key


def is_direct(address: str) -> bool:
    """Tell whether requests go past the environment's proxies: no proxy leads back to this machine."""
    return address.startswith("http:") and is_local(address)


def proxy_of(address: str) -> str:
    """Return the variable whose proxy an address is reached through, "" when there is none."""
    parts = urlsplit(address)
    if is_direct(address) or proxy_bypass(parts.netloc):
        return ""
    known = getproxies()
    return next((_variable(scheme) for scheme in (parts.scheme, "all") if known.get(scheme)), "")


def client_of(judge: LlmModel, key: str, *, blocking: bool = False) -> Any:
    """Return the client that asks; `check_access` has passed.

    Args:
        judge: Who is asked.
        key: The endpoint's key.
        blocking: A client for callers without an event loop.

    Raises:
        RunError: The environment keeps it from being made.
    """
    import openai  # takes most of a second, so only who judges pays for it

    client: Any = openai.OpenAI if blocking else openai.AsyncOpenAI
    local: Any = openai.DefaultHttpxClient if blocking else openai.DefaultAsyncHttpxClient
    http = local(trust_env=False) if is_direct(judge.address) else None
    try:
        return client(
            api_key=key or NO_KEY, base_url=judge.address, max_retries=0, timeout=judge.spec.timeout, http_client=http
        )
    except (ValueError, ImportError, OSError, openai.OpenAIError) as error:
        raise RunError(
            f"no client can be made for this endpoint: {error}",
            where=f"{judge.title}, {judge.address}",
            do="check base_url, and the environment's proxies and certificates",
        ) from error


def key_of(judge: LlmModel) -> str:
    """Return the key of a judge's endpoint, "" where it needs none.

    Raises:
        RunError: The environment variable is not set, or no header can carry what it holds.
    """
    name, where = judge.spec.api_key_env, f"{judge.title}"
    if not name:
        return ""
    key = os.environ.get(name, "")
    if not key and (name != DEFAULT_KEY or judge.address == OPENAI):
        raise RunError(
            "the endpoint's key is missing",
            where=where,
            value=name,
            do="set this environment variable, or set api_key_env to '' for an endpoint without keys",
        )
    if any(not "!" <= char <= "~" for char in key):  # without the key itself
        raise RunError(
            "the key holds a character that no key has: a line end, a space, or a letter beyond ASCII",
            where=where,
            value=name,
            do="set this environment variable to the key alone, as in export NAME=$(tr -d '\\n' < FILE)",
        )
    return key


def _check_headers(where: str) -> None:
    for name in HEADERS:
        value = os.environ.get(name, "")
        lines = value.split("\n") if name == "OPENAI_CUSTOM_HEADERS" else [value]
        if any(not (char == "\t" or " " <= char <= "~") for line in lines for char in line):
            raise RunError(
                "this environment variable goes into every request, and no header can carry it",
                where=where,
                value=name,
                allowed="printable ASCII characters",
                do="correct it or unset it",
            )


def _check_proxies(where: str) -> None:
    known = getproxies()
    if "*" in [host.strip() for host in known.get("no", "").split(",")]:
        return
    for scheme in filter(known.get, PROXIES):
        for fault, cure in _faults(known[scheme]):
            raise RunError(
                f"the proxy that {_variable(scheme)} names cannot be used: {fault}",
                where=where,
                allowed=", ".join(f"{one}://HOST:PORT" for one in PROXY_SCHEMES),
                do=f"{cure}, or unset {_variable(scheme)}",
            )


def _faults(proxy: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a proxy's address, and its cure; the address itself may hold a password."""
    correct = "correct it"
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        yield "its host or its port is malformed", correct
        return
    if parts.scheme not in PROXY_SCHEMES:
        yield f"no such kind of proxy as {parts.scheme}://", "write socks5:// for a SOCKS proxy"
    elif not parts.hostname or port == 0 or not address.isascii() or any(char.isspace() for char in address):
        yield "its host or its port is malformed", correct
    elif parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        yield "the package socksio is not installed", "pip install socksio"


def _check_certificates(where: str) -> None:
    for name, exists in CERTIFICATES.items():
        value = os.environ.get(name)
        if value and not exists(Path(value)):
            raise RunError(
                f"{name} names certificates that are not there",
                where=where,
                value=value,
                do="correct this environment variable or unset it",
            )


def _variable(scheme: str) -> str:
    names = [f"{scheme}_proxy", f"{scheme}_PROXY".upper()]
    return next((name for name in names if os.environ.get(name)), f"the system's {scheme} proxy")
