"""What the SFT model knows of texts, and of a step's samples once: some of them are learned from, all are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sacpo.answer.batches import shared_layout
from sacpo.answer.traits import LOGP, completion_traits, likeliest_first_tokens
from sacpo.data.answers import ANSWERS
from sacpo.data.packing import Tree
from sacpo.data.records import Answer, Prompt, read_jsonl, write_jsonl
from sacpo.data.tokenize import text_trees
from sacpo.errors import DataError
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.stage import UNSAID, Stage
from sacpo.pipeline.stages.samples import Samples
from sacpo.pipeline.tools import Tools
from sacpo.recipe.schema import BaseSpec
from sacpo.system.files import read_json, write_json
from sacpo.theory.preference_process import Traits

OF_ANSWERS, OF_PROMPTS, FACTS = "answers.npy", "prompts.npy", "traits.json"
CHUNK = 1024
"""Answers whose traits are in memory at a time."""
Text = tuple[Prompt, str]


@dataclass(frozen=True)
class Reader:
    """Reads traits of texts with a model.

    Attributes:
        model: The SFT model, whose states and probabilities are the traits.
        base: Template, dtype, device of the model.
        max_length: A text is cut there, behind its prompt; one whose prompt leaves no room has no traits.
        bounds: Those by which it tells more finely how surprising tokens are; (): it does not.
    """

    model: Checkpoint
    base: BaseSpec
    max_length: int
    bounds: tuple[float, ...] = field(default=(), metadata=UNSAID)

    def trees(self, texts: Sequence[Text], tools: Tools) -> dict[Text, Tree]:
        """Return the texts' tokens, each text once, those of a prompt one after another."""
        each = [*dict.fromkeys(texts)]
        trees = text_trees(each, *tools.tokenizer(self.model, self.base), self.max_length)
        return {each[place]: trees[place] for place in sorted(trees, key=lambda place: trees[place].prompt)}

    def traits(
        self, trees: Mapping[Text, Tree], first: Sequence[int], tools: Tools
    ) -> Iterator[tuple[list[Text], Traits]]:
        """Yield the traits of some texts after others; all answers to a prompt have the same of the prompt.

        The rows of a prompt's answers differ by rounding: the first one counts, since it decides the prompt's kind.
        """
        tokenizer, _ = tools.tokenizer(self.model, self.base)
        model = tools.load(self.model, self.base)
        layout = shared_layout(model, tokenizer, [*trees.values()])
        texts = [*trees]
        last: tuple[object, Any] = (None, None)
        for start in range(0, len(texts), CHUNK):
            some = texts[start : start + CHUNK]
            own = [trees[text] for text in some]
            traits = completion_traits(
                model, tokenizer, own, first, layout=layout, bounds=self.bounds, progress=tools.progress
            )
            rows = []
            for tree, row in zip(own, traits.prompts, strict=True):
                last = last if tree.prompt == last[0] else (tree.prompt, row)
                rows.append(last[1])
            yield some, Traits(traits.answers, np.stack(rows))


@dataclass(frozen=True)
class Known:
    """Traits of a step's samples.

    Attributes:
        first_tokens: The tokens whose probabilities are a prompt's traits.
        answers: Shape: (texts, traits), as the model computed them.
        prompts: Shape: (prompts, tokens).
        tokens: Each prompt's tokens.
        places: Each text's row in `answers`, and its prompt's in `prompts`.
    """

    first_tokens: list[int]
    answers: npt.NDArray[np.float32]
    prompts: npt.NDArray[np.float32]
    tokens: list[tuple[int, ...]]
    places: Mapping[Text, tuple[int, int]]

    def of(self, texts: Sequence[Text]) -> Traits:
        """Return the traits of some of the texts."""
        rows, prompts = zip(*(self.places[text] for text in texts), strict=True)
        return Traits(self.answers[[*rows]].astype(float), self.prompts[[*prompts]].astype(float))

    def logps(self) -> dict[Text, float]:
        """Return the texts' log-probs, in nats."""
        column = self.answers[:, LOGP].tolist()
        return {text: column[row] for text, (row, _) in self.places.items()}


@dataclass(frozen=True)
class SampleTraits(Stage[Known]):
    """Traits of a step's samples, each text once.

    Attributes:
        title: The stage's name behind `traits/`.
        samples: The samples.
        reader: Reads them.
    """

    title: str
    samples: Samples
    reader: Reader

    @property
    def name(self) -> str:
        """`traits/STEP`."""
        return f"traits/{self.title}"

    def work(self, out: Path, tools: Tools) -> None:
        """Read and write down."""
        answers = tools.read(self.samples).answers
        trees = self.reader.trees([(answer.prompt, answer.text) for answer in answers], tools)
        if not trees:
            raise DataError(
                "no prompt of the samples leaves room for an answer within max_length",
                where=self.name,
                value=f"max_length {self.reader.max_length}",
                do="raise max_length of the step, or give shorter prompts",
            )
        tokenizer, _ = tools.tokenizer(self.reader.model, self.reader.base)
        of = {(answer.prompt, answer.text): answer for answer in answers}
        starts = {trees[text].prompt: trees[text] for text in of if text in trees}  # in the samples' order
        model = tools.load(self.reader.model, self.reader.base)
        first = likeliest_first_tokens(model, tokenizer, [*starts.values()])
        numbers = {tokens: number for number, tokens in enumerate(starts)}
        prompts = [numbers[tree.prompt] for tree in trees.values()]
        place = 0
        of_prompts = np.zeros((len(starts), len(first)), np.float32)
        with (out / OF_ANSWERS).open("wb") as file:  # no map of it: on a full disk that kills without a word
            for some, traits in self.reader.traits(trees, first, tools):
                if not place:
                    write_header(file, (len(trees), traits.answers.shape[1]))
                file.write(traits.answers.astype(np.float32).tobytes())
                of_prompts[prompts[place : place + len(some)]] = traits.prompts
                place += len(some)
        np.save(out / OF_PROMPTS, of_prompts)
        write_jsonl(out / ANSWERS, [of[text] for text in trees])
        write_json(out / FACTS, {"first_tokens": first, "tokens": [[*tokens] for tokens in starts], "prompts": prompts})

    def read(self, folder: Path) -> Known:
        """Return the traits."""
        facts = read_json(folder / FACTS)
        texts = [(answer.prompt, answer.text) for answer in read_jsonl(folder / ANSWERS, Answer)]
        return Known(
            first_tokens=facts["first_tokens"],
            answers=np.load(folder / OF_ANSWERS, mmap_mode="r"),
            prompts=np.load(folder / OF_PROMPTS),
            tokens=[tuple(tokens) for tokens in facts["tokens"]],
            places={
                text: (row, prompt) for row, (text, prompt) in enumerate(zip(texts, facts["prompts"], strict=True))
            },
        )


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write what stands before the values of a table in the format of `np.save`, whose rows then follow as bytes."""
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
