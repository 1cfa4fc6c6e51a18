"""The chat page in a browser: keyboard alone, narrow and wide, light and dark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import WITHOUT, Page, chromium
from chat_toys import ANSWERS, QUESTIONS, served
from test_chat_talk import Family, setting

from sacpo.data.answers import read_answers

pytestmark = WITHOUT
BESIDE = """
const [own, other] = [...document.querySelectorAll('.answer')].map((each) => each.getBoundingClientRect());
return own.right < other.left;
"""
DONE = "return document.querySelector('#status').textContent === 'The answer is complete.'"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def window(downloads: Path) -> Iterator[Page]:
    with chromium(downloads) as page:
        yield page


@pytest.fixture(scope="module")
def url(family: Family) -> Iterator[str]:
    with served(setting(family)) as (_, _, server):
        yield server.url


def opened(window: Page, url: str, **options: object) -> Page:
    window.open("about:blank")
    window.open(url, **options)  # type: ignore[arg-type]
    window.until("return setting !== null", "the setting")
    return window


def ask(page: Page, text: str) -> None:
    page.press("#question", text, "enter")
    page.until(f"return running === null && turns.at(-1)?.content === {json.dumps(text)}", "an answer")
    assert page.run(DONE)


def test_the_slider_moves_the_answer_from_helpful_to_safe(window: Page, url: str) -> None:
    page = opened(window, url)
    page.press("#q", "home")
    ask(page, QUESTIONS[0])
    assert page.text(".aligned .text") == ANSWERS["helpful"] and page.text(".beside .text") == ANSWERS["sft"]
    assert page.text(".aligned .said").startswith("refusal: compliance")
    page.press("#q", "end")
    page.until(f"return document.querySelector('.aligned .text').textContent === {json.dumps(ANSWERS['safe'])}", "safe")
    page.until(DONE, "the end")
    assert page.text(".aligned .said") == "refusal: full refusal"
    assert (page.text(".aligned h3"), page.text("#here")) == ("safe", "q = 1 (safe)")


def test_everything_can_be_reached_by_keyboard_and_has_a_label(window: Page, url: str) -> None:
    page = opened(window, url)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.run("document.body.focus()")
    reached = []
    for _ in range(20):
        page.type("tab")
        reached.append(page.run("return document.activeElement.id"))
    wanted = {"q", "follow", "question", "send", "fresh", "temperature", "system", "beside"}
    assert wanted <= {*reached}
    unnamed = "return [...document.querySelectorAll('input, textarea, select')].filter((e) => !e.labels.length).length"
    assert page.run(unnamed) == 0


def test_nothing_is_wider_than_the_window_and_dark_is_dark(window: Page, url: str) -> None:
    for width in (390, 1280):
        for dark in (False, True):
            page = opened(window, url, width=width, height=844, dark=dark)
            ask(page, QUESTIONS[0])
            assert page.run("return document.documentElement.scrollWidth <= innerWidth")
            assert page.run(BESIDE) == (width == 1280)
            canvas = "const e = document.createElement('i'); e.style.color = 'Canvas'; document.body.append(e);"
            colour = page.run(canvas + "return getComputedStyle(e).color.match(/[0-9]+/g).map(Number)")
            assert (sum(colour) < 200) == dark, colour


def test_hostile_text_stays_text(window: Page, url: str) -> None:
    page = opened(window, url)
    hostile = "<img src=x onerror=alert(1)><b>steal</b>"
    ask(page, hostile)
    assert page.text(".asked") == hostile
    assert page.run("return document.querySelectorAll('#turns img, #turns b').length") == 0


def test_escape_stops_an_answer(window: Page, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sacpo.chat import talk

    real = talk.steps

    def slow(*arguments: object, **options: object) -> Iterator[object]:
        for step in real(*arguments, **options):  # type: ignore[arg-type]
            time.sleep(0.3)
            yield step

    page = opened(window, url)
    monkeypatch.setattr(talk, "steps", slow)
    page.press("#question", QUESTIONS[0], "enter")
    page.until("return document.querySelector('.aligned .text').textContent.length > 0", "the first word")
    page.type("escape")
    page.until("return document.querySelector('#status').textContent === 'Stopped.'", "the stop")
    assert page.text(".aligned .small") == "stopped; it is not saved"
    assert page.run("return records.size") == 0


def test_answers_are_saved_as_files_that_judge_reads(window: Page, url: str, downloads: Path) -> None:
    page = opened(window, url)
    page.run("records.clear()")
    for text in QUESTIONS[:2]:
        ask(page, text)
    page.run("document.querySelector('#save').open = true")
    assert page.text("#files") == "safe (2)sft (2)"
    page.click("#files button")
    file = downloads / "safe.jsonl"
    end = time.monotonic() + 30
    while not file.is_file() and time.monotonic() < end:
        time.sleep(0.1)
    seen = page.run("return [...document.querySelectorAll('.aligned .text')].map((each) => each.textContent)")
    assert [answer.text for answer in read_answers(file)] == seen and seen[0] == ANSWERS["safe"]


def test_the_slider_begins_where_the_run_chose_and_moves_in_hundredths(window: Page, family: Family) -> None:
    with served(setting(family, q=0.3125)) as (_, _, server):
        page = opened(window, server.url)
        assert page.text("#here") == "q = 0.3125 (between the two, q = 0.3125)"
        page.press("#q", "left", "left")
        assert page.text("#here") == "q = 0.29 (between the two, q = 0.29)"
