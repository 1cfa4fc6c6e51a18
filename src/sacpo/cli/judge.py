"""`sacpo judge` on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sacpo import api
from sacpo.cli.from_api import PAIRS, Call, command
from sacpo.cli.options import parse_options
from sacpo.errors import DataError, RecipeError
from sacpo.plain import JsonMapping, JsonObject
from sacpo.system.visible import visible

LLM = "Language models as judges"
SCORED = "Reward and cost models as judges"
REFUSAL = "refusal"
FILES = ("answers", "baseline", "name", "baseline_name", "prompts")
ASKED = ("rubrics", "orders", "repeats", "concurrency", "ask_again")
SCORES = ("model", "unsafe_below", "max_length", "base")
FLAGS = {"rubrics": "--rubric", "orders": "--order"}
Text = str | None


def _llm(help: str, *flags: str, **more: Any) -> object:
    return typer.Option(*flags, help=help, rich_help_panel=LLM, **more)


@command(api.judge, FLAGS, ("kind", "panel", "sign", "batch_size", "budget"), {LLM: ASKED, SCORED: SCORES})
def judge(
    call: Call,
    llm: Annotated[
        list[str] | None, _llm("A model's name at the endpoint; repeat it for a panel.", "--llm", metavar="MODEL")
    ] = None,
    base_url: Annotated[Text, _llm("The endpoint, such as http://localhost:8000/v1.")] = None,
    api_key_env: Annotated[Text, _llm("The variable that holds the key; '': none is needed.")] = None,
    panel: Annotated[Path | None, _llm("A YAML file with judges of several endpoints.")] = None,
    setting: Annotated[
        list[str] | None, _llm("temperature, max_tokens, requests_per_minute, ...", "--setting", metavar=PAIRS)
    ] = None,
    max_requests: Annotated[int | None, _llm("Budget of this command.")] = None,
    max_tokens: Annotated[int | None, _llm("Budget of this command.")] = None,
    max_cost: Annotated[float | None, _llm("Budget of this command; needs prices.")] = None,
    price: Annotated[Text, _llm("Per million tokens, such as 2.5/10.", metavar="PROMPT/COMPLETION")] = None,
    estimate: Annotated[bool, _llm("Only say what it would cost.", "--estimate")] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Its logit is higher for worse answers.", rich_help_panel=SCORED)
    ] = False,
) -> None:
    """Judge a file of answers, beside a baseline's where one is given."""
    budget = _given(max_requests=max_requests, max_tokens=max_tokens, max_cost=max_cost)
    settings = _given(base_url=base_url, api_key_env=api_key_env, price=price)
    if llm or panel:
        if call.options["model"] is not None:
            raise RecipeError(
                "one command judges in one way",
                where="--model",
                value=call.options["model"],
                do="leave out --llm or it",
            )
        _refuse([*call.said(*SCORES), *_given(cost=cost or None)], "reward and cost models score")
        asked = _panel(llm, panel, _settings(settings, parse_options(setting, "--setting")))
        _by_llms(call, asked, budget, estimate)
        return
    if call.said("model", "criterion"):
        own = _given(estimate=estimate or None, setting=setting or None)
        _refuse([*settings, *budget, *call.said(*ASKED), *own], "language models judge: --llm")
    _by_model(call, -1 if cost else 1)


def _given(**options: object) -> JsonObject:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(names: Sequence[str], kind: str) -> None:
    """Refuse options of another kind of judge: they would be ignored."""
    given = [FLAGS.get(name, f"--{name.replace('_', '-')}") for name in names]
    if given:
        raise RecipeError(
            "this kind of judge would ignore an option",
            where=given[0],
            value=", ".join(given),
            allowed=f"only where {kind}",
            do="leave it out, or judge so",
        )


