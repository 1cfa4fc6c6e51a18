"""vLLM as the generator, with a stand-in that decodes as transformers does: what it is asked, what comes of it."""

from __future__ import annotations

import importlib.machinery
import random
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from answer_toys import tiny_model, tiny_tokenizer

from sacpo import api
from sacpo.answer import vllm
from sacpo.answer.decoding import Row, Sampling, decode
from sacpo.answer.generate import generate_answers
from sacpo.data.records import Answer, Prompt, read_jsonl
from sacpo.data.templates import make_template
from sacpo.errors import MachineError
from sacpo.merge.source import Checkpoint
from sacpo.models.loading import load_model, save_model
from sacpo.pipeline.stages.pairs import Pairs
from sacpo.pipeline.stages.samples import Samples
from sacpo.recipe.schema import BaseSpec, GenerationSpec, SampledSpec
from sacpo.system.progress import QUIET

TOKENIZER = tiny_tokenizer()
PROMPTS = [Prompt.from_text(" ".join(f"w{(7 * i + j) % 30}" for j in range(1 + i % 7))) for i in range(12)]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class FakeLLM:
    """Greedy decoding by transformers; like vLLM it may leave the end token out and name it as the reason."""

    made: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[tuple[list[Any], list[Any]]]] = []

    def __init__(self, **options: Any) -> None:
        self.made.append(options)
        self.model = load_model(options["model"])

    def generate(self, prompts: list[Any], parameters: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked.append((prompts, parameters))
        return [
            self.answer(prompt["prompt_token_ids"], asked) for prompt, asked in zip(prompts, parameters, strict=True)
        ]

    def answer(self, prompt: list[int], asked: Any) -> Any:
        ends = frozenset(asked.stop_token_ids)
        (tokens,) = decode(self.model, [Row(prompt, asked.max_tokens)], Sampling(), end_ids=ends, pad_id=0)
        ended = tokens[-1] in ends
        kept = tokens[:-1] if ended and len(prompt) % 2 else tokens
        reason = tokens[-1] if ended else None
        output = types.SimpleNamespace(
            token_ids=tuple(kept), finish_reason="stop" if ended else "length", stop_reason=reason
        )
        return types.SimpleNamespace(outputs=[output])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> type[FakeLLM]:
    module: Any = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = FakeLLM, types.SimpleNamespace
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(FakeLLM, "made", [])
    monkeypatch.setattr(FakeLLM, "asked", [])
    return FakeLLM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vllm") / "model"
    save_model(tiny_model(TOKENIZER), TOKENIZER, place)
    return place


answers = partial(
    generate_answers, tokenizer=TOKENIZER, prompts=PROMPTS, template=make_template("plain", TOKENIZER), seed=5
)


def test_records_and_flags_are_those_of_transformers(installed: type[FakeLLM], folder: Path) -> None:
    spec = GenerationSpec(max_new_tokens=24, batch_size=4)
    expected = answers(load_model(folder), spec=spec, model_name="m")
    assert {answer.truncated for answer in expected} == {True, False}
    assert answers(vllm.VllmModel(folder), spec=spec, model_name="m") == expected
    ((prompts, parameters),) = installed.asked
    assert [prompt["prompt_token_ids"] for prompt in prompts] == [
        TOKENIZER(prompt.messages[0].content)["input_ids"] for prompt in PROMPTS
    ]
    assert vars(parameters[0]) == {
        "max_tokens": 24,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": None,
        "stop_token_ids": [TOKENIZER.eos_token_id],
        "ignore_eos": True,
        "detokenize": False,
    }
    assert installed.made == [
        {
            "model": str(folder),
            "dtype": "auto",
            "generation_config": "vllm",
            "revision": None,
            "trust_remote_code": False,
        }
    ]


def test_sampling_is_seeded_for_every_answer(installed: type[FakeLLM], folder: Path) -> None:
    spec = GenerationSpec(max_new_tokens=4, do_sample=True, temperature=0.7, top_p=0.9)
    for _ in range(2):
        answers(vllm.VllmModel(folder), spec=spec, model_name="m", samples=2)
    first, again = ([asked.seed for asked in parameters] for _, parameters in installed.asked)
    assert first == again and len(set(first)) == 2 * len(PROMPTS)
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in first)
    assert {(asked.temperature, asked.top_p) for asked in installed.asked[0][1]} == {(0.7, 0.9)}


