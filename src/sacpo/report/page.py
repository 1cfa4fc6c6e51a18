"""The HTML page: one file that needs no network, runs only its own script and shows every text as text.

Texts of answers, prompts, names and data reports are not trusted: the template escapes them, a policy in the page
forbids every request and every script but the page's own (known by its hash), and characters that hide or reorder text
are made visible.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sacpo.report.benchmark_tables import benchmark_table
from sacpo.report.certificate_tables import certificate_section
from sacpo.report.factor_tables import factor_stories
from sacpo.report.headline import headline
from sacpo.report.judges import judge_findings, own_tables, reliability_tables
from sacpo.report.lookup import plain, shown_model
from sacpo.report.meaning import meanings
from sacpo.report.path_tables import fidelity_tables, path_tables
from sacpo.report.race_tables import race_table
from sacpo.report.results import Results, ShownPrompt
from sacpo.report.round_tables import round_table
from sacpo.report.search_tables import search_stories
from sacpo.report.signoff import sign_off
from sacpo.report.style import Drawing, inline_svg
from sacpo.report.tables import (
    category_tables,
    distance_table,
    front_table,
    measures_tables,
    optimum_table,
    outcome_tables,
    prompts_table,
    selection_table,
    value_words,
)
from sacpo.report.training_tables import heldout_tables, training_table
from sacpo.system.visible import visible

CAPTIONS = {
    "frontier": "Win rates against the baseline on report prompts, with 95 % intervals. Lines join models that differ "
    "in strength or q only; dotted lines lead to the models that were merged; the ring is the chosen model.",
    "safety": "Unsafe answers to restricted prompts against helpfulness. The shaded side is what a constraint forbids.",
    "optimum": "Mean reward and mean safety of the trained models beside the optimum π*, which the world knows.",
    "training": "What training logged, over optimiser steps.",
}
MOST_SHOWN_AT_FIRST = 4
MOST_ANSWERS = 2_500_000
"""Characters of answers on a page: what is more stands on further pages, so that every one of them opens."""
PAGE = "report.html"


@dataclass(frozen=True)
class ShownFigure:
    """A drawing on the page, in its wide and its narrow form."""

    name: str
    wide: Markup
    narrow: Markup
    caption: str


@dataclass(frozen=True)
class AnswerPage:
    """A page of answers: its number and file, and the prompts on it, counted from 1."""

    number: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """The file's name."""
        return PAGE if self.number == 1 else f"answers-{self.number}.html"


def render(
    results: Results,
    answers: Sequence[ShownPrompt] = (),
    wide: Mapping[str, Drawing] | None = None,
    narrow: Mapping[str, Drawing] | None = None,
) -> str:
    """Return the page, the first one where there are several."""
    return render_pages(results, answers, wide, narrow)[PAGE]


def render_pages(
    results: Results,
    answers: Sequence[ShownPrompt] = (),
    wide: Mapping[str, Drawing] | None = None,
    narrow: Mapping[str, Drawing] | None = None,
) -> dict[str, str]:
    """Return the page, and further ones where there are more answers than it can hold, by their files' names.

    Args:
        results: What the run measured, with its diagnosis.
        answers: Prompts with all models' answers.
        wide: Drawings by name, for screens and paper.
        narrow: The same for phones; the wide one where one is missing.
    """
    style, script = _template("report.css"), _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_template),
    )
    content = {
        "style": Markup(style),
        "script": Markup(script),
        "script_hash": digest,
        "title": (results.recipe.get("report") or {}).get("title") or results.name,
        "meanings": meanings(results),
        "words": value_words,
        **_models(results, answers),
    }
    articles = [_article(environment, content, prompt) for prompt in answers]
    pages = _pages([len(article) for article in articles])
    texts = {}
    for page in pages:
        own = slice(page.first - 1, page.last)
        given = content | {"pages": pages, "page": page, "articles": articles[own], **_filters(answers[own])}
        name = "report.html.j2" if page.number == 1 else "more.html.j2"
        if page.number == 1:
            figures = {name: _figure(name, wide or {}, narrow or {}) for name in wide or {}}
            given |= {**_content(results), "figures": figures, "sign_off": sign_off(results, answers)}
        text = environment.get_template(name).render(**given)
        texts[page.file] = text if text.endswith("\n") else text + "\n"
    return texts


