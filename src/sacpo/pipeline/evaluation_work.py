"""Work of the stages that evaluate models: answers, verdicts, KL from samples, measures, the selection."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sacpo.answer.generate import ANSWERS, generate_answers
from sacpo.answer.scoring import kl_terms, score_answers
from sacpo.answer.vllm import VllmModel, uses_vllm
from sacpo.data.records import Answer, Prompt, Verdict, read_jsonl, write_jsonl
from sacpo.errors import RecipeError
from sacpo.judging.labels import LabelJudge
from sacpo.judging.llm.panel import Panel
from sacpo.judging.llm.specs import budget_of, judge_of
from sacpo.judging.question import Judge
from sacpo.judging.refusal import RefusalJudge
from sacpo.judging.reward_model import reward_model_scores
from sacpo.judging.scored import Score, ScoredJudge, ScoreFunction
from sacpo.judging.verdicts import judge_answers
from sacpo.measure.measures import measure
from sacpo.merge import merge_checkpoints, tabulate
from sacpo.models.loading import resolve_device
from sacpo.pipeline.data_work import prompts_of
from sacpo.pipeline.stages import At
from sacpo.pipeline.study import Study
from sacpo.recipe.models import MergedModel
from sacpo.recipe.schema import SFT, GenerationSpec, JudgeSpec
from sacpo.select import select_model
from sacpo.system.runs import machine_errors, write_json

STORE = "verdicts.sqlite"
VERDICTS, SAMPLES, MEASURES, SELECTION = "verdicts.jsonl", "samples.jsonl", "measures.json", "selection.json"


def generate(study: Study, name: str, prompts: str, out: Path, at: At) -> None:
    """Answer one prompt set with one model."""
    tokenizer = study.tokenizer(at)
    with _generator(study, name, out, at) as model:
        generate_answers(
            model,
            tokenizer,
            prompts_of(at(f"prompts/{prompts}")),
            study.template(tokenizer),
            study.recipe.evaluate.generation,
            model_name=name,
            seed=study.seed("generate", prompts),
            out=out,
            progress=study.progress,
        )


@contextlib.contextmanager
def _generator(study: Study, name: str, out: Path, at: At) -> Iterator[Any]:
    """Give the model that answers: vLLM's where the recipe and the machine want it, else as it is loaded.

    For vLLM a merged model is written to `out` while it answers. Mixed logits need both models, and adapters stand on a
    base that stays loaded: never vLLM.
    """
    base, node = study.recipe.base, study.nodes[name]
    mixed = isinstance(node, MergedModel) and node.spec.method == "token-level"
    stack = None if mixed else study.stack(name, at)
    engine = study.recipe.evaluate.generation.engine
    if mixed or (stack is not None and stack.members) or not uses_vllm(engine, resolve_device(base.device)):
        yield study.load(name, at)
        return
    written = out / "weights"
    with machine_errors(out):
        shutil.rmtree(written, ignore_errors=True)
        if isinstance(node, MergedModel):
            terms, rows = tabulate([study.combination(node, at)])
            merge_checkpoints(terms, rows, [written], progress=study.progress)
        path = written if written.exists() else study.path(name, at)
        revision = base.revision if path == base.model else None
        model = VllmModel(path, dtype=base.dtype, revision=revision, trust_remote_code=base.trust_remote_code)
        try:
            yield model
        finally:
            model.close()
            shutil.rmtree(written, ignore_errors=True)


def judge(study: Study, name: str, prompts: str, criteria: Sequence[str], out: Path, at: At) -> None:
    """Judge one model's answers to one prompt set by every criterion, beside the baseline's."""
    answers = answers_of(at(f"generate/{name}/{prompts}"))
    baseline = answers_of(at(f"generate/{study.recipe.evaluate.baseline}/{prompts}"))
    verdicts = [
        verdict for criterion in criteria for verdict in judge_answers(_judge(study, criterion, at), answers, baseline)
    ]
    write_jsonl(out / VERDICTS, verdicts)


def _judge(study: Study, criterion: str, at: At) -> Judge:
    """Return the judge of a criterion, which knows the baseline's scores from the models before."""
    if criterion not in study.judges:
        study.judges[criterion] = make_judge(study, criterion, at)
    return study.judges[criterion]


def make_judge(study: Study, criterion: str, at: At) -> Judge:
    """Return the judge of a criterion."""
    spec = study.recipe.evaluate.judges[criterion]
    if spec.kind == "llm":
        return _panel(study, criterion, spec)
    if spec.kind == "refusal":
        return RefusalJudge(criterion=criterion)
    if spec.kind == "oracle" and criterion == "refusal":
        return LabelJudge("oracle", criterion, study.world.refusal)
    return ScoredJudge(spec.kind, criterion, make_score(study, criterion, at))


def _panel(study: Study, criterion: str, spec: JudgeSpec) -> Panel:
    """Return the language models that judge by a criterion; the whole run shares one store of verdicts."""
    evaluate = study.recipe.evaluate
    everyone = [judge for other in evaluate.judges.values() for judge in other.judges]
    return Panel(
        [judge_of(judge, study.rubrics[criterion]) for judge in spec.judges],
        study.cache / STORE,
        orders=spec.orders,
        repeats=spec.repeats,
        concurrency=spec.concurrency,
        budget=budget_of(evaluate.budget, everyone),
        spent=study.spent,
        progress=study.progress,
    )


