"""A headless Chromium for tests, driven over WebDriver with the standard library alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE = 60.0  # seconds
KEYS = {"enter": "\ue007", "escape": "\ue00c", "left": "\ue012", "home": "\ue011", "end": "\ue010", "tab": "\ue004"}
WITHOUT = pytest.mark.skipif(
    not (shutil.which("chromedriver") and shutil.which("chromium")),
    reason="Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)",
)


class Page:
    """One window of the browser."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address in a window of a size, in a colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", features=[scheme])
        self._send("url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns."""
        return self._send("execute/sync", {"script": script, "args": list(arguments)})

    def text(self, css: str) -> str:
        """Return an element's text."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", css))

    def press(self, css: str, *keys: str) -> None:
        """Send keys to an element: names of `KEYS`, or texts."""
        found = self._send("element", {"using": "css selector", "value": css})[ELEMENT]
        self._send(f"element/{found}/value", {"text": "".join(KEYS.get(key, key) for key in keys)})

    def type(self, *keys: str) -> None:
        """Send keys to whatever has the focus."""
        actions = [
            {"type": kind, "value": letter}
            for key in keys
            for letter in KEYS.get(key, key)
            for kind in ("keyDown", "keyUp")
        ]
        self._send("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, css: str) -> None:
        """Click on an element."""
        found = self._send("element", {"using": "css selector", "value": css})[ELEMENT]
        self._send(f"element/{found}/click", {})

    def until(self, script: str, what: str) -> Any:
        """Wait until a script returns something true, and return that."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := self.run(script):
                return found
            time.sleep(0.05)
        raise AssertionError(
            f"{what}: not within {PATIENCE:g} s; the page says: {self.run('return document.body.innerText')}"
        )

    def picture(self, file: Path) -> None:
        """Save what is seen as a PNG."""
        file.write_bytes(base64.b64decode(self._send("screenshot")))

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._send("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _send(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return send(f"{self._session}/{path}", body)


def send(url: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
    """Return the value of WebDriver's answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return json.load(reply)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def chromium(downloads: Path) -> Iterator[Page]:
    """Start a headless Chromium that saves files into a folder."""
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            port = next(
                found[1] for line in driver.stdout if (found := re.search(r"started successfully on port (\d+)", line))
            )
            options = {
                "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
                "prefs": {"download.default_directory": str(downloads)},
            }
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            session = f"http://127.0.0.1:{port}/session"
            session = f"{session}/{send(session, wanted)['sessionId']}"
            try:
                yield Page(session)
            finally:
                send(session, method="DELETE")
        finally:
            driver.terminate()
