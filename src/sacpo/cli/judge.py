"""`sacpo judge` on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sacpo.cli.options import Json, Quiet, parse_options, shown
from sacpo.data.answers import AnswerFiles
from sacpo.data.records import Kind
from sacpo.errors import RecipeError
from sacpo.plain import JsonObject
from sacpo.system.visible import visible

if TYPE_CHECKING:
    from sacpo.recipe.llm import PanelSpec

LLM = "Language models as judges"
SCORED = "Reward and cost models as judges"
LONGEST, REFUSAL = 512, "refusal"
Llm = Annotated[
    list[str] | None,
    typer.Option(
        "--llm", metavar="MODEL", help="A model's name at the endpoint; repeat it for a panel.", rich_help_panel=LLM
    ),
]
Strings = list[str] | None


def judge(
    answers: Annotated[Path, typer.Argument(help="A file of answers, or the folder it is in.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)],
    baseline: Annotated[Path | None, typer.Option(help="The baseline's answers to the same prompts.")] = None,
    criterion: Annotated[str | None, typer.Option(help="helpfulness, harmlessness, refusal, ...")] = None,
    name: Annotated[str | None, typer.Option(help="Name the model so, whatever the file says.")] = None,
    baseline_name: Annotated[str | None, typer.Option(help="Name the baseline so.")] = None,
    prompts: Annotated[str | None, typer.Option(help="What they are: ordinary, restricted or borderline.")] = None,
    llm: Llm = None,
    base_url: Annotated[
        str | None, typer.Option(help="The endpoint, such as http://localhost:8000/v1.", rich_help_panel=LLM)
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="The variable that holds the key; '': none is needed.", rich_help_panel=LLM)
    ] = None,
    rubric: Annotated[
        Strings, typer.Option("--rubric", help="A built-in rubric or a file; repeatable.", rich_help_panel=LLM)
    ] = None,
    panel: Annotated[
        Path | None, typer.Option(help="A YAML file with judges of several endpoints.", rich_help_panel=LLM)
    ] = None,
    setting: Annotated[
        Strings,
        typer.Option(
            "--setting",
            metavar="NAME=VALUE",
            help="temperature, max_tokens, requests_per_minute, ...",
            rich_help_panel=LLM,
        ),
    ] = None,
    order: Annotated[Strings, typer.Option("--order", help="ab, ba; both by default.", rich_help_panel=LLM)] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Of each question.", rich_help_panel=LLM)] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests at once, for each judge; 16.", rich_help_panel=LLM)
    ] = None,
    max_requests: Annotated[int | None, typer.Option(help="Budget of this command.", rich_help_panel=LLM)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Budget of this command.", rich_help_panel=LLM)] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Budget of this command; needs prices.", rich_help_panel=LLM)
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(metavar="PROMPT/COMPLETION", help="Per million tokens, such as 2.5/10.", rich_help_panel=LLM),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what it would cost.", rich_help_panel=LLM)
    ] = False,
    ask_again: Annotated[
        bool, typer.Option("--ask-again", help="Ask again what no verdict could be read from.", rich_help_panel=LLM)
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Without it, and without --llm: the refusal detector.", rich_help_panel=SCORED),
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Its logit is higher for worse answers.", rich_help_panel=SCORED)
    ] = False,
    unsafe_below: Annotated[
        float | None, typer.Option(help="Lower scores are labelled unsafe.", rich_help_panel=SCORED)
    ] = None,
    base: Annotated[
        Strings,
        typer.Option("--base", metavar="NAME=VALUE", help="template, dtype, device, ...", rich_help_panel=SCORED),
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens of prompt and answer.", rich_help_panel=SCORED)] = LONGEST,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge a file of answers, beside a baseline's where one is given."""
    files = AnswerFiles(answers, baseline, name, baseline_name, _kind(prompts))
    budget = {"max_requests": max_requests, "max_tokens": max_tokens, "max_cost": max_cost}
    asked = {"rubrics": rubric, "orders": order, "repeats": repeats, "concurrency": concurrency}
    settings = {"base_url": base_url, "api_key_env": api_key_env, "price": price}
    flags = {"estimate": estimate or None, "ask_again": ask_again or None, "setting": setting or None}
    if llm or panel:
        if model is not None:
            raise RecipeError("one command judges in one way", where="--model", value=model, do="leave out --llm or it")
        scoring = {"cost": cost or None, "unsafe_below": unsafe_below, "base": base or None}
        _refuse(scoring | {"max_length": None if max_length == LONGEST else max_length}, "reward and cost models score")
        how = {"criterion": criterion, "ask_again": ask_again}
        given = _settings(settings, parse_options(setting, "--setting"))
        _by_llms(files, out, _panel(llm, panel, given, budget, **asked), how, estimate, shown(as_json, quiet), as_json)
        return
    named = {"rubric": rubric, "order": order, "repeats": repeats, "concurrency": concurrency}
    if model is not None or criterion is not None:
        _refuse(settings | budget | named | flags, "language models judge: --llm")
    scorer = {"model": model, "sign": -1 if cost else 1, "unsafe_below": unsafe_below, "max_length": max_length}
    _by_model(files, out, criterion, {**scorer, "base": parse_options(base, "--base")}, shown(as_json, quiet), as_json)


