"""The verbs on the command line; each is `sacpo.api`'s function of the same name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sacpo.cli.certify import certify
from sacpo.cli.closing import closing_line, training_outcome
from sacpo.cli.data import data
from sacpo.cli.judge import judge
from sacpo.cli.label import label
from sacpo.cli.new import new
from sacpo.cli.options import Json, Quiet, bound_option, parse_options, shown
from sacpo.cli.redteam import redteam
from sacpo.cli.stats.command import stats
from sacpo.errors import RecipeError
from sacpo.recipe.algorithms import ALGORITHMS
from sacpo.system.visible import visible

Out = Annotated[Path, typer.Option("--out", help="Output folder; it appears when it is complete.", show_default=False)]
Model = Annotated[str, typer.Argument(help="Hub id or folder of the model.", show_default=False)]
Data = Annotated[
    list[str], typer.Option("--data", help="File or hub id; may be given several times.", show_default=False)
]
Training = Annotated[
    list[str] | None, typer.Option("--training", metavar="NAME=VALUE", help="An option of TrainingArguments.")
]
Base = Annotated[
    list[str] | None,
    typer.Option("--base", metavar="NAME=VALUE", help="template, dtype, device, revision, trust_remote_code, ..."),
]
Lora = Annotated[list[str] | None, typer.Option("--lora", metavar="NAME=VALUE", help="Train a LoRA adapter: r=16, ...")]
Seed = Annotated[int, typer.Option("--seed", help="Root of all random numbers.")]
MaxLength = Annotated[int, typer.Option("--max-length", help="Tokens of prompt and completion together.")]
TooLong = Annotated[str, typer.Option("--too-long", help="Longer records: truncate or drop.")]
LayoutOption = Annotated[str, typer.Option("--layout", help="Rows: auto, packed (prompts once, or stop) or padded.")]


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (new, sft, align, merge, export, generate, judge, label, stats, select, certify, report):
        app.command()(verb)
    app.add_typer(data, name="data")
    app.add_typer(redteam, name="redteam")


def sft(
    model: Model,
    data: Data,
    out: Out,
    format: Annotated[str, typer.Option(help="Format of the data.")] = "demonstrations",
    training: Training = None,
    lora: Lora = None,
    base: Base = None,
    seed: Seed = 0,
    max_length: MaxLength = 512,
    too_long: TooLong = "truncate",
    layout: LayoutOption = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on demonstrations."""
    from sacpo import api

    with shown(as_json, quiet) as progress:
        done = api.sft(
            model,
            data,
            out,
            format=format,
            training=parse_options(training, "--training"),
            lora=parse_options(lora, "--lora") if lora else None,
            seed=seed,
            max_length=max_length,
            too_long=too_long,  # type: ignore[arg-type]
            layout=layout,  # type: ignore[arg-type]
            base=parse_options(base, "--base"),
            progress=progress,
        )
    _say(as_json, model=done)


