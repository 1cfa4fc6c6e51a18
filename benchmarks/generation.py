"""Answers beside transformers' `generate`: CPU seconds of one thread, both sides in turn in one process.

    python -m benchmarks.generation RUN/stages [--prompts 900] [--samples 8] [--batch 256] [--pairs 3]
    python -m benchmarks.generation RUN/stages --path align/S@0.297 --models 21 --prompts 540

Of a finished run of a world: its model H answers the prompts that its SFT model answered while tuning. Greedy answers,
which must be the same tokens, then sampled ones, then several samples of a seventh of the prompts. Both sides have the
prompts' tokens, padded on the left, as many rows at a time, and 40 new tokens. Ours has the texts, too.

With `--path` each of so many models between H and another one answers all prompts, by mixed weights q = 0 to 1: both
sides make one model after the other in memory that is there, from the files or from both models' tensors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import machine, ratios
from sacpo.answer.generate import generate_answers
from sacpo.data.ends import end_tokens
from sacpo.data.records import Answer, read_jsonl
from sacpo.data.tokenize import tokenize_prompts
from sacpo.merge.moving import open_moving
from sacpo.merge.source import Checkpoint, Merge
from sacpo.models.loading import load_model
from sacpo.models.template import tokenizer_and_template
from sacpo.recipe.schema import BaseSpec, GenerationSpec

NEW_TOKENS = 40


class Sides:
    """Both ways to answer the same prompts with the same model."""

    def __init__(self, stages: Path, n: int, batch: int) -> None:
        place = stages / "align" / "H" / "model"
        base = BaseSpec(model=str(place), template="chat", device="cpu")
        self.tokenizer, self.template = tokenizer_and_template(place, None, base)
        self.model: Any = load_model(place)
        answers = read_jsonl(stages / "generate" / "sft" / "tuning" / "answers.jsonl", Answer)
        self.prompts = [answer.prompt for answer in answers[:n]]
        self.ends, self.batch = end_tokens(self.model, self.template), batch

    def ours(self, n: int, sample: bool, samples: int) -> list[tuple[int, ...]]:
        """Answer the first prompts with this package; return the tokens."""
        spec = GenerationSpec(max_new_tokens=NEW_TOKENS, do_sample=sample, batch_size=self.batch)
        options: dict[str, Any] = {"model_name": "H", "seed": 0, "samples": samples}
        found = generate_answers(self.model, self.tokenizer, self.prompts[:n], self.template, spec, **options)
        return [answer.tokens for answer in found]

    def theirs(self, n: int, sample: bool, samples: int) -> list[tuple[int, ...]]:
        """Answer them with transformers."""
        found = []
        pad, each = self.tokenizer.pad_token_id, max(1, self.batch // samples)
        known = tokenize_prompts(self.prompts[:n], self.template, self.tokenizer)
        asked = [known[prompt] for prompt in self.prompts[:n]]
        for start in range(0, len(asked), each):
            rows = asked[start : start + each]
            width = max(map(len, rows))
            ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            options: dict[str, Any] = {"do_sample": False}
            if sample:
                options = {"do_sample": True, "num_return_sequences": samples, "top_k": 0}
            made = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=NEW_TOKENS,
                eos_token_id=sorted(self.ends),
                pad_token_id=pad,
                **options,
            )
            found += [self._cut(row[width:].tolist()) for row in made]
        return found

    def _cut(self, tokens: list[int]) -> tuple[int, ...]:
        end = next((place + 1 for place, token in enumerate(tokens) if token in self.ends), len(tokens))
        return tuple(tokens[:end])


class PathSides:
    """Both ways to answer the same prompts with every model between two."""

    def __init__(self, sides: Sides, stages: Path, later: str, n: int) -> None:
        ends = (Checkpoint(stages / "align" / "H" / "model"), Checkpoint(stages / later / "model"))
        self.sides, self.weights = sides, [place / (n - 1) for place in range(n)]
        self.moving = open_moving(Merge("linear", ends, (0.5, 0.5)))
        self.ends = [{k: v.clone() for k, v in load_model(end.place).state_dict().items()} for end in ends]

    def ours(self, n: int, sample: bool, samples: int) -> list[tuple[int, ...]]:
        """Answer with this package; return the tokens."""
        found = []
        for q in self.weights:
            self.sides.model = self.moving.at(q)
            found += self.sides.ours(n, sample, samples)
        return found

    def theirs(self, n: int, sample: bool, samples: int) -> list[tuple[int, ...]]:
        """Answer with transformers."""
        found = []
        for q in self.weights:
            first, later = self.ends
            self.sides.model.load_state_dict({k: torch.lerp(v, later[k], q) for k, v in first.items()})
            found += self.sides.theirs(n, sample, samples)
        return found


def seconds(work: Callable[..., Sequence[Any]], *arguments: Any) -> tuple[float, Sequence[Any]]:
    """Return the CPU seconds of a piece of work, and what it gave."""
    start = time.process_time()
    found = work(*arguments)
    return time.process_time() - start, found


def main() -> None:
    """Measure, and print a line for greedy answers, for samples, and for several samples of a prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stages", type=Path)
    parser.add_argument("--path", metavar="STAGE", help="the later end of a path that begins at H")
    for name, default in (("prompts", 900), ("samples", 8), ("batch", 256), ("pairs", 3), ("models", 21)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sides: Sides | PathSides = Sides(options.stages, options.prompts, options.batch)
    if options.path:
        sides = PathSides(sides, options.stages, options.path, options.models)
    print(machine(), flush=True)
    cases = {
        "greedy": (options.prompts, False, 1),
        "sampled": (options.prompts, True, 1),
        f"{options.samples} samples": (options.prompts // 7, True, options.samples),
    }
    for name, case in cases.items():
        sides.ours(8, *case[1:]), sides.theirs(8, *case[1:])  # warm
        ours, theirs, tokens, same = [], [], 0, 0
        for _ in range(options.pairs):
            (own, answers), (other, others) = seconds(sides.ours, *case), seconds(sides.theirs, *case)
            ours.append(1 / own)
            theirs.append(1 / other)
            tokens, same = sum(map(len, answers)), sum(a == b for a, b in zip(answers, others, strict=True))
        said = f", {same} of {len(answers)} the same" if name == "greedy" else ""
        took = f"{1 / max(ours):.2f} s of CPU, {max(ours) * tokens:,.0f} tokens/s, theirs {1 / max(theirs):.2f} s"
        print(f"{name}: {took}; {ratios(ours, theirs)}{said}", flush=True)


if __name__ == "__main__":
    main()
