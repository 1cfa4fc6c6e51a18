"""Work of the stages that make models: base, SFT, sampled pairs, reward models, alignment steps."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sacpo.align import heldout
from sacpo.align.reward_model import train_reward_model
from sacpo.align.sft import run_sft
from sacpo.align.step import run_align
from sacpo.answer.generate import generate_answers
from sacpo.data.records import Answer, Demonstration, Pair, Prompt, write_jsonl
from sacpo.data.report import data_report
from sacpo.errors import DataError
from sacpo.judging.scored import ScoreFunction
from sacpo.models.loading import build_model, load_tokenizer, save_model
from sacpo.pipeline import tokenizers
from sacpo.pipeline.data_work import REPORT, TRAIN, heldout_of, records_of, texts_of
from sacpo.pipeline.stages import At
from sacpo.pipeline.study import Study
from sacpo.recipe.models import StepModel
from sacpo.recipe.schema import SFT, GenerationSpec, JudgeSpec, SampledSpec
from sacpo.system.runs import write_json

SCORES = "scores.json"


def build_base(study: Study, out: Path, at: At) -> None:
    """Build tokenizer and model from the recipe's configuration, with weights drawn from the seed."""
    spec = study.recipe.base
    assert spec.config is not None
    if isinstance(spec.tokenizer, str):
        tokenizer = load_tokenizer(spec.tokenizer, trust_remote_code=spec.trust_remote_code)
    else:
        assert spec.tokenizer is not None
        if spec.tokenizer.kind == "world":
            tokenizer = study.world.tokenizer()
        else:
            texts = [text for name in spec.tokenizer.datasets for text in texts_of(at(f"data/{name}"))]
            tokenizer = tokenizers.byte_level_bpe(texts, spec.tokenizer.vocab_size)
    save_model(build_model(spec.config, tokenizer, study.seed("base")), tokenizer, out / "model")


def fine_tune(study: Study, names: Sequence[str], out: Path, at: At) -> None:
    """Fine-tune the base on demonstrations."""
    spec = study.recipe.sft
    assert spec is not None
    records = [record for name in names for record in records_of(at(f"data/{name}"))]
    wrong = next((record for record in records if not isinstance(record, Demonstration)), None)
    if wrong is not None:
        raise DataError(
            "SFT learns from demonstrations",
            where="sft.dataset",
            value=type(wrong).__name__,
            do="give the data source 'as: demonstrations'",
        )
    job = study.job(SFT, study.base_path(at), spec, study.seed(SFT), lora=spec.lora, home=at(SFT))
    study.make_room()
    run_sft(job, records, out, layout=spec.layout, progress=study.progress)


def sample_pairs(
    study: Study, spec: SampledSpec, sources: dict[str, str], score: ScoreFunction, name: str, out: Path, at: At
) -> None:
    """Sample two answers to each prompt and label the pair by Bradley-Terry on a judge's scores.

    Args:
        study: The recipe at work.
        spec: How to sample and to label.
        sources: "sft" and "reference" as names of models.
        score: The judge's scores.
        name: The stage's name, the root of its random numbers.
        out: The stage's folder.
        at: Where other stages are.
    """
    prompts = _prompts(records_of(at(f"data/{spec.prompts}")))
    rng = random.Random(study.seed(name))
    shares = _shared_out(prompts, spec.sample_from, rng)
    tokenizer = study.tokenizer(at)
    generation = GenerationSpec(
        max_new_tokens=spec.max_new_tokens, do_sample=True, temperature=spec.temperature, batch_size=256
    )
    answers: list[Answer] = []
    for source, share in shares.items():
        model = sources[source]
        answers += generate_answers(
            study.load(model, at),
            tokenizer,
            share,
            study.template(tokenizer),
            generation,
            model_name=model,
            seed=study.seed(name, source),
            samples=2,
            out=out / f"answers-{source}",
            progress=study.progress,
        )
    pairs, dropped = label_pairs(answers, score, spec, rng, name)
    write_jsonl(out / TRAIN, pairs)
    report = data_report(name, pairs, dropped=dropped)
    write_json(out / REPORT, {"kind": "pairs", **report})