def align(
    model: Model,
    data: Data,
    out: Out,
    algorithm: Annotated[str, typer.Option(help=f"{' or '.join(ALGORITHMS)}.")] = "dpo",
    beta: Annotated[float, typer.Option(help="The step's strength; for a constraint beta/lambda.")] = 0.1,
    criterion: Annotated[str, typer.Option(help="What the preferences are about.")] = "preference",
    format: Annotated[str, typer.Option(help="Format of the data.")] = "preference",
    label: Annotated[str | None, typer.Option(help="PKU-SafeRLHF: better or safer.")] = None,
    training: Training = None,
    lora: Lora = None,
    base: Base = None,
    seed: Seed = 0,
    max_length: MaxLength = 512,
    too_long: TooLong = "truncate",
    layout: LayoutOption = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one alignment step; MODEL is where it starts and its reference."""
    from sacpo import api

    with shown(as_json, quiet) as progress:
        done = api.align(
            model,
            _labelled(data, format, label),
            out,
            algorithm=algorithm,  # type: ignore[arg-type]
            beta=beta,
            criterion=criterion,
            format=format,
            training=parse_options(training, "--training"),
            lora=parse_options(lora, "--lora") if lora else None,
            seed=seed,
            max_length=max_length,
            too_long=too_long,  # type: ignore[arg-type]
            layout=layout,  # type: ignore[arg-type]
            base=parse_options(base, "--base"),
            progress=progress,
        )
    found = training_outcome(done.parent)
    _say(as_json, model=done, **({"training": found} if as_json else {}))
    if not as_json:
        print(closing_line(found))


def merge(
    first: Annotated[str, typer.Argument(help="The model at q = 0: hub id or folder.", show_default=False)],
    later: Annotated[str, typer.Argument(help="The model at q = 1.", show_default=False)],
    q: Annotated[list[float], typer.Option("--q", help="Weight of LATER; repeatable.", show_default=False)],
    out: Out,
    method: Annotated[str, typer.Option(help="linear or task-vectors.")] = "linear",
    origin: Annotated[str | None, typer.Option("--from", help="task-vectors: the model that both came from.")] = None,
    scale: Annotated[float, typer.Option(help="task-vectors: factor of the later model's change.")] = 1.0,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; LATER's by default.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Merge two models at one or several weights q (P-SACPO), in one pass over their files."""
    from sacpo import api

    with shown(as_json, quiet) as progress:
        options = {"method": method, "base": origin, "scale": scale, "dtype": dtype}
        done = api.merge(first, later, out, q=q, progress=progress, **options)  # type: ignore[arg-type]
    _say(as_json, models=done)


def export(
    model: Model,
    out: Out,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="One adapter for peft and vLLM, not merged weights.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a base with LoRA adapters as merged weights, or as one adapter of concatenated rank."""
    from sacpo import api

    with shown(as_json, quiet) as progress:
        done = api.export(model, out, adapter=adapter, progress=progress)
    _say(as_json, model=done)


def generate(
    model: Model,
    prompts: Annotated[list[str], typer.Option("--prompts", help="File or hub id of prompts.", show_default=False)],
    out: Out,
    name: Annotated[str | None, typer.Option(help="The model's name in the answers.")] = None,
    format: Annotated[str, typer.Option(help="Format of the prompts.")] = "prompts",
    samples: Annotated[int, typer.Option(help="Answers to each prompt.")] = 1,
    generation: Annotated[
        list[str] | None, typer.Option("--generation", metavar="NAME=VALUE", help="max_new_tokens, do_sample, ...")
    ] = None,
    base: Base = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer prompts with a model."""
    from sacpo import api

    with shown(as_json, quiet) as progress:
        done = api.generate(
            model,
            prompts,
            out,
            name=name,
            format=format,
            samples=samples,
            generation=parse_options(generation, "--generation"),
            seed=seed,
            base=parse_options(base, "--base"),
            progress=progress,
        )
    _say(as_json, answers=done)


def select(
    judged: Annotated[list[Path], typer.Argument(help="Folders that 'judge' wrote.", show_default=False)],
    objective: Annotated[str, typer.Option(help="METRIC/CRITERION to maximise.")] = "win_rate/helpfulness",
    at_most: Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Such as unsafe_rate=0.05.")] = None,
    at_least: Annotated[list[str] | None, typer.Option(metavar="METRIC=BOUND", help="Such as win_rate/x=0.5.")] = None,
    as_json: Json = False,
) -> None:
    """Choose the best model that meets every constraint."""
    from sacpo import api

    bounds = [bound_option(text, "at_most") for text in at_most or []] + [
        bound_option(text, "at_least") for text in at_least or []
    ]
    metric, _, criterion = objective.partition("/")
    found = api.select(judged, constraints=bounds, objective={"metric": metric, "criterion": criterion})
    if as_json:
        print(json.dumps(found))
    elif found["chosen"] is None:
        print(f"no model meets every constraint; the nearest is {visible(str(found['nearest']))}")
    else:
        print(visible(found["chosen"]))


def report(
    results: Annotated[Path, typer.Argument(help="results.json, or the folder of a finished run.", show_default=False)],
    out: Out,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the report of results.json: the page, the figures."""
    from sacpo import api

    with shown(as_json, quiet) as progress:
        done = api.report(results, out, progress=progress)
    _say(as_json, report=done)


def _labelled(data: Sequence[str], format: str, label: str | None) -> Any:
    if label is None:
        return data
    from sacpo.recipe.schema import DataSpec

    if label not in ("better", "safer"):
        raise RecipeError(
            "no such label", where="--label", value=label, allowed=["better", "safer"], do="choose one of these"
        )
    return [DataSpec(format=format, path=path, label=label) for path in data]


def _say(as_json: bool, **paths: Any) -> None:
    if as_json:
        print(json.dumps({"event": "done", **paths}, default=str))
        return
    for name, value in paths.items():
        for path in value if isinstance(value, list) else [value]:
            print(f"{name.removesuffix('s') if isinstance(value, list) else name}: {path}")
