"""The stages as functions, each on files and folders of its own: enter anywhere, with any model.

Every function writes a folder that appears when it is complete; the same call again keeps it, or resumes what a
killed process left. What needs torch imports it when it is called: `select` and `report` never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sacpo.audit import audit_preferences, audit_prompts
from sacpo.bridges.convert import convert
from sacpo.certify import certify, prompts_for, verify_certificate
from sacpo.chat.verb import chat
from sacpo.hub.push import push
from sacpo.judging.people.verb import label
from sacpo.pipeline.collect.verb import collect
from sacpo.pipeline.redteam import make_redteam
from sacpo.pipeline.report_single import report
from sacpo.pipeline.select_single import select
from sacpo.pipeline.single import do_single
from sacpo.pipeline.theory_single import theory_check
from sacpo.plain import JsonMapping, JsonObject
from sacpo.recipe.algorithms import AlgorithmName
from sacpo.recipe.llm import Panel
from sacpo.recipe.schema import Data
from sacpo.system.progress import QUIET, Progress
from sacpo.theory.folders import plan_strength

__all__ = [
    "align",
    "audit_preferences",
    "audit_prompts",
    "certify",
    "chat",
    "collect",
    "convert",
    "export",
    "generate",
    "judge",
    "label",
    "make_redteam",
    "merge",
    "plan_strength",
    "prompts_for",
    "push",
    "report",
    "select",
    "sft",
    "theory_check",
    "verify_certificate",
]


def sft(
    model: str | Path,
    data: Data,
    out: str | Path,
    *,
    format: str = "demonstrations",
    training: JsonMapping | None = None,
    lora: JsonMapping | None = None,
    seed: int = 0,
    max_length: int = 512,
    too_long: Literal["drop", "truncate"] = "truncate",
    layout: Literal["auto", "packed", "padded"] = "auto",
    base: JsonMapping | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Fine-tune a model on demonstrations and return the new model's folder.

    Args:
        model: Hub id or folder.
        data: Demonstrations: files or hub ids.
        out: The output folder: `model/`, `metrics.jsonl`, `summary.json`. With plain LoRA `model/` is the adapter.
        format: The format of sources that are given by path or id.
        training: Options under the names of `transformers.TrainingArguments`.
        lora: Options of peft's LoRA, such as r; all weights are trained by default.
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
    from sacpo.pipeline import verbs

    stage = verbs.fine_tuning(
        model, data, format, base, training, seed, max_length=max_length, too_long=too_long, layout=layout, lora=lora
    )
    return do_single("sft", stage, out, progress) / "model"


def align(
    model: str | Path,
    data: Data,
    out: str | Path,
    *,
    algorithm: AlgorithmName = "dpo",
    beta: float = 0.1,
    criterion: str = "preference",
    format: str = "preference",
    soft_labels: bool = True,
    label_smoothing: float = 0.0,
    generator: float = 0.2,
    desirable_weight: float | Literal["balanced"] = 1.0,
    undesirable_weight: float | Literal["balanced"] = 1.0,
    training: JsonMapping | None = None,
    lora: JsonMapping | None = None,
    seed: int = 0,
    max_length: int = 512,
    too_long: Literal["drop", "truncate"] = "truncate",
    layout: Literal["auto", "packed", "padded"] = "auto",
    holdout: float = 0.0,
    base: JsonMapping | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Train one alignment step, whose reference is `model`, and return the new model's folder.

    Args:
        model: Hub id or folder, of weights or of adapters: the initial policy and the reference.
        data: Pairs, or other records that the algorithm takes, as labelled completions for KTO: files or hub ids.
        out: The output folder: `model/`, `metrics.jsonl`, `summary.json`. With plain LoRA `model/` holds the adapters
            and names their base; `export` writes merged weights.
        algorithm: How it learns.
        beta: The step's strength; for a constraint's criterion the paper's beta/lambda.
        criterion: What the preferences are about, for the records.
        format: The format of sources that are given by path or id.
        soft_labels: Of pairs: use preference probabilities; false rounds them.
        label_smoothing: DPO and robust DPO: share of the labels that is taken to be flipped.
        generator: BSO: exponent of the generator of its divergence.
        desirable_weight: KTO's w+.
        undesirable_weight: KTO's w-; "balanced" makes w- n- = w+ n+.
        training: Options under the names of `transformers.TrainingArguments`.
        lora: Options of peft's LoRA, such as r; all weights are trained by default.
        seed: The root of all random numbers.
        max_length: Tokens of prompt and completion together.
        too_long: What is done with longer records.
        layout: "packed" computes each prompt once or stops, "padded" takes one completion a row, "auto" decides.
        holdout: Share of the pairs' prompts that is not trained on: `heldout.json` says how often the step's reward
            beta log pi/pi_ref prefers the preferred completion there.
        base: More about the model: template, dtype, device, revision, trust_remote_code, attn_implementation,
            quantization.
        progress: Where to show it.

    Raises:
        UserError: The data, the model, an option or the machine does not allow it.
        TrainingDiverged: A loss or gradient norm became NaN or infinite.
    """
    from sacpo.pipeline import verbs

    stage = verbs.alignment(
        model,
        data,
        format,
        base,
        training,
        seed,
        criterion=criterion,
        algorithm=algorithm,
        beta=beta,
        soft_labels=soft_labels,
        label_smoothing=label_smoothing,
        generator=generator,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
        max_length=max_length,
        too_long=too_long,
        layout=layout,
        holdout=holdout,
        lora=lora,
    )
    return do_single("align", stage, out, progress) / "model"


