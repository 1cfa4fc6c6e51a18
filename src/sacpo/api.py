"""The stages as functions, each on files and folders of its own: enter anywhere, with any model.

Every function writes a folder that appears when it is complete; the same call again keeps it, or resumes what a
killed process left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sacpo.align.job import TrainingJob
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.answer.generate import ANSWERS, generate_answers
from sacpo.answer.vllm import VllmModel, uses_vllm
from sacpo.data.prepare import prepare
from sacpo.data.records import Prompt
from sacpo.data.sources import read_source, source_key
from sacpo.data.templates import make_template
from sacpo.errors import DataError, RecipeError, RunError
from sacpo.models.adapters.stack import stack_of
from sacpo.models.loading import resolve_device
from sacpo.pipeline.judge_single import judge
from sacpo.pipeline.merge_single import export, merge
from sacpo.pipeline.select_single import select
from sacpo.pipeline.single import do_single
from sacpo.recipe.explain import checked
from sacpo.recipe.safe import json_value
from sacpo.recipe.schema import (
    BaseSpec,
    DataSpec,
    GenerationSpec,
    LoraSpec,
    SftSpec,
    StepSpec,
    TrainingSpec,
)
from sacpo.report.build import build_report
from sacpo.system import processes
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import content_key

__all__ = ["align", "export", "generate", "judge", "merge", "report", "select", "sft"]

Data = str | Path | DataSpec | Sequence[str | Path | DataSpec]
"""Sources of records: files, hub ids, or descriptions as in a recipe."""


def sft(
    model: str | Path,
    data: Data,
    out: str | Path,
    *,
    format: str = "demonstrations",
    training: Mapping[str, Any] | None = None,
    lora: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_length: int = 512,
    too_long: Literal["drop", "truncate"] = "truncate",
    layout: Literal["auto", "packed", "padded"] = "auto",
    base: Mapping[str, Any] | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Fine-tune a model on demonstrations and return the new model's folder.

    Args:
        model: Hub id or folder.
        data: Demonstrations.
        out: The output folder: `model/`, `metrics.jsonl`, `summary.json`. With plain LoRA `model/` is the adapter.
        format: The format of sources that are given by path or id.
        training: Options under the names of `transformers.TrainingArguments`.
        lora: Options of peft's LoRA; None: all weights are trained.
        seed: The root of all random numbers.
        max_length: Tokens of prompt and completion together.
        too_long: What is done with longer records.
        layout: "packed" computes each prompt once or stops, "padded" takes one completion a row, "auto" decides.
        base: More about the model: template, dtype, device, revision, trust_remote_code, attn_implementation,
            quantization.
        progress: Where to show it.

    Raises:
        UserError: The data, the model, an option or the machine does not allow it.
    """
    sources = _sources(data, format, "demonstrations")
    job = _job("sft", model, base, training, lora, seed, max_length, too_long, out)

    def work(folder: Path) -> None:
        run_sft(job, _records(sources, seed), folder, layout=layout, progress=progress)

    layout = checked(SftSpec, dataset="data", layout=layout).layout
    config = {**_config(job, sources), "layout": layout, **processes.part_of_key()}
    return do_single("sft", Path(out), config, _inputs(job, sources), work, progress, shared=True).path / "model"


