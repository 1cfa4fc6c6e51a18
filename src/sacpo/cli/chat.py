"""`sacpo chat` on the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sacpo.cli.options import parse_options
from sacpo.errors import RecipeError
from sacpo.plain import JsonObject


def chat(
    models: Annotated[
        list[str],
        typer.Argument(metavar="RUN | MODEL...", help="A run's folder, or one or two models.", show_default=False),
    ],
    between: Annotated[
        tuple[str, str] | None,
        typer.Option("--between", metavar="A B", help="Of a run: the path between two of its trained models."),
    ] = None,
    q: Annotated[float | None, typer.Option("--q", help="Where on the path to begin; 1 is the later model.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="linear (weights) or token-level (logits; two models in memory).")
    ] = None,
    beside: Annotated[
        str | None, typer.Option("--beside", help="Whose answer stands beside; of a run its SFT model by default.")
    ] = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Talk here, without a page.")] = False,
    ask_llm: Annotated[bool, typer.Option("--ask-llm", help="Ask the run's language models that judge too.")] = False,
    base: Annotated[
        list[str] | None, typer.Option("--base", metavar="NAME=VALUE", help="Of models: template, dtype, device, ...")
    ] = None,
    generation: Annotated[
        list[str] | None,
        typer.Option("--generation", metavar="NAME=VALUE", help="Of models: max_new_tokens, do_sample, ..."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="A name of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 0,
) -> None:
    """Talk to a model, or to any model of a path: a local page with a slider, or the terminal."""
    from sacpo.chat import is_run, setting_of_models, setting_of_run

    options: dict[str, Any] = {"q": q, "beside": beside}
    if len(models) == 1 and is_run(models[0]):
        _unused({"--base": base, "--generation": generation}, "the run's recipe says it")
        setting = setting_of_run(models[0], between=between, method=method, ask_llm=ask_llm, **options)  # type: ignore[arg-type]
    else:
        _unused({"--between": between, "--ask-llm": ask_llm or None}, f"'{models[0]}' is no run's folder")
        setting = setting_of_models(
            models,
            method=method or "linear",  # type: ignore[arg-type]
            base=parse_options(base, "--base"),
            generation=parse_options(generation, "--generation"),
            **options,
        )
    if terminal:
        from sacpo.chat.terminal import talk_here

        talk_here(setting)
        return
    from sacpo.chat.server import serve

    serve(setting, host=host, port=port)


def _unused(given: JsonObject, why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise RecipeError(f"'{name}' has no effect here: {why}", where=name, value=value, do="leave it out")