def _settings(named: JsonMapping, said: JsonMapping) -> JsonObject:
    """Return a language model's settings: options of their own, and those of --setting, whose null is a value."""
    twice = next((name for name in said if name in named or name == "model"), None)
    if twice is not None:
        raise RecipeError(
            "one setting is said twice",
            where="--setting",
            value=f"{twice}={said[twice]}",
            do=f"leave it out: --{'llm' if twice == 'model' else twice.replace('_', '-')} says it",
        )
    return {**named, **({"price": _price(named["price"])} if "price" in named else {}), **said}


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


def _panel(llm: Sequence[str] | None, panel: Path | None, settings: JsonMapping) -> Path | list[JsonObject]:
    """Return the file of a panel, or models that share endpoint and settings."""
    if panel is None:
        return [{"model": model, **settings} for model in llm or ()]
    if llm or settings:
        raise RecipeError(
            "a panel's file names its judges and their settings",
            where="--panel",
            value=[*(["--llm"] if llm else []), *settings],
            do="write these into the file, or leave --panel out",
        )
    return panel


def _by_llms(call: Call, panel: Path | list[JsonObject], budget: JsonObject, estimate: bool) -> None:
    if estimate:
        from sacpo.pipeline.judge_single import answer_files, estimates

        given = call.options
        files = answer_files(**{name: given[name] for name in FILES})
        asked = {name: given[name] for name in ("rubrics", "orders", "repeats", "concurrency")}
        for one in estimates(files, given["out"], panel, given["criterion"], {**asked, "budget": budget}):
            print(json.dumps({"event": "estimate", **one.to_json()}) if call.as_json else visible(one.text()))
        return
    found = call(kind="llm", panel=panel, budget=budget)
    if call.as_json:
        print(json.dumps(found))
    else:
        from sacpo.cli.stats import render_stats, stats_command

        print(visible(render_stats(stats_command([call.options["out"]]))), end="")
    _require_read(call.options["out"], "see the replies in verdicts.sqlite, mend the settings, then --ask-again")


def _by_model(call: Call, sign: int) -> None:
    model, criterion = call.options["model"], call.options["criterion"]
    if criterion is None:
        raise RecipeError(
            "nothing says what to judge by", where="--criterion", do="give --criterion, or --llm MODEL --rubric NAME"
        )
    if model is None and criterion != REFUSAL:
        raise RecipeError(
            "without a model only refusals are judged, and they would be filed as something else",
            where="--criterion",
            value=criterion,
            allowed=REFUSAL,
            do="name the model that judges, --model or --llm, or say --criterion refusal",
        )
    found = call(kind="reward-model" if model else "refusal", sign=sign)
    print(json.dumps(found) if call.as_json else visible(_text(found)))
    _require_read(call.options["out"], "look at the model's scores: every one is missing or not finite")


def _require_read(out: Path | str, do: str) -> None:
    """Say that nothing a judge said could be read; its verdicts and what was paid for stay where they are.

    What an endpoint filtered is its last word: that was read, and stands in the table with its number.

    Raises:
        DataError: A judge was asked, and none of its verdicts by a criterion could be read.
    """
    from sacpo.judging.read import read_verdicts
    from sacpo.judging.verdicts import VERDICTS
    from sacpo.stats.unread import reasons_text, unread_rows

    path = Path(out) / VERDICTS
    rows = [row for row in unread_rows(dict.fromkeys(read_verdicts(path))) if row["asked"] and not row["read"]]
    rows = [row for row in rows if {*row["reasons"]} != {"filtered"}]
    if rows:
        said = [f"{row['judge']} on {row['criterion']}: {reasons_text(row['reasons'])}" for row in rows]
        raise DataError("no verdict of a judge could be read", where=path, value=said, do=do)


def _text(found: JsonObject) -> str:
    lines = []
    for name, measures in found.items():
        lines.append(name.replace("\n", "\u240a"))
        for metric, figure in measures["metrics"].items():
            low, high = figure["ci95"]
            interval = "" if low is None else f"  [{low:.3f}, {high:.3f}]"
            value = "–" if figure["value"] is None else f"{figure['value']:.3f}"
            lines.append(f"  {metric:28} {value}{interval}  n = {figure['n']}")
    return "\n".join(lines)