def align(
    model: str | Path,
    data: Data,
    out: str | Path,
    *,
    algorithm: Literal["dpo", "kto"] = "dpo",
    beta: float = 0.1,
    criterion: str = "preference",
    format: str = "preference",
    soft_labels: bool = True,
    desirable_weight: float | Literal["balanced"] = 1.0,
    undesirable_weight: float | Literal["balanced"] = 1.0,
    training: Mapping[str, Any] | None = None,
    lora: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_length: int = 512,
    too_long: Literal["drop", "truncate"] = "truncate",
    layout: Literal["auto", "packed", "padded"] = "auto",
    base: Mapping[str, Any] | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Train one alignment step, whose reference is `model`, and return the new model's folder.

    Args:
        model: Hub id or folder, of weights or of adapters: the initial policy and the reference.
        data: Pairs; for KTO also labelled completions.
        out: The output folder: `model/`, `metrics.jsonl`, `summary.json`. With plain LoRA `model/` holds the adapters
            and names their base; `export` writes merged weights.
        algorithm: "dpo" or "kto".
        beta: The step's strength; for a constraint's criterion the paper's beta/lambda.
        criterion: What the preferences are about, for the records.
        format: The format of sources that are given by path or id.
        soft_labels: DPO: use preference probabilities; false rounds them.
        desirable_weight: KTO's w+.
        undesirable_weight: KTO's w-; "balanced" makes w- n- = w+ n+.
        training: Options under the names of `transformers.TrainingArguments`.
        lora: Options of peft's LoRA; None: all weights are trained.
        seed: The root of all random numbers.
        max_length: Tokens of prompt and completion together.
        too_long: What is done with longer records.
        layout: "packed" computes each prompt once or stops, "padded" takes one completion a row, "auto" decides.
        base: More about the model: template, dtype, device, revision, trust_remote_code, attn_implementation,
            quantization.
        progress: Where to show it.

    Raises:
        UserError: The data, the model, an option or the machine does not allow it.
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
    """
    sources = _sources(data, format, None)
    job = _job("align", model, base, training, lora, seed, max_length, too_long, out)
    step = checked(
        StepSpec,
        name="align",
        criterion=criterion,
        algorithm=algorithm,
        dataset="data",
        beta=beta,
        soft_labels=soft_labels,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
        layout=layout,
    )

    def work(folder: Path) -> None:
        run_align(job, step, beta, _records(sources, seed), folder, folder / "cache", progress=progress)

    config = {**_config(job, sources), "step": step.model_dump(mode="json"), **processes.part_of_key()}
    return do_single("align", Path(out), config, _inputs(job, sources), work, progress, shared=True).path / "model"


def generate(
    model: str | Path,
    prompts: Data,
    out: str | Path,
    *,
    name: str | None = None,
    format: str = "prompts",
    samples: int = 1,
    generation: Mapping[str, Any] | None = None,
    seed: int = 0,
    base: Mapping[str, Any] | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Answer prompts and return the file of answers.

    Args:
        model: Hub id or folder.
        prompts: Prompts.
        out: The output folder: `answers.jsonl`.
        name: The model's name in the answers; its path by default.
        format: The format of sources that are given by path or id.
        samples: Answers to each prompt.
        generation: max_new_tokens, do_sample, temperature, top_p, batch_size, engine.
        seed: The root of all random numbers.
        base: More about the model: template, dtype, device, revision, trust_remote_code, attn_implementation,
            quantization.
        progress: Where to show it.

    Raises:
        UserError: The prompts, the model, an option or the machine does not allow it.
    """
    if samples < 1:
        raise RecipeError("too few samples", where="samples", value=samples, allowed="1 or more", do="correct it")
    sources = _sources(prompts, format, "prompts")
    spec = checked(GenerationSpec, **(generation or {}))
    job = _job("generate", model, base, None, None, seed, 512, "truncate")

    def work(folder: Path) -> None:
        records = [record for record in _records(sources, seed) if isinstance(record, Prompt)]
        tokenizer = job.load_tokenizer()
        adapters = stack_of(job.model, job.revision).members  # those come from transformers, on their base
        fast = not adapters and uses_vllm(spec.engine, resolve_device(job.base.device))
        vllm = {"revision": job.revision, "trust_remote_code": job.base.trust_remote_code, "dtype": job.base.dtype}
        generate_answers(
            VllmModel(job.model, **vllm) if fast else job.load_model(),  # type: ignore[arg-type]
            tokenizer,
            list({record.id: record for record in records}.values()),
            make_template(job.base.template, tokenizer),
            spec,
            model_name=name or str(model),
            seed=seed,
            samples=samples,
            out=folder,
            progress=progress,
        )

    config = {**_config(job, sources), "generation": spec.model_dump(), "samples": samples, "name": name or str(model)}
    return do_single("generate", Path(out), config, _inputs(job, sources), work, progress).path / ANSWERS


def report(
    results: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    answers: Sequence[Mapping[str, Any]] = (),
    progress: Progress = QUIET,
) -> Path:
    """Write the report of results.json into a folder and return the page.

    Args:
        results: What a run measured, or its results.json.
        out: The folder: results.json, report.html and figures/.
        answers: Prompts with all models' answers, for the page.
        progress: Where to show it.

    Raises:
        DataError: The results are not of their schema.
    """
    found = results if isinstance(results, Mapping) else _results(Path(results))

    def work(folder: Path) -> None:
        build_report(found, answers, folder)

    inputs = {"results": content_key(found), "answers": content_key(list(answers))}
    return do_single("report", Path(out), {}, inputs, work, progress).path / "report.html"


def _results(path: Path) -> dict[str, Any]:
    file = path / "stages" / "report" / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise RunError("no results here", where=path, do="give results.json, or the folder of a finished run")
    try:
        found: dict[str, Any] = json_value(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            "the results are not JSON", where=file, do="give results.json, or a finished run's folder"
        ) from error
    if not isinstance(found, dict):
        raise DataError("not results of a run", where=file, do="give results.json, or a finished run's folder")
    return found


def _sources(data: Data, format: str, as_: str | None) -> list[DataSpec]:
    items = [data] if isinstance(data, str | Path | DataSpec) else list(data)
    return [
        item if isinstance(item, DataSpec) else checked(DataSpec, format=format, path=str(item), **{"as": as_})
        for item in items
    ]


def _records(sources: Sequence[DataSpec], seed: int) -> list[Any]:
    records: list[Any] = []
    for source in sources:
        name = ", ".join(source.paths)
        found = read_source(source, name=name, seed=seed, as_=source.as_)
        records += prepare(found.records, source, name=name, seed=seed).train
    return records


def _job(
    name: str,
    model: Any,
    base: Any,
    training: Any,
    lora: Any,
    seed: int,
    max_length: int,
    too_long: str,
    out: str | Path | None = None,
) -> TrainingJob:
    options = checked(TrainingSpec, **{"seed": seed, **(training or {})}).options()
    spec = checked(BaseSpec, base, model=str(model))
    checked(SftSpec, dataset="data", max_length=max_length, too_long=too_long)
    adapter = checked(LoraSpec, **lora) if lora is not None else None
    return TrainingJob(name, model, spec, options, seed, max_length, too_long, adapter, Path(out) if out else None)


def _config(job: TrainingJob, sources: Sequence[DataSpec]) -> dict[str, Any]:
    return {
        "base": job.base.model_dump(mode="json"),
        "training": job.training,
        "lora": job.lora.model_dump() if job.lora else None,
        "seed": job.seed,
        "max_length": job.max_length,
        "too_long": job.too_long,
        "data": [source.model_dump(mode="json") for source in sources],
    }


def _inputs(job: TrainingJob, sources: Sequence[DataSpec]) -> dict[str, str]:
    return {"model": job.weights_key(), **{f"data {i}": source_key(spec) for i, spec in enumerate(sources)}}
