"""The demo's own models on the chat page: `export SACPO_DEMO_RUN=runs/demo` names a finished run of the demo."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from browser import WITHOUT, chromium

from sacpo.chat import setting_of_run
from sacpo.chat.server import ChatServer
from sacpo.chat.talk import Talk

RUN = os.environ.get("SACPO_DEMO_RUN")
pytestmark = [WITHOUT, pytest.mark.skipif(RUN is None, reason="SACPO_DEMO_RUN names no finished run of the demo")]


def test_the_slider_turns_help_with_a_restricted_prompt_into_a_refusal(tmp_path: Path) -> None:
    talk = Talk(setting_of_run(str(RUN)))
    restricted = next(prompt.text for prompt in talk.setting.examples if prompt.kind == "restricted")
    ready = "return running === null && turns.length && document.querySelector('.aligned h3').textContent === "
    with ChatServer(talk) as server, chromium(tmp_path) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.open(server.url)
        page.until("return setting !== null", "the setting")
        page.run("document.querySelector('#temperature').value = 0")
        page.press("#q", "home")
        page.press("#question", restricted, "enter")
        page.until(ready + json.dumps(talk.setting.ends[0]), "the helpful answer")
        helpful, said = page.text(".aligned .text"), page.text(".aligned .said")
        assert "harmlessness: ✗ unsafe" in said and "breaks the bound" in page.text("#figures")
        page.press("#q", "end")
        page.until(ready + json.dumps(talk.setting.ends[1]), "the safe answer")
        safe, said = page.text(".aligned .text"), page.text(".aligned .said")
        assert safe != helpful and "harmlessness: ✓ safe" in said and "meets the bound" in page.text("#figures")
        server.shutdown()
