"""Judging as a single stage; `sacpo.api` offers it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sacpo.data.answers import AnswerFiles
from sacpo.data.records import write_jsonl
from sacpo.errors import RecipeError
from sacpo.judging.llm.single import Panel, judge_by_llms, panel_of
from sacpo.judging.question import Judge
from sacpo.judging.refusal import RefusalJudge
from sacpo.judging.reward_model import reward_model_scores
from sacpo.judging.scored import ScoredJudge
from sacpo.judging.verdicts import judge_answers
from sacpo.measure.measures import measure
from sacpo.models.loading import weights_key
from sacpo.pipeline.evaluation_work import MEASURES, VERDICTS
from sacpo.pipeline.single import do_single
from sacpo.recipe.explain import checked
from sacpo.recipe.schema import BaseSpec, StepSpec
from sacpo.system.progress import QUIET, Progress
from sacpo.system.runs import write_json


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
    ask_again: bool = False,
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
    if (kind == "llm") != (panel is not None) or (kind != "llm" and criterion is None):
        raise RecipeError(
            "kind 'llm' needs a panel, and other kinds need a criterion and take no panel",
            where="panel" if criterion is not None else "criterion",
            value=kind,
            do="give panel={'model': NAME} for kind 'llm' only",
        )
    files = AnswerFiles(answers, baseline, name, baseline_name, prompts)
    if panel is not None:
        spec = panel_of(panel, rubrics=rubrics, orders=orders, repeats=repeats, concurrency=concurrency, budget=budget)
        return judge_by_llms(files, out, spec, criterion=criterion, ask_again=ask_again, progress=progress)
    assert criterion is not None
    checked(StepSpec, name="judge", criterion=criterion, dataset="data", beta=1)  # the rule of criteria's names
    _check_scorer(kind, model, sign, unsafe_below)
    options = checked(BaseSpec, base, model=model or "none")
    settings = {"sign": sign, "unsafe_below": unsafe_below, "max_length": max_length, "batch_size": batch_size}

    def work(folder: Path) -> None:
        own, others = files.read()
        judged: Judge = RefusalJudge(criterion=criterion)
        if model is not None:
            scores = reward_model_scores(model, options, progress=progress, **settings)  # type: ignore[arg-type]
            judged = ScoredJudge(kind, criterion, scores)
        verdicts = judge_answers(judged, own, others)
        write_jsonl(folder / VERDICTS, verdicts)
        write_json(folder / MEASURES, {own[0].model: measure(own, verdicts)})

    inputs = files.keys() | ({"model": weights_key(model)} if model is not None else {})
    names = {"name": name, "baseline_name": baseline_name, "prompts": prompts}
    config = {"criterion": criterion, "kind": kind, **settings, **names, "base": options.model_dump(mode="json")}
    done = do_single("judge", Path(out), config, inputs, work, progress)
    found: dict[str, Any] = json.loads((done.path / MEASURES).read_text(encoding="utf-8"))
    return found


def _check_scorer(kind: str, model: str | None, sign: int, unsafe_below: float | None) -> None:
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
