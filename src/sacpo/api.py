"""The stages as functions, each on files and folders of its own: enter anywhere, with any model.

Every function writes a folder that appears when it is complete; the same call again keeps it, or resumes what a
killed process left.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sacpo import processes
from sacpo.adapters.stack import stack_of
from sacpo.align.job import TrainingJob
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.data.answers import answer_file, read_answers
from sacpo.data.prepare import prepare
from sacpo.data.records import Prompt, write_jsonl
from sacpo.data.sources import read_source, source_key
from sacpo.data.templates import make_template
from sacpo.errors import DataError, RecipeError, RunError
from sacpo.evaluate.generate import ANSWERS, generate_answers
from sacpo.evaluate.judges import RefusalJudge, ScoredJudge
from sacpo.evaluate.judges.reward_model import reward_model_scores
from sacpo.evaluate.measures import measure
from sacpo.evaluate.verdicts import judge_answers
from sacpo.evaluate.vllm import VllmModel, uses_vllm
from sacpo.judging.single import Panel, judge_by_llms, panel_of
from sacpo.models import resolve_device, weights_key
from sacpo.pipeline.evaluation_work import MEASURES, VERDICTS
from sacpo.pipeline.merge_single import export, merge
from sacpo.pipeline.single import do_single
from sacpo.progress import QUIET, Progress
from sacpo.recipe.explain import did_you_mean, explain
from sacpo.recipe.schema import (
    BaseSpec,
    ConstraintSpec,
    DataSpec,
    GenerationSpec,
    LoraSpec,
    ObjectiveSpec,
    SftSpec,
    StepSpec,
    TrainingSpec,
)
from sacpo.report.build import build_report
from sacpo.runs import content_key, file_hash, write_json
from sacpo.select import select_model
from sacpo.stats.estimate import Estimate

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

    layout = _checked(SftSpec, dataset="data", layout=layout).layout
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
    step = _checked(
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
    spec = _checked(GenerationSpec, **(generation or {}))
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


def judge(
    answers: str | Path,
    out: str | Path,
    *,
    criterion: str | None = None,
    kind: Literal["refusal", "reward-model", "llm"] = "reward-model",
    model: str | None = None,
    baseline: str | Path | None = None,
    sign: Literal[1, -1] = 1,
    unsafe_below: float | None = None,
    max_length: int = 512,
    batch_size: int = 16,
    base: Mapping[str, Any] | None = None,
    panel: Panel | None = None,
    rubrics: Sequence[str] = (),
    orders: Sequence[Literal["ab", "ba"]] | None = None,
    repeats: int | None = None,
    concurrency: int | None = None,
    budget: Mapping[str, Any] | None = None,
    name: str | None = None,
    baseline_name: str | None = None,
    prompts: Literal["ordinary", "restricted", "borderline"] | None = None,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Judge a file of answers, beside a baseline's where one is given, and return what was measured, by model.

    Args:
        answers: A file of answers (see `sacpo.data.answers`), or the folder that `generate` wrote.
        out: The output folder: `verdicts.jsonl` and `measures.json`.
        criterion: What is judged: helpfulness, harmlessness, refusal, ...; kind "llm": the rubrics' own by default.
        kind: A reward or cost model, the refusal detector, or language models behind endpoints.
        model: Hub id or folder of the reward model.
        baseline: The baseline's answers to the same prompts.
        sign: -1 for a cost model, whose logit is higher for worse answers.
        unsafe_below: Answers with a lower score are labelled unsafe.
        max_length: Tokens of prompt and answer together.
        batch_size: Answers a forward pass.
        base: The reward model's template, dtype, device and trust_remote_code.
        panel: kind "llm": a language model's settings (a recipe's `LlmSpec`), several models', or a panel's file.
        rubrics: kind "llm": names of built-in rubrics, or files.
        orders: kind "llm": which answer is shown first; both by default.
        repeats: kind "llm": how often each question is asked; once by default.
        concurrency: kind "llm": requests under way at once, for each judge and rubric; 16 by default.
        budget: kind "llm": `max_requests`, `max_tokens` and `max_cost` of this call.
        name: Name the model this, whatever the file says.
        baseline_name: Name the baseline this.
        prompts: What the prompts are, where the files do not say.
        progress: Where to show it.

    Raises:
        UserError: The answers, the model, an endpoint or the machine does not allow it.
        RunError: kind "llm": verdicts are missing, because the budget is spent or an endpoint failed. Those that are
            there are kept; the same call goes on.
    """
    if (kind == "llm") != (panel is not None) or (kind != "llm" and criterion is None):
        raise RecipeError(
            "kind 'llm' needs a panel, and other kinds need a criterion and take no panel",
            where="panel" if criterion is not None else "criterion",
            value=kind,
            do="give panel={'model': NAME} for kind 'llm' only",
        )
    if panel is not None:
        spec = panel_of(panel, rubrics=rubrics, orders=orders, repeats=repeats, concurrency=concurrency, budget=budget)
        return judge_by_llms(
            answers,
            out,
            spec,
            baseline=baseline,
            criterion=criterion,
            name=name,
            baseline_name=baseline_name,
            prompts=prompts,
            progress=progress,
        )
    assert criterion is not None
    if (kind == "reward-model") != (model is not None):
        raise RecipeError(
            "a reward-model judge needs a model, and other judges take none",
            where="model",
            value=model,
            do="name a model for kind 'reward-model' only",
        )
    if model is None and (sign != 1 or unsafe_below is not None):
        raise RecipeError(
            "only a reward or cost model gives scores; the refusal detector would ignore this option",
            where="sign" if sign != 1 else "unsafe_below",
            value=sign if sign != 1 else unsafe_below,
            do="name the model that scores, or leave the option out",
        )
    _checked(StepSpec, name="judge", criterion=criterion, dataset="data", beta=1)  # the rule of criteria's names
    options = _checked(BaseSpec, model=model or "none", **{"template": "chat", **(base or {})})
    settings = {"sign": sign, "unsafe_below": unsafe_below, "max_length": max_length, "batch_size": batch_size}

    def work(folder: Path) -> None:
        given = read_answers(answers, model=name, kind=prompts)
        judged = RefusalJudge(criterion=criterion)
        if model is not None:
            scores = reward_model_scores(model, options, progress=progress, **settings)  # type: ignore[arg-type]
            judged = ScoredJudge(kind, criterion, scores)  # type: ignore[assignment]
        others = None if baseline is None else read_answers(baseline, model=baseline_name, kind=prompts)
        verdicts = judge_answers(judged, given, others)
        write_jsonl(folder / VERDICTS, verdicts)
        write_json(folder / MEASURES, {given[0].model: measure(given, verdicts)})

    inputs = {"answers": file_hash(answer_file(answers))}
    inputs |= {"baseline": file_hash(answer_file(baseline))} if baseline is not None else {}
    inputs |= {"model": weights_key(model)} if model is not None else {}
    names = {"name": name, "baseline_name": baseline_name, "prompts": prompts}
    config = {"criterion": criterion, "kind": kind, **settings, **names, "base": options.model_dump(mode="json")}
    done = do_single("judge", Path(out), config, inputs, work, progress)
    found: dict[str, Any] = json.loads((done.path / MEASURES).read_text(encoding="utf-8"))
    return found


