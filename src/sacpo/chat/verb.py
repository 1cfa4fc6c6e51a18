"""`chat` as `sacpo.api` has it; what talks is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sacpo.errors import RecipeError
from sacpo.plain import JsonMapping


def chat(
    models: Sequence[str | Path],
    *,
    between: tuple[str, str] | None = None,
    q: float | None = None,
    method: Literal["linear", "token-level"] | None = None,
    beside: str | None = None,
    terminal: bool = False,
    ask_llm: bool = False,
    base: JsonMapping | None = None,
    generation: JsonMapping | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> None:
    """Talk to a model, or to any model of a path, until it is interrupted: on a local page, or in the terminal.

    Args:
        models: A run's folder, or one or two models.
        between: Of a run: the path between two of its trained models.
        q: Where on the path to begin; 1 is the later model.
        method: linear (weights) or token-level (logits; two models in memory).
        beside: Whose answer stands beside; of a run its SFT model by default.
        terminal: Talk here, without a page.
        ask_llm: Ask the run's language models that judge too, which may cost.
        base: Of models: template, dtype, device, ...
        generation: Of models: max_new_tokens, do_sample, ...
        host: A name of this machine.
        port: 0: any free one.

    Raises:
        UserError: A model cannot be loaded, an option has no effect, or the port cannot be had.
    """
    from sacpo.chat import is_run, setting_of_models, setting_of_run

    names = [str(model) for model in models]
    if len(names) == 1 and is_run(names[0]):
        _unused({"--base": base, "--generation": generation}, "the run's recipe says it")
        setting = setting_of_run(names[0], between=between, q=q, method=method, beside=beside, ask_llm=ask_llm)
    else:
        _unused({"--between": between, "--ask-llm": ask_llm or None}, f"'{names[0]}' is no run's folder")
        way = method or "linear"
        setting = setting_of_models(names, q=q, method=way, beside=beside, base=base, generation=generation)
    if terminal:
        from sacpo.chat.terminal import talk_here

        talk_here(setting)
        return
    from sacpo.chat.server import serve

    serve(setting, host=host, port=port)


def _unused(given: JsonMapping, why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise RecipeError(f"'{name}' has no effect here: {why}", where=name, value=value, do="leave it out")
