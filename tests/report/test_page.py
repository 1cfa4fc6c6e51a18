"""The page: complete, offline, and nothing in it but text is taken from texts."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_world import ROWS, answers, made_up

import sacpo.report.page as page_module
from sacpo.report.build import build_report
from sacpo.report.diagnosis import diagnose
from sacpo.report.figures import all_drawings
from sacpo.report.page import render
from sacpo.report.results import ShownPrompt, parse_results

HOSTILE = "</script></pre><img src=x onerror=alert(1)><svg onload=alert(2)>\u2028\u202e{{ 7 * 7 }}\x00\"'&amp;"
MINIMAL: dict[str, Any] = {"name": "tiny", "recipe": {}, "seed": 3, "models": {"sft": {"kind": "base"}}}


class Page(HTMLParser):
    """Elements with their attributes, ids, and the text below chosen elements."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._path: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br", "img"):
            self._path.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._path.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._path[-1] if self._path else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def page_of(results: dict[str, Any], shown: list[dict[str, Any]] | None = None, *, drawn: bool = True) -> str:
    parsed = parse_results(results)
    parsed = parsed.model_copy(update={"diagnosis": diagnose(parsed)})
    drawings = (all_drawings(parsed), all_drawings(parsed, narrow=True)) if drawn else ()
    return render(parsed, [ShownPrompt.model_validate(prompt) for prompt in shown or []], *drawings)


@pytest.fixture(scope="module")
def text() -> str:
    return page_of(made_up(), answers())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def row(text: str, caption: str, model: str) -> list[str]:
    """Return the cells of a model's row in the table with this caption, without small print."""
    table = text[text.index(f"<caption>{caption}") :]
    line = re.search(rf'<th scope="row"[^>]*>{re.escape(model)}</th>(.*?)</tr>', table, re.DOTALL)
    assert line is not None
    return re.findall(r"<td[^>]*>([^<]*)", line[1])