def merge(
    first: str | Path,
    later: str | Path,
    out: str | Path,
    *,
    q: float | Sequence[float],
    method: Literal["linear", "task-vectors"] = "linear",
    base: str | Path | None = None,
    scale: float = 1.0,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    progress: Progress = QUIET,
) -> list[Path]:
    """Merge two models at one or several weights q of the later one, in one pass, and return the merged folders.

    Between a step's reference and the step's model `linear` is P-SACPO (section 6 of the paper). Models that are
    plain LoRA adapters on one base merge exactly, into adapters on that base; `export` writes merged weights.

    Args:
        first: The model at q = 0.
        later: The model at q = 1.
        out: The output folder: one folder `q0.25` for each q.
        q: Weights of `later`, from 0 to 1.
        method: (1 - q) first + q later, or first + q scale (later - base).
        base: task-vectors only: the model that both came from.
        scale: task-vectors only.
        dtype: What merged weights are stored in, the later model's dtype by default. Sums run in float32 either way.
        progress: Where to show it.

    Raises:
        ModelError: The models do not fit together.
    """
    from sacpo.pipeline import verbs

    stage = verbs.merging(first, later, q, method, base, scale, dtype)
    return stage.read(do_single("merge", stage, out, progress))


def export(
    model: str | Path,
    out: str | Path,
    *,
    adapter: bool = False,
    progress: Progress = QUIET,
) -> Path:
    """Write a model of a base and adapters as one standard folder, and return the folder.

    Args:
        model: Hub id or folder: what a LoRA step wrote, a merge of such models, or an adapter of peft's.
        out: The output folder.
        adapter: Write one adapter of concatenated rank on the base, which peft and vLLM load, not merged weights.
        progress: Where to show it.

    Raises:
        ModelError: The model has no adapters to write as one, or the base is not what they were trained on.
    """
    from sacpo.pipeline import verbs

    return do_single("export", verbs.exporting(model, adapter), out, progress)


def generate(
    model: str | Path,
    prompts: Data,
    out: str | Path,
    *,
    name: str | None = None,
    format: str = "prompts",
    samples: int = 1,
    generation: JsonMapping | None = None,
    seed: int = 0,
    base: JsonMapping | None = None,
    progress: Progress = QUIET,
) -> Path:
    """Answer prompts and return the file of answers.

    Args:
        model: Hub id or folder.
        prompts: Prompts: files or hub ids.
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
    from sacpo.answer.generate import ANSWERS
    from sacpo.pipeline import verbs

    stage = verbs.answering(model, prompts, name, format, samples, generation, seed, base)
    return do_single("generate", stage, out, progress) / ANSWERS


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
    base: JsonMapping | None = None,
    panel: Panel | None = None,
    rubrics: Sequence[str] = (),
    orders: Sequence[Literal["ab", "ba"]] | None = None,
    repeats: int | None = None,
    concurrency: int | None = None,
    budget: JsonMapping | None = None,
    ask_again: bool = False,
    name: str | None = None,
    baseline_name: str | None = None,
    prompts: Literal["ordinary", "restricted", "borderline"] | None = None,
    progress: Progress = QUIET,
) -> JsonObject:
    """Judge a file of answers, beside a baseline's where one is given, and return what was measured, by model.

    Args:
        answers: A file of answers (see `sacpo.data.answers`), or the folder that `generate` wrote.
        out: The output folder: `verdicts.jsonl` and `measures.json`.
        criterion: What is judged: helpfulness, harmlessness, refusal, ...; language models take their rubrics'.
        kind: A reward or cost model, the refusal detector, or language models behind endpoints.
        model: Hub id or folder of the reward model; without it, and without language models: the refusal detector.
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
        ask_again: kind "llm": ask again what no verdict could be read from; else such replies are kept.
        name: Name the model this, whatever the file says.
        baseline_name: Name the baseline this.
        prompts: What the prompts are, where the files do not say.
        progress: Where to show it.

    Raises:
        UserError: The answers, the model, an endpoint or the machine does not allow it.
        RunError: kind "llm": verdicts are missing, because the budget is spent or an endpoint failed. Those that are
            there are kept; the same call goes on.
    """
    from sacpo.pipeline.judge_single import answer_files, judged

    files = answer_files(answers, baseline, name, baseline_name, prompts)
    scoring: JsonObject = {"model": model, "base": base, "sign": sign, "unsafe_below": unsafe_below}
    scoring |= {"max_length": max_length, "batch_size": batch_size}
    asked = {"rubrics": rubrics, "orders": orders, "repeats": repeats, "concurrency": concurrency, "budget": budget}
    return judged(files, out, kind, criterion, panel, scoring, asked, ask_again, progress)