def label_pairs(
    answers: Sequence[Answer], score: ScoreFunction, spec: SampledSpec, rng: random.Random, name: str
) -> tuple[list[Pair], dict[str, int]]:
    """Turn answers, two to each prompt side by side, into pairs with the probability that the first is preferred.

    `p = sigmoid(score_scale (s1 - s2))`. Source: the Bradley-Terry model of section 3 of the paper.

    Returns:
        The pairs, and how many were dropped for which reason.
    """
    scores = score([(answer.prompt, answer.text) for answer in answers])
    pairs: list[Pair] = []
    dropped = {"equal answers": 0, "tie": 0, "not scored": 0}
    for i in range(0, len(answers), 2):
        first, second = answers[i], answers[i + 1]
        one, other, draw = _finite(scores[i].value), _finite(scores[i + 1].value), rng.random()
        if first.text == second.text:
            dropped["equal answers"] += 1
            continue
        if one is None or other is None:
            dropped["not scored"] += 1
            continue
        if one == other and spec.ties == "drop":
            dropped["tie"] += 1
            continue
        p = 1 / (1 + math.exp(-max(min(spec.score_scale * (one - other), 60.0), -60.0)))
        if spec.labels == "sampled":
            p = float(draw < p)
        elif spec.labels == "hard":
            p = 0.5 if one == other else float(one > other)
        if p < 0.5:
            first, second, p = second, first, 1 - p
        pairs.append(Pair(first.prompt, first.text, second.text, p, f"{name}, pair {i // 2}"))
    if not pairs:
        raise DataError("no pairs are left after sampling", where=name, value=dropped, do="look at the judge's scores")
    return pairs, {reason: n for reason, n in dropped.items() if n}


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None


def train_judge(study: Study, criterion: str, spec: JudgeSpec, names: Sequence[str], out: Path, at: At) -> None:
    """Train a reward model on preference pairs, starting from the SFT model."""
    records = [record for name in names for record in records_of(at(f"data/{name}"))]
    held = [record for name in names for record in heldout_of(at(f"data/{name}"))]
    job = study.job(f"judge of {criterion}", study.path(SFT, at), spec, study.seed("judge", criterion))
    study.make_room()
    train_reward_model(job, records, out, heldout=held, progress=study.progress)


def align_model(study: Study, node: StepModel, stages: Sequence[str], out: Path, at: At) -> None:
    """Train one step at one strength."""
    step = node.step
    records = [record for stage in stages for record in records_of(at(stage))]
    home = at(f"align/{node.name}")
    seed = study.seed("align", step.name)
    job = study.job(node.name, study.path(node.parent, at), step, seed, lora=step.lora, home=home)
    study.make_room()
    run_align(job, step, node.beta, records, out, study.cache, progress=study.progress)


def score_heldout(study: Study, name: str, sources: Sequence[str], out: Path, at: At) -> None:
    """Score the held-out pairs of all data sources under one model, the preferred completion first."""
    job = study.job(name, study.path(name, at), study.recipe.steps[0], 0)
    model = study.load(name, at)
    found: dict[str, Any] = {}
    for source in sources:
        logps, clusters = heldout.score_heldout(job, model, heldout_of(at(f"data/{source}")), progress=study.progress)
        if clusters:
            found[source] = {"clusters": clusters, "logps": logps.tolist()}
    write_json(out / SCORES, found)


def _prompts(records: Sequence[Any]) -> list[Prompt]:
    prompts = [record if isinstance(record, Prompt) else record.prompt for record in records]
    return list({prompt.id: prompt for prompt in prompts}.values())


def _shared_out(prompts: Sequence[Prompt], shares: Any, rng: random.Random) -> dict[str, list[Prompt]]:
    """Share prompts out by lot; each source's keep their order."""
    lots = list(range(len(prompts)))
    rng.shuffle(lots)
    found: dict[str, list[Prompt]] = {}
    start, total = 0, 0.0
    for source in sorted(shares, reverse=True):  # "sft" first, whatever the recipe's order
        share = shares[source]
        total += share
        stop = round(total * len(prompts))
        found[source] = [prompts[i] for i in sorted(lots[start:stop])]
        start = stop
    return {source: share for source, share in found.items() if share}