def _refuse(options: dict[str, Any], kind: str) -> None:
    """Refuse options of another kind of judge: they would be ignored."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None and value != []]
    if given:
        raise RecipeError(
            "this kind of judge would ignore an option",
            where=given[0],
            value=", ".join(given),
            allowed=f"only where {kind}",
            do="leave it out, or judge so",
        )


def _settings(named: JsonObject, said: JsonObject) -> JsonObject:
    """Return a language model's settings: options of their own, and those of --setting, whose null is a value."""
    given = {name: value for name, value in named.items() if value is not None}
    twice = next((name for name in said if name in given or name == "model"), None)
    if twice is not None:
        raise RecipeError(
            "one setting is said twice",
            where="--setting",
            value=f"{twice}={said[twice]}",
            do=f"leave it out: --{'llm' if twice == 'model' else twice.replace('_', '-')} says it",
        )
    return {**given, **({"price": _price(given["price"])} if "price" in given else {}), **said}


def _by_model(
    files: AnswerFiles, out: Path, criterion: str | None, scorer: JsonObject, progress: Any, as_json: bool
) -> None:
    if criterion is None:
        raise RecipeError(
            "nothing says what to judge by", where="--criterion", do="give --criterion, or --llm MODEL --rubric NAME"
        )
    if scorer["model"] is None and criterion != REFUSAL:
        raise RecipeError(
            "without a model only refusals are judged, and they would be filed as something else",
            where="--criterion",
            value=criterion,
            allowed=REFUSAL,
            do="name the model that judges, --model or --llm, or say --criterion refusal",
        )
    from sacpo import api

    kind: Literal["reward-model", "refusal"] = "reward-model" if scorer["model"] else "refusal"
    with progress:
        found = api.judge(out=out, criterion=criterion, kind=kind, progress=progress, **asdict(files), **scorer)
    print(json.dumps(found) if as_json else visible(_text(found)))


def _panel(
    llm: Sequence[str] | None, panel: Path | None, settings: JsonObject, budget: JsonObject, **said: Any
) -> PanelSpec:
    """Return the panel of a file, or of models that share endpoint and settings."""
    from sacpo.judging.llm.single import panel_of

    said["budget"] = {name: limit for name, limit in budget.items() if limit is not None}
    if panel is None:
        return panel_of([{"model": model, **settings} for model in llm or ()], **said)
    if llm or settings:
        raise RecipeError(
            "a panel's file names its judges and their settings",
            where="--panel",
            value=[*(["--llm"] if llm else []), *settings],
            do="write these into the file, or leave --panel out",
        )
    return panel_of(panel, **said)


def _by_llms(
    files: AnswerFiles, out: Path, spec: PanelSpec, how: JsonObject, estimate: bool, progress: Any, as_json: bool
) -> None:
    from sacpo.judging.llm.single import estimate_llms, judge_by_llms

    if estimate:
        for one in estimate_llms(files, out, spec, criterion=how["criterion"]):
            print(json.dumps({"event": "estimate", **one.to_json()}) if as_json else visible(one.text()))
        return
    with progress:
        found = judge_by_llms(files, out, spec, progress=progress, **how)
    if as_json:
        print(json.dumps(found))
        return
    from sacpo.cli.stats import render_stats, stats_command

    print(visible(render_stats(stats_command([out]))), end="")


def _text(found: JsonObject) -> str:
    lines = []
    for name, measures in found.items():
        lines.append(name.replace("\n", "\u240a"))
        for metric, figure in measures["metrics"].items():
            low, high = figure["ci95"]
            interval = "" if low is None else f"  [{low:.3f}, {high:.3f}]"
            lines.append(f"  {metric:28} {figure['value']:.3f}{interval}  n = {figure['n']}")
    return "\n".join(lines)


def _kind(prompts: str | None) -> str | None:
    kinds = [kind.value for kind in Kind if kind.value]
    if prompts is not None and prompts not in kinds:
        raise RecipeError("no such kind of prompt", where="--prompts", value=prompts, allowed=kinds, do="name one")
    return prompts


def _price(text: str) -> dict[str, float]:
    try:
        prompt, completion = (float(part) for part in text.split("/"))
    except ValueError:
        raise RecipeError(
            "a price is PROMPT/COMPLETION, both per million tokens",
            where="--price",
            value=text,
            do="write it as in --price 2.5/10",
        ) from None
    return {"prompt": prompt, "completion": completion}