def select(
    judged: Sequence[str | Path], *, constraints: Sequence[Mapping[str, Any]], objective: Mapping[str, Any]
) -> dict[str, Any]:
    """Choose the most helpful model that meets every constraint, from folders that `judge` wrote.

    Args:
        judged: Folders of `judge`: all models, and one folder for each criterion of a model.
        constraints: As in a recipe, without `prompts`: metric, criterion, at_most or at_least.
        objective: As in a recipe, without `prompts`: metric and criterion.

    Raises:
        UserError: A folder holds no measures, or a constraint is not valid.
    """
    measures: dict[str, dict[str, Any]] = {}
    for folder in judged:
        for name, metrics in _measures(Path(folder)).items():
            measures.setdefault(name, {"answers": {"metrics": {}}})["answers"]["metrics"] |= metrics
    specs = [_checked(ConstraintSpec, prompts="answers", **constraint) for constraint in constraints]
    goal = _checked(ObjectiveSpec, prompts="answers", **objective)
    _check_measured([*specs, goal], {metric for sets in measures.values() for metric in sets["answers"]["metrics"]})
    return select_model(measures, specs, goal, roles={"answers": "tuning"})


def _measures(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of every model in a folder of `judge`."""
    path = folder / MEASURES
    if not path.is_file():
        raise RunError("no measures in this folder", where=folder, do="give folders that 'judge' wrote")
    try:
        found = {name: of["metrics"] for name, of in json.loads(path.read_text(encoding="utf-8")).items()}
        for estimates in found.values():
            for estimate in estimates.values():
                Estimate.from_json(estimate)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DataError("not the measures of 'judge'", where=path, do="judge the answers again") from error
    return found


def _check_measured(wanted: Sequence[ConstraintSpec | ObjectiveSpec], measured: Collection[str]) -> None:
    """Refuse a bound or an objective on what no folder measures: no model could ever meet it."""
    for spec in wanted:
        by_criterion = spec.metric in ("win_rate", "mean_score")
        name = f"{spec.metric}/{spec.criterion or 'CRITERION'}" if by_criterion else spec.metric
        if name not in measured:
            raise RecipeError(
                f"no folder measures '{name}'",
                where="objective" if isinstance(spec, ObjectiveSpec) else "constraints",
                value=name,
                allowed=sorted(measured),
                do=did_you_mean(name, measured, "judge the answers by this criterion; a win rate needs a baseline"),
            )


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
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
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
        item if isinstance(item, DataSpec) else _checked(DataSpec, format=format, path=str(item), **{"as": as_})
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
    options = _checked(TrainingSpec, **{"seed": seed, **(training or {})}).options()
    spec = _checked(BaseSpec, model=str(model), **(base or {}))
    _checked(SftSpec, dataset="data", max_length=max_length, too_long=too_long)
    adapter = _checked(LoraSpec, **lora) if lora is not None else None
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


def _checked(section: Any, **values: Any) -> Any:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise explain(error, values, "", section) from error
