"""The report in a browser: the first screen, narrow and wide, light and dark, keyboard alone, no request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import WITHOUT, Page, chromium
from report_world import answers, made_up
from test_page import page_of

pytestmark = WITHOUT
LIGHT = """
const parts = getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number);
return parts[0] + parts[1] + parts[2] > 400;
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page_of(made_up(), answers()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("downloads")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_asks_nobody(window: Page, url: str, width: int, dark: bool) -> None:
    window.open(url, width=width, height=900, dark=dark)
    assert window.run("return document.documentElement.scrollWidth <= innerWidth")
    assert window.run("return performance.getEntriesByType('resource').length") == 0
    assert window.run(LIGHT) is not dark
    tops = window.run("return [...document.querySelectorAll('.example')].map((e) => e.getBoundingClientRect().top)")
    assert len(tops) == 3 and (len({*tops}) == 1) == (width == 1280), "three side by side where there is room"


def test_a_wide_screen_holds_all_that_a_signature_needs(window: Page, url: str) -> None:
    window.open(url, width=1280, height=900)
    assert window.run("return document.querySelector('.signoff').getBoundingClientRect().bottom") <= 900


def test_the_keyboard_skips_to_the_answer_and_names_are_explained(window: Page, url: str) -> None:
    window.open("about:blank")
    window.open(url)
    window.type("tab")
    assert window.run("return document.activeElement.textContent") == "Skip to the answer"
    window.type("enter")
    assert window.run("return location.hash") == "#main"
    meaning = window.run("return [...document.querySelectorAll('th')].find((e) => e.textContent === 'H').title")
    assert meaning == "the model before alignment, trained for helpfulness (strength 0.5)"
    window.press("#names summary", "enter")
    assert window.run("return document.querySelector('#names').open")
    assert "trained for helpfulness" in window.text("#names dl")
