"""vLLM as the generator: the same requests, records and flags as with transformers, on a GPU.

Prompts go in as tokens and answers come out as tokens, so the template, the end tokens and the limits are this
package's. The tokens themselves agree with those of transformers as far as the kernels do; sampled ones follow from
vLLM's own random numbers, seeded for each answer from the run's seed, the prompt and the sample's number.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from sacpo.answer.decoding import Row, Sampling
from sacpo.errors import MachineError
from sacpo.system import processes

ROWS_AT_ONCE = 4096
"""Requests given to vLLM together: it does its own batching, and finished ones are kept on the disk after each."""


def uses_vllm(engine: str, device: torch.device) -> bool:
    """Tell whether answers come from vLLM: "auto" takes it where it is installed and the device is a CUDA GPU.

    Raises:
        MachineError: "vllm" is asked for and not installed, or several processes were launched.
    """
    several = processes.launched() > 1  # vLLM would take them for its own
    if engine == "transformers" or (several and engine == "auto"):
        return False
    if several:
        raise MachineError(
            "vLLM starts processes of its own and cannot be one of several",
            where="evaluate.generation.engine",
            value=engine,
            do="set engine: auto, or generate without a launcher",
        )
    installed = importlib.util.find_spec("vllm") is not None
    if engine == "vllm" and not installed:
        raise MachineError(
            "vLLM is not installed",
            where="evaluate.generation.engine",
            value=engine,
            do="pip install 'sacpo[vllm]', or set engine: auto",
        )
    return installed and (engine == "vllm" or device.type == "cuda")


class VllmModel:
    """A model that vLLM decodes from; it stands where `generate_answers` takes a model.

    Args:
        path: Hub id or folder with weights and tokenizer.
        dtype: Of the weights, "auto" for the checkpoint's own.
        revision: Hub revision.
        trust_remote_code: Consent to the model's own code.
    """

    training = False

    def __init__(
        self, path: str | Path, *, dtype: str = "auto", revision: str | None = None, trust_remote_code: bool = False
    ) -> None:
        from vllm import LLM

        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        self.config = AutoConfig.from_pretrained(path, **options)
        try:
            self.generation_config = GenerationConfig.from_pretrained(path, revision=revision or "main")
        except OSError:  # a folder may have none
            self.generation_config = GenerationConfig.from_model_config(self.config)
        # "vllm" keeps the model's own generation_config out: how to decode is the recipe's to say
        self.engine: Any = LLM(model=str(path), dtype=dtype, generation_config="vllm", **options)

    def eval(self) -> VllmModel:
        """Return itself: it is always in evaluation mode."""
        return self

    def train(self, mode: bool = True) -> VllmModel:
        """Return itself."""
        return self

    def decode(
        self, rows: Sequence[Row], sampling: Sampling, *, end_ids: frozenset[int], pad_id: int
    ) -> list[list[int]]:
        """Continue every row; see `sacpo.answer.decoding.decode`."""
        from vllm import SamplingParams

        asked = [{"prompt_token_ids": list(row.prompt)} for row in rows]
        parameters = [
            SamplingParams(
                max_tokens=row.limit,
                temperature=sampling.temperature if sampling.do_sample else 0.0,
                top_p=sampling.top_p if sampling.do_sample else 1.0,
                seed=None if row.uniforms is None else int(row.uniforms[0] * 2**31),
                stop_token_ids=sorted(end_ids),
                ignore_eos=True,  # the end tokens are those listed, the tokenizer's own among them
                detokenize=False,
            )
            for row in rows
        ]
        found = self.engine.generate(asked, parameters, use_tqdm=False)
        return [_tokens(request.outputs[0]) for request in found]

    def close(self) -> None:
        """Give the GPU's memory back."""
        self.engine = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _tokens(output: Any) -> list[int]:
    """Return an answer's tokens with the end token that it stopped at."""
    tokens = list(output.token_ids)
    if output.finish_reason == "stop" and isinstance(output.stop_reason, int) and tokens[-1:] != [output.stop_reason]:
        tokens.append(output.stop_reason)
    return tokens