def _article(environment: Environment, content: Mapping[str, Any], prompt: ShownPrompt) -> Markup:
    """Return a prompt with all models' answers."""
    module: Any = environment.get_template("article.html.j2").make_module(dict(content))
    return Markup(str(module.article(prompt)).removesuffix("\n"))


def _pages(sizes: Sequence[int]) -> list[AnswerPage]:
    """Split articles of these sizes into pages of at most `MOST_ANSWERS` characters, or of one article."""
    starts, room = [0], MOST_ANSWERS
    for place, size in enumerate(sizes):
        if size > room and place > starts[-1]:
            starts.append(place)
            room = MOST_ANSWERS
        room -= size
    ends = [*starts[1:], len(sizes)]
    return [AnswerPage(i, first + 1, last) for i, (first, last) in enumerate(zip(starts, ends, strict=True), 1)]


def _content(results: Results) -> dict[str, Any]:
    return {
        "results": results,
        "headline": headline(results),
        "certificate": certificate_section(results),
        "searches": [*search_stories(results), *factor_stories(results)],
        "selection": selection_table(results),
        "front": front_table(results),
        "raced": race_table(results),
        "rounds": round_table(results),
        "paths": [*path_tables(results), *fidelity_tables(results)],
        "benchmarks": benchmark_table(results),
        "measures": measures_tables(results, "report"),
        "other_measures": [*measures_tables(results, "tuning"), *measures_tables(results, "certification")],
        "outcomes": outcome_tables(results),
        "judges": reliability_tables(results),
        "own_figures": own_tables(results),
        "judge_findings": judge_findings(results),
        "categories": category_tables(results),
        "training": training_table(results),
        "heldout": heldout_tables(results),
        "optimum": [table for table in (optimum_table(results), distance_table(results)) if table],
        "prompts": prompts_table(results),
        "recipe": yaml.safe_dump(plain(_json_ready(results.recipe)), sort_keys=False, allow_unicode=True, width=100),
    }


def _models(results: Results, answers: Sequence[ShownPrompt]) -> dict[str, Any]:
    named = dict.fromkeys(name for prompt in answers for name in prompt.answers)
    models = [name for name in results.models if name in named]
    models += [name for name in named if name not in results.models]
    return {"answer_models": models, "shown_first": _shown_first(results, models)}


def _filters(answers: Sequence[ShownPrompt]) -> dict[str, Any]:
    """Return what the answers of a page can be filtered by."""
    return {
        "kinds": _values(prompt.kind for prompt in answers),
        "sets": _values(prompt.set for prompt in answers),
        "categories_shown": _values(prompt.category for prompt in answers),
        "flags": _values(flag for prompt in answers for answer in prompt.answers.values() for flag in answer.flags),
    }


def _shown_first(results: Results, models: Sequence[str]) -> list[str]:
    """Return the models whose answers are open at first: the baseline, the chosen one and what it was made from."""
    chosen = shown_model(results)
    made_from = results.models[chosen].parents if chosen is not None else ()
    wanted = [name for name in (results.baseline, chosen, *made_from) if name in models]
    wanted = wanted if chosen is not None else [*wanted, *models]
    return [name for name in dict.fromkeys(wanted) if name is not None][:MOST_SHOWN_AT_FIRST]


def _figure(name: str, wide: Mapping[str, Drawing], narrow: Mapping[str, Drawing]) -> ShownFigure:
    small = narrow.get(name, wide[name])
    return ShownFigure(
        name,
        Markup(inline_svg(wide[name], f"{name}-wide")),
        Markup(inline_svg(small, f"{name}-narrow")),
        CAPTIONS.get(name, ""),
    )


def _template(name: str) -> str:
    return resources.files("sacpo.report").joinpath("templates", name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else visible(str(value))


def _values(found: Any) -> list[str]:
    return sorted({value for value in found if value})


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
