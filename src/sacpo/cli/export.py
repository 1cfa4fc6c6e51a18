"""`sacpo export` on the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from sacpo import api
from sacpo.cli.from_api import Call, command

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank."""


@command(api.export)
def export(call: Call) -> None:
    """Write a base with LoRA adapters as merged weights, or as one adapter of concatenated rank."""
    done = call()
    call.say(model=done)
    if call.options["adapter"] and not call.as_json:
        print(f"serve it with vLLM: {serving_line(done)}")


def serving_line(adapter: Path) -> str:
    """Return the command by which vLLM serves an adapter beside its base, under the name of the adapter's folder."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    rank = next((one for one in RANKS if one >= config["r"]), config["r"])
    words = ("vllm", "serve", config["base_model_name_or_path"], "--enable-lora", "--max-lora-rank", str(rank))
    return shlex.join([*words, "--lora-modules", f"{adapter.absolute().name}={adapter}"])