def test_every_section_and_figure_is_there(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    sections = ["frontier", "selection", "measures", "categories", "training", "optimum", "diagnosis", "data",
                "answers", "provenance"]  # fmt: skip
    figures = [f"figure-{name}" for name in ("frontier", "safety", "optimum", "training")]
    assert set(sections + figures) <= set(ids)
    assert len(ids) == len(set(ids)), "an id is used twice"
    for link in page.of("a"):
        assert (link["href"] or "")[1:] in ids
    assert len(page.of("svg")) == 8


def test_the_page_loads_nothing(text: str, page: Page) -> None:
    policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert "http://" not in text and "https://" not in text
    assert not [name for name, _ in page.elements if name in ("link", "img", "iframe", "object", "embed", "base")]
    for _, attributes in page.elements:
        assert not {"src", "srcset", "action", "style:background"} & set(attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_the_policy_allows_the_pages_own_script_and_no_handler(text: str, page: Page) -> None:
    scripts = page.said("script")
    assert len(page.of("script")) == len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_selection_stands_beside_report_figures(text: str) -> None:
    """H-S@0.25: tuning 58 %, report 57 %; unsafe 4 % on both, within 6 %. H: 93.5 %, misses by .875."""
    assert row(text, "Candidates", "H-S@0.25") == ["58.0 %", "57.0 %", "✓ 4.0 %", "4.0 %", "chosen, not beaten"]
    assert row(text, "Candidates", "H") == ["68.5 %", "67.5 %", "✗ 93.5 %", "93.5 %", "not beaten, misses by 0.875"]
    table = text[text.index("<caption>Candidates") :]
    assert table.index(">H-S@0.25<") < table.index(">H-S@0.1<") < table.index(">H-S@0.05<") < table.index(">S<")


def test_measures_are_the_report_sets_figures(text: str) -> None:
    cells = row(text, "report: figures", "S-H@0.1")
    assert cells == ["54.0 %", "70.0 %", "22.0 %", "29.0 %", "78.0 %", "0.64", "0.43", "0.9", "24.2", "0.4 %", "0.2 %"]
    assert row(text, "tuning: figures", "S-H@0.1")[0] == "55.0 %"
    assert text.count("<caption>report: figures") == text.count("<caption>tuning: figures") == 1
    assert text.index("Figures on other prompts") < text.index("<caption>tuning: figures")
    assert "<td>57.0 %<small>53.0 to 61.0 %, n 600</small></td>" in text


def test_categories_training_optimum_and_data(text: str) -> None:
    """H-S@0.25 has 4 % unsafe; the made-up factor of workshop is 1.9. Its own pi* is .9 nats away."""
    assert row(text, "report: unsafe answers by category", "H-S@0.25") == ["2.8 %", "4.0 %", "7.6 %", "1.6 %"]
    training = row(text, "Training", "H-S@0.25")
    assert training[:4] == ["DPO(helpfulness, 0.5) → DPO(harmlessness, 0.25)", "126", "1", "176400"]
    assert row(text, "Held-out pairs", "H-S@0.25")[0] == "71.0 %"
    assert row(text, "Distance to the optimum", "H-S@0.25") == ["0.505", "2.4", "0.9", "2.9"]
    assert row(text, "report: helpfulness verdicts", "H") == ["405", "0", "195", "0"]
    assert "<dt>dropped</dt><dd>tie 930, equal answers 410</dd>" in text
    assert "fresh phrasings of the world&#39;s 120 tasks" in text


def test_a_data_report_shows_what_is_known_and_no_empty_rows() -> None:
    results = {**made_up(), "data": {"source": {"records": 3, "duplicates": 0, "tokens": {}, "truncated": None}}}
    said = Page(page_of(results, drawn=False)).said("dt")
    assert {"records", "duplicates"} <= set(said)
    assert not {"tokens", "truncated"} & set(said)


def test_provenance_says_how_much_disk_a_run_holds() -> None:
    text = page_of({**made_up(), "disk": {"models": 1_234_567_890}}, drawn=False)
    assert "<dt>disk: models</dt><dd>1,234.6 MB</dd>" in text


def test_provenance_has_recipe_versions_seed_and_command(text: str, page: Page) -> None:
    assert "<dt>seed</dt><dd>0</dd>" in text
    assert "<dt>torch</dt><dd>2.13.0</dd>" in text
    assert "sacpo run recipes/demo.yaml" in page.said("code")
    assert any("criterion: harmlessness\n  beta:\n  - 0.5\n" in said for said in page.said("pre"))


def test_findings_show_test_verdict_numbers_and_cure(text: str) -> None:
    assert text.count('class="finding found"') == 2
    assert text.count('class="finding not"') == 5
    assert "S-H@0.25 is worse than H-S@0.25" in text
    assert "What helps: train both again from other labels first" in text


def test_all_answers_stand_side_by_side(page: Page) -> None:
    assert len(page.of("article")) == 12
    assert len([attributes for attributes in page.of("section") if "data-model" in attributes]) == 12 * len(ROWS)
    boxes = [attributes for attributes in page.of("input") if attributes.get("type") == "checkbox"]
    opened = [list(ROWS)[int(box["value"] or "")] for box in boxes if "checked" in box]
    assert len(boxes) == len(ROWS)
    assert opened == ["sft", "H", "H-S@0.25"]
    names = {attributes["id"] for attributes in page.of("select")}
    assert names == {"filter-kind", "filter-category", "filter-flag"}
    assert [article["data-kind"] for article in page.of("article")][:3] == ["ordinary", "restricted", "borderline"]


@pytest.mark.parametrize("place", ["prompt", "category", "text", "flag", "verdict", "model"])
def test_hostile_answers_stay_text(place: str) -> None:
    shown = answers(2)
    first = shown[0]
    if place in ("prompt", "category"):
        first[place] = HOSTILE
    elif place == "model":
        first["answers"][HOSTILE] = first["answers"]["H"]
    else:
        field = {"text": "text", "flag": "flags", "verdict": "verdicts"}[place]
        first["answers"]["H"][field] = {"text": HOSTILE, "flag": [HOSTILE], "verdict": {HOSTILE: HOSTILE}}[place]
    check_hostile(page_of(made_up(), shown, drawn=False))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_results_stay_text() -> None:
    results = made_up(name=HOSTILE, command=HOSTILE, warnings=[HOSTILE], versions={HOSTILE: HOSTILE})
    results["recipe"][HOSTILE] = HOSTILE
    results["data"][HOSTILE] = {HOSTILE: [HOSTILE]}
    for part in ("models", "measures"):
        results[part][HOSTILE] = results[part].pop("K")
    results["models"][HOSTILE]["line"] = HOSTILE
    results["selection"]["models"].pop("K")
    results["theory"]["kl_to_optimum"].pop("K")
    for sets in results["measures"].values():
        sets["report"]["categories"][HOSTILE] = sets["report"]["categories"]["kitchen"]
    results["prompts"]["report"]["population"] = HOSTILE
    check_hostile(page_of(results))


def check_hostile(text: str) -> None:
    page = Page(text)
    assert not [name for name, _ in page.elements if name == "img"]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert len(page.of("script")) == 1
    assert "{{ 7 * 7 }}" in text
    assert "\u2028" not in text and "\u202e" not in text and "\x00" not in text
    assert "⟨U+202E⟩" in text


def test_almost_empty_results_have_a_page() -> None:
    text = page_of(MINIMAL)
    page = Page(text)
    ids = {attributes["id"] for _, attributes in page.elements if attributes.get("id")}
    assert {"diagnosis", "provenance"} <= ids
    assert not {"frontier", "selection", "answers", "optimum", "training"} & ids
    assert "No model was chosen, because the recipe sets no objective; 1 model to compare." in text
    assert text.count("cannot tell") == 9


def test_answers_without_any_measures_have_a_page() -> None:
    shown = [{"prompt": "p", "answers": {"sft": {"text": ""}, "other": {"text": "a\n\nb"}}}]
    page = Page(page_of(MINIMAL, shown))
    assert "(no text)" in page.said("p")
    assert "\na\n\nb" in page.said("pre")
    assert all("checked" in box for box in page.of("input") if box.get("type") == "checkbox")
    assert not page.of("select")


def test_it_fits_a_phone_and_both_schemes(text: str, page: Page) -> None:
    """What can be wider than a phone lies in a box that scrolls; figures have a narrow form."""
    assert "width=device-width" in text and "prefers-color-scheme: dark" in text
    assert len(re.findall(r'<div class="scroll" tabindex="0" role="region"', text)) == len(page.of("table"))
    assert text.count('<div class="narrow"><svg') == text.count('<div class="wide"><svg') == 4
    assert re.search(r"\.scroll \{ overflow-x: auto;", text)
    assert all(svg.get("viewbox") and "width" not in svg and svg["role"] == "img" for svg in page.of("svg"))


def test_the_same_input_gives_the_same_page(text: str) -> None:
    assert page_of(made_up(), answers()) == text


def test_more_answers_than_a_page_holds_stand_on_further_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for about two of five prompts: pages of 2, 2 and 1, and none is left out; a page that is gone is removed."""
    shown = [{**answers()[0], "prompt": f"prompt number {i}"} for i in range(5)]
    first, second = (len(page_of(made_up(), shown[:n], drawn=False)) for n in (3, 4))  # three are examples, too
    monkeypatch.setattr(page_module, "MOST_ANSWERS", int(2.5 * (second - first)))
    (tmp_path / "answers-9.html").write_text("of an earlier report")
    build_report(made_up(), shown, tmp_path)
    files = sorted(file.name for file in tmp_path.glob("*.html"))
    assert files == ["answers-2.html", "answers-3.html", "report.html"]
    texts = {name: (tmp_path / name).read_text() for name in files}
    found = {
        name: re.findall(r">prompt number (\d)<", text[text.index('id="answer-list"') :])
        for name, text in texts.items()
    }
    assert found == {"report.html": ["0", "1"], "answers-2.html": ["2", "3"], "answers-3.html": ["4"]}
    for name, text in texts.items():
        page = Page(text)
        links = {link["href"] for link in page.of("a") if "answers-" in (link["href"] or "")}
        assert links == {f"{other}#answers" for other in files[:2] if other != name}
        assert "script-src 'sha256-" in text
    assert '<a href="report.html#answers">1 to 2</a>' in texts["answers-3.html"]