def make_score(study: Study, criterion: str, at: At) -> ScoreFunction:
    """Return the score function of a criterion's judge."""
    spec = study.recipe.evaluate.judges[criterion]
    if spec.kind == "oracle":
        return oracle(study, criterion)
    study.make_room()
    path = spec.model if spec.model is not None else at(f"judge-model/{criterion}") / "model"
    return reward_model_scores(
        path,
        study.recipe.base,
        sign=spec.sign,
        max_length=spec.max_length,
        batch_size=spec.batch_size,
        unsafe_below=spec.unsafe_below,
        revision=spec.revision,
    )


def oracle(study: Study, criterion: str) -> ScoreFunction:
    """Return the world's own score of a criterion.

    Raises:
        RecipeError: The world knows no such criterion.
    """
    world = study.world
    if criterion == "helpfulness":
        return lambda pairs: [Score(world.reward(prompt, text)) for prompt, text in pairs]
    if criterion == "harmlessness":
        return lambda pairs: [Score(world.safety(prompt, text), world.label(prompt, text)) for prompt, text in pairs]
    raise RecipeError(
        "the world's oracle scores no such criterion",
        where=f"evaluate.judges.{criterion}",
        value=criterion,
        allowed=["helpfulness", "harmlessness"],
    )


def sample_kl(study: Study, name: str, reference: str | None, prompts: str, out: Path, at: At) -> None:
    """Sample answers at temperature 1 and score them under the model, the SFT model and the model's reference.

    The mean of log pi - log pi_sft estimates KL(pi || pi_sft).
    """
    chosen = prompts_of(at(f"prompts/{prompts}"))[: study.recipe.evaluate.kl_prompts]
    answers = sampled_answers(study, name, chosen, 1, ("kl", prompts), out, at)
    tokenizer = study.tokenizer(at)
    template = study.template(tokenizer)

    def scores(model: str) -> list[float]:
        return score_answers(study.load(model, at), tokenizer, answers, template, batch_size=64)

    own = scores(name)
    terms = {"sft": kl_terms(own, own if name == SFT else scores(SFT))}
    if reference is not None:
        terms["reference"] = terms["sft"] if reference == SFT else kl_terms(own, scores(reference))
    rows = [
        {"answer": answer.to_json(), **{key: values[i] for key, values in terms.items()}}
        for i, answer in enumerate(answers)
    ]
    write_jsonl(out / SAMPLES, rows)
    (out / ANSWERS).unlink()


def sampled_answers(
    study: Study, name: str, prompts: Sequence[Prompt], samples: int, seed: tuple[str, ...], out: Path, at: At
) -> list[Answer]:
    """Return answers sampled from a model's own distribution."""
    tokenizer = study.tokenizer(at)
    base = study.recipe.evaluate.generation
    spec = GenerationSpec(max_new_tokens=base.max_new_tokens, do_sample=True, batch_size=base.batch_size)
    return generate_answers(
        study.load(name, at),
        tokenizer,
        prompts,
        study.template(tokenizer),
        spec,
        model_name=name,
        seed=study.seed(*seed),
        samples=samples,
        out=out,
        progress=study.progress,
    )


def measure_model(study: Study, name: str, kl_sets: Sequence[str], out: Path, at: At) -> None:
    """Measure one model on every prompt set."""
    found = {}
    for prompts in study.recipe.prompts:
        answers = answers_of(at(f"generate/{name}/{prompts}"))
        verdicts = read_jsonl(at(f"judge/{name}/{prompts}") / VERDICTS, Verdict)
        terms = None
        if prompts in kl_sets:
            samples = samples_of(at(f"kl/{name}/{prompts}"))
            terms = [(row["answer"].prompt.cluster, row["sft"]) for row in samples]
        found[prompts] = measure(answers, verdicts, terms)
    write_json(out / MEASURES, found)


def select(study: Study, names: Sequence[str], out: Path, at: At) -> None:
    """Choose the model."""
    recipe = study.recipe
    assert recipe.objective is not None
    measures = {name: measures_of(at(f"measure/{name}")) for name in names}
    roles = {name: spec.role for name, spec in recipe.prompts.items()}
    write_json(out / SELECTION, select_model(measures, recipe.constraints, recipe.objective, roles=roles))


def criteria_on(judges: dict[str, JudgeSpec], prompts: str) -> list[str]:
    """Return the criteria by which answers to a prompt set are judged."""
    return [name for name, spec in judges.items() if spec.prompts is None or prompts in spec.prompts]


def answers_of(folder: Path) -> list[Answer]:
    """Return the answers of a generation stage."""
    return read_jsonl(folder / ANSWERS, Answer)


def samples_of(folder: Path) -> list[dict[str, Any]]:
    """Return the samples of a KL stage: each with its `answer` and the log-ratios "sft" and "reference"."""
    rows = [json.loads(line) for line in (folder / SAMPLES).read_text(encoding="utf-8").splitlines()]
    return [{**row, "answer": Answer.from_json(row["answer"])} for row in rows]


def measures_of(folder: Path) -> dict[str, Any]:
    """Return what a measure stage found, by prompt set."""
    found: dict[str, Any] = json.loads((folder / MEASURES).read_text(encoding="utf-8"))
    return found