def test_auto_takes_vllm_on_cuda_where_it_is_installed(installed: type[FakeLLM]) -> None:
    assert [vllm.uses_vllm(engine, CUDA) for engine in ("auto", "transformers", "vllm")] == [True, False, True]
    assert [vllm.uses_vllm(engine, CPU) for engine in ("auto", "transformers", "vllm")] == [False, False, True]


def test_vllm_is_not_one_of_several_processes(installed: type[FakeLLM], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not vllm.uses_vllm("auto", CUDA)
    with pytest.raises(MachineError, match="without a launcher"):
        vllm.uses_vllm("vllm", CUDA)


def test_without_vllm_auto_is_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: None)
    assert not vllm.uses_vllm("auto", CUDA)
    with pytest.raises(MachineError, match=r"pip install 'sacpo\[vllm\]'"):
        vllm.uses_vllm("vllm", CUDA)


def test_the_verb_uses_it_and_gives_its_memory_back(
    installed: type[FakeLLM], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[vllm.VllmModel] = []
    monkeypatch.setattr(vllm.VllmModel, "close", lambda model: closed.append(model))
    asked = tmp_path / "prompts.jsonl"
    asked.write_text("".join(f'{{"prompt": "w{i} w3"}}\n' for i in range(3)))
    base = {"template": "plain", "device": "cpu"}
    found = [
        read_jsonl(
            api.generate(
                folder,
                asked,
                tmp_path / engine,
                name="m",
                base=base,
                generation={"engine": engine, "max_new_tokens": 8},
            ),
            Answer,
        )
        for engine in ("vllm", "transformers")
    ]
    assert found[0] == found[1] and len(installed.made) == len(closed) == 1


class OneModel:
    """Tools with one model that is never loaded, and prompts of a data source."""

    progress = QUIET
    train: ClassVar[list[Prompt]] = PROMPTS[:3]
    heldout: ClassVar[list[Prompt]] = []

    def tokenizer(self, model: Any, base: Any) -> Any:
        return TOKENIZER, make_template("plain", TOKENIZER)

    def place(self, model: Checkpoint) -> Checkpoint:
        return model

    def read(self, source: Any) -> Any:
        return self


def test_samples_that_a_step_learns_from_are_vllm_s(installed: type[FakeLLM], folder: Path, tmp_path: Path) -> None:
    """A bank's samples, and both answers of pairs: no other model is loaded, and each is asked at temperature 1."""
    tools, model, base = cast(Any, OneModel()), Checkpoint(folder), BaseSpec(model=str(folder), device="cpu")
    bank = Samples("T", model, (("sft", model, 2),), (cast(Any, "prompts"),), 6, base, (3,), engine="vllm")
    bank.work(tmp_path / "bank", tools)
    assert len(bank.read(tmp_path / "bank").answers) == 6
    spec = SampledSpec(prompts="p", judge="j", max_new_tokens=6, temperature=0.5)
    models = {"sft": ("sft", model)}
    seeds = {"": 0, "sft": 1}
    pairs = Pairs("T", spec, (), "pairs", seeds, cast(Any, "prompts"), models, model, base, engine="vllm")
    drawn = pairs.drawn(PROMPTS[:3], seeds, random.Random(0), tmp_path / "pairs", tools)
    assert [one.prompt for one, _ in drawn] == PROMPTS[:3]
    assert len(installed.made) == 2
    assert [asked.temperature for _, parameters in installed.asked for asked in parameters] == [1.0] * 6 + [0.5] * 6
