"""What would come to light late in a run is looked at before its first stage: places, models, keys, endpoints.

Nothing is paid where the endpoint lists its models (`GET /models`). Where it does not, one request of one token asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sacpo.errors import ModelError, RunError
from sacpo.judging.llm.access import check_access, client_of, key_of
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.specs import check_judges
from sacpo.judging.rubric import Rubric
from sacpo.recipe.llm import LlmSpec
from sacpo.recipe.safe import json_value
from sacpo.recipe.schema import JudgeSpec, Recipe, SourceSpec
from sacpo.system.on_hub import ERRORS, NETWORK, PATIENCE, Kind, ask_once, unanswered
from sacpo.system.progress import QUIET, Progress

UNLISTED = (400, 404, 405, 501)
"""What endpoints say that do not list their models."""


def preflight(recipe: Recipe, progress: Progress = QUIET, *, judges: Collection[str] | None = None) -> list[str]:
    """Check every place, model, key and endpoint of a recipe once, and return what could not be checked.

    Args:
        recipe: The experiment.
        progress: Where to show it.
        judges: The criteria that are still judged; None: all.

    Raises:
        UserError: Something is missing, refused or of another kind than the recipe needs.
    """
    rubrics = check_judges(recipe)
    asked = {name: spec for name, spec in recipe.evaluate.judges.items() if judges is None or name in judges}
    unknown: list[str] = []
    with progress.task("preflight", len(asked) + 1, "checks") as task:
        unknown += _machine(recipe)
        unknown += [text for place, spec in _sources(recipe) for text in _source(place, spec)]
        unknown += _base(recipe)
        check_merges(recipe)
        task.advance()
        seen: set[tuple[str, str, str]] = set()
        for criterion, spec in asked.items():
            where = f"evaluate.judges.{criterion}"
            if spec.model is not None:
                unknown += _reward_model(spec, recipe, where)
            for judge in spec.judges:
                place = (judge.base_url, judge.api_key_env, judge.model)
                if place not in seen:
                    seen.add(place)
                    unknown += _endpoint(judge, rubrics[criterion])
            task.advance()
        for criterion, spec in (_of_labels(recipe) if judges is None else {}).items():
            unknown += _reward_model(spec, recipe, f"certify.labels.judges.{criterion}")
    return unknown


def _of_labels(recipe: Recipe) -> dict[str, JudgeSpec]:
    """Return the reward models that say what is true of certification answers."""
    labels = None if recipe.certify is None else recipe.certify.labels
    return {} if labels is None else {name: spec for name, spec in labels.judges.items() if spec.model is not None}


def check_reachable(judges: Sequence[LlmJudgeConfig]) -> None:
    """Ask each endpoint of some judges for its models once, whatever it replies.

    Retries would find out that nobody listens in a minute or two.

    Raises:
        RunError: There is no connection to one.
    """
    for judge in {(judge.spec.base_url, judge.spec.api_key_env): judge for judge in judges}.values():
        with _client(judge) as client:
            _asked(judge, client, str(client.base_url), "models", switch="")


def check_merges(recipe: Recipe) -> None:
    """Check from the headers of the base's files that what is trained from it will merge with it.

    Raises:
        ModelError: It will not.
    """
    base = recipe.base
    if base.model is not None and not base.gguf and any(spec.method != "token-level" for spec in recipe.merge):
        from sacpo.merge import check_ahead

        check_ahead([base.model], base.revision)


def _machine(recipe: Recipe) -> list[str]:
    """Check the device and the packages that the recipe names."""
    from sacpo.answer.vllm import uses_vllm
    from sacpo.models.adapters.quantization import quantized
    from sacpo.models.loading import resolve_device

    device = resolve_device(recipe.base.device)
    if recipe.base.quantization is not None:
        quantized(recipe.base.quantization, device)
    if recipe.prompts:
        uses_vllm(recipe.evaluate.generation.engine, device)
    return []


def _sources(recipe: Recipe) -> Iterator[tuple[str, SourceSpec]]:
    for name, spec in recipe.data.items():
        yield f"data.{name}", spec
    for name, prompts in recipe.prompts.items():
        yield f"prompts.{name}", prompts


def _source(place: str, spec: SourceSpec) -> Iterator[str]:
    from sacpo.data.sources.files import check_file, files_of, local, looks_local
    from sacpo.data.sources.hub import hub_path

    for path in spec.paths:
        if looks_local(path):
            check_file(local(path))
            for file in files_of(local(path)):
                with file.open("rb") as opened:  # may it be read?
                    opened.read(1)
        else:
            yield from _on_hub(hub_path(path).id, "dataset", spec.revision, place)


def _base(recipe: Recipe) -> Iterator[str]:
    base = recipe.base
    if base.gguf:
        from sacpo.models.gguf import check_gguf

        check_gguf(str(base.model))
        return
    for where, model, revision in (
        ("base.model", base.model, base.revision),
        ("base.tokenizer", base.tokenizer if isinstance(base.tokenizer, str) else None, None),
    ):
        if model is not None:
            yield from _model(model, revision, where)


def _model(model: str, revision: str | None, where: str) -> Iterator[str]:
    """Check that a model is there: its folder, or its hub id."""
    from huggingface_hub import try_to_load_from_cache

    from sacpo.models.checks import check_place, refuse_pickles

    check_place(model)
    if Path(model).is_dir():
        refuse_pickles(model)
    elif isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str):
        ask_once(model, "model", revision)
    else:
        yield from _on_hub(model, "model", revision, where)


def _on_hub(repo: str, kind: Kind, revision: str | None, where: str) -> Iterator[str]:
    """Ask the hub once whether it has something; a data set may be on the disk although the hub cannot be asked."""
    value = repo if revision is None else f"{repo} at {revision}"
    why = unanswered(repo, kind, revision, f"{where}, {value}")
    if why and kind == "model":
        raise ERRORS[kind](
            f"no such folder, and the hub did not answer with a model ({why})",
            where=f"{where}, {value}",
            do=f"{NETWORK}, or give a folder",
        )
    if why:
        yield f"{where}: whether the hub has {value} ({why})"


def _reward_model(spec: JudgeSpec, recipe: Recipe, where: str) -> Iterator[str]:
    """Check that a judge's model is there, and that its configuration is that of a classifier with one logit."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from sacpo.judging.score_model import is_score_model
    from sacpo.models.checks import model_errors
    from sacpo.models.loading import has_adapters

    assert spec.model is not None
    unknown = list(_model(spec.model, spec.revision, f"{where}.model"))
    if unknown or has_adapters(spec.model):
        yield from unknown or [f"{where}.model: whether the adapters' base is a classifier"]
        return
    consent = recipe.base.trust_remote_code if spec.model == recipe.base.model else spec.trust_remote_code
    with model_errors(spec.model):
        config = AutoConfig.from_pretrained(spec.model, revision=spec.revision, trust_remote_code=consent)
    known: Any = AutoModelForSequenceClassification._model_mapping
    classifier = known[type(config)].__name__ if type(config) in known else "a sequence classifier"
    saved = config.architectures or []
    if (saved and classifier not in saved and not is_score_model(config)) or type(config) not in known:
        raise ModelError(
            "a judge's model is no sequence classifier, so its scores would come from a head of random weights",
            where=f"{where}.model",
            value=f"{spec.model} ({', '.join(saved) or type(config).__name__})",
            allowed=classifier,
            do="name a reward model, or give 'dataset' to train one",
        )
    if config.num_labels != 1 and not is_score_model(config):
        raise ModelError(
            "a reward model has one logit",
            where=f"{where}.model",
            value=f"{spec.model} ({config.num_labels} logits)",
            do="name a sequence-classification model with num_labels 1",
        )


def _endpoint(spec: LlmSpec, rubric: Rubric) -> list[str]:
    """Check the key, and ask the endpoint for its models, or where it lists none for one token."""
    judge = LlmJudgeConfig(spec, rubric)
    with _client(judge) as client:
        place = str(client.base_url)
        status, text = _asked(judge, client, place, "models")
        _refuse(status, text, judge, place)
        listed = _ids(text) if status < 400 else []
        if spec.model in listed:
            return []
        if listed or status in UNLISTED:
            status, text = _asked(judge, client, place, "chat/completions")
            _refuse(status, text, judge, place)
            if status == 404:
                raise RunError(
                    "the endpoint knows no such model or address",
                    where=_where(judge, place),
                    value=spec.model,
                    allowed=listed or None,
                    do=_said(judge, text) or "check the model's name, and base_url, which mostly ends with /v1",
                )
            return []
    why = f"status {status}" if status >= 400 else "it lists no models"
    return [f"judge {judge.name}: whether {place} has the model {spec.model} ({why})"]


@contextlib.contextmanager
def _client(judge: LlmJudgeConfig) -> Iterator[Any]:
    quick = replace(judge, spec=judge.spec.model_copy(update={"timeout": min(judge.spec.timeout, PATIENCE)}))
    with client_of(quick, check_access(judge), blocking=True) as client:
        yield client


def _asked(
    judge: LlmJudgeConfig, client: Any, place: str, path: str, *, switch: str = "; --no-preflight leaves this out"
) -> tuple[int, str]:
    """Send one request and return the status and the body of the response."""
    import openai

    body = {"model": judge.spec.model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1}
    try:
        if path == "models":
            return 200, client.get("/models", cast_to=str)
        return 200, client.post("/chat/completions", cast_to=str, body={**body, **judge.spec.extra})
    except openai.APIStatusError as error:
        return error.status_code, error.response.text
    except (openai.APIConnectionError, UnicodeError, ValueError) as error:
        cause = error.__cause__ or error
        raise RunError(
            f"no connection to the endpoint: {_said(judge, str(cause)) or type(cause).__name__}",
            where=_where(judge, place),
            do=f"start it, or check base_url, the network and the environment's proxies{switch}",
        ) from None


def _refuse(status: int, text: str, judge: LlmJudgeConfig, place: str) -> None:
    """Refuse what no later request would mend: the key, an empty account."""
    if status in (401, 402, 403):
        raise RunError(
            f"the endpoint refuses the key (status {status})" if status != 402 else "there is no credit left",
            where=_where(judge, place),
            value=_said(judge, text) or None,
            do=f"check the environment variable {judge.spec.api_key_env or 'that api_key_env should name'}",
        )


def _ids(text: str) -> list[str]:
    """Return the models that an endpoint lists, none where its reply says nothing of the kind."""
    try:
        rows = json_value(text)["data"]
        return [row["id"] for row in rows if isinstance(row["id"], str)]
    except (ValueError, KeyError, TypeError):
        return []


def _said(judge: LlmJudgeConfig, text: str) -> str:
    """Return the beginning of what an endpoint said, without the key."""
    key = key_of(judge)
    return " ".join((text.replace(key, "[key]") if key else text).split())[:300]


def _where(judge: LlmJudgeConfig, place: str) -> str:
    return f"judge {judge.name}, {place or 'OpenAI'}"
