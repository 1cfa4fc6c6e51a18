"""All that one push would send, gathered without contacting anybody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from sacpo.errors import DataError, ModelError, RecipeError, RunError
from sacpo.hub.cards import data_card, folder_card
from sacpo.hub.files import Chosen, data_files, model_files
from sacpo.hub.names import BenchmarkTask, check_repository
from sacpo.models.adapters.folder import CONFIG, config_of, is_adapter
from sacpo.recipe.safe import json_value
from sacpo.report.card import model_card
from sacpo.report.front_matter import HUB_ID, Publication
from sacpo.report.lookup import measure_of, with_interval
from sacpo.report.results import Results, parse_results
from sacpo.system.runs import verify

CARD, RECIPE, CERTIFICATE = "README.md", "recipe.yaml", "certificate.json"
CERTIFIED = "certify/certificate"
"""The stage that writes a run's certificate."""
Kind = Literal["model", "dataset"]
Content = Path | bytes


@dataclass(frozen=True)
class Push:
    """What is sent where.

    Attributes:
        repository: USER/NAME.
        kind: What it holds.
        private: Whether nobody else may see it.
        files: The files by their paths in the repository.
        left: Files of the folder that stay here.
        card: The text of README.md.
        said: What the user should know.
    """

    repository: str
    kind: Kind
    private: bool
    files: dict[str, Content]
    left: tuple[str, ...]
    card: str
    said: tuple[str, ...]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in sorted(self.files.items())
        }


@dataclass(frozen=True)
class Wish:
    """What the user says of a push.

    Attributes:
        repository: USER/NAME.
        public: Whether everybody may see it.
        license: A card's fields about the licence; empty: unknown.
        base: Hub id of the model that was trained.
        benchmarks: Metrics that are results of the hub's benchmarks.
    """

    repository: str
    public: bool = False
    license: dict[str, str] | None = None
    base: str | None = None
    benchmarks: Sequence[BenchmarkTask] = ()

    def __post_init__(self) -> None:
        check_repository(self.repository)
        if self.base is not None and HUB_ID.fullmatch(self.base) is None:
            raise RecipeError("a base is named by its hub id", where="--base", value=self.base, allowed="USER/NAME")


def gather(place: Path, wish: Wish) -> Push:
    """Return what pushing a run's chosen model, or a folder of a model, would send.

    Raises:
        UserError: There is no such model, or it is not one that others could load.
    """
    if not place.is_dir():
        raise ModelError("no such folder", where=place, do="give the folder of a run or of a model")
    if (place / "stages").is_dir() and (place / RECIPE).is_file():
        return _of_run(place, wish)
    if wish.benchmarks:
        raise RecipeError("only a run has results of benchmarks", where="--benchmark", do="give the run's folder")
    folder = place.resolve()
    chosen = model_files(folder)
    files: dict[str, Content] = {**chosen.files}
    base = wish.base
    if is_adapter(folder):
        base = _adapter_base(folder, wish.base)
        files[CONFIG] = _with_base(folder, base)
    old = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else None
    card = folder_card(old, Publication(wish.repository, wish.license or {}, base, is_adapter(folder)), folder / CARD)
    return _push("model", wish, files, chosen, card)


def gather_data(place: Path, wish: Wish) -> Push:
    """Return what pushing a folder of data would send.

    Raises:
        UserError: There is no data, or its card cannot be read.
    """
    if wish.base is not None or wish.benchmarks:
        name = "--base" if wish.base is not None else "--benchmark"
        raise RecipeError("it belongs to a model, and this is data", where=name, do="leave it out")
    if not place.is_dir():
        raise DataError("no such folder", where=place, do="give the folder that holds the data")
    chosen = data_files(place.resolve())
    old = place / CARD
    text = old.read_text(encoding="utf-8") if old.is_file() else None
    card = data_card(text, wish.repository, wish.license or {}, chosen.files, old)
    return _push("dataset", wish, {**chosen.files}, chosen, card)


def _of_run(run: Path, wish: Wish) -> Push:
    results, folder = _results(run), run / "stages" / "chosen" / "model"
    model = results.selection.chosen if results.selection is not None else None
    if model is None or not folder.is_dir() or not any(folder.iterdir()):
        raise RunError(
            "the run has no chosen model with weights",
            where=run,
            value="none was chosen" if model is None else f"{model} mixes the logits of two models",
            do="push a model of its stages by folder, such as stages/align/NAME/model",
        )
    verify(run / "stages" / "chosen")
    chosen = model_files(folder.resolve())
    to = Publication(wish.repository, wish.license or {}, wish.base)
    files: dict[str, Content] = {**chosen.files, RECIPE: run / RECIPE}
    for task in wish.benchmarks:
        files[f".eval_results/{task.metric.replace('/', '_')}.yaml"] = eval_result(results, model, task)
    if results.certificate is not None:
        verify(run / "stages" / CERTIFIED)
        files[CERTIFICATE] = run / "stages" / CERTIFIED / CERTIFICATE
    return _push("model", wish, files, chosen, model_card(results, model, to))


def eval_result(results: Results, model: str, task: BenchmarkTask) -> bytes:
    """Return a file of `.eval_results`: one figure as a benchmark's result.

    Source: https://huggingface.co/docs/hub/eval-results

    Raises:
        RecipeError: The model has no such figure on report prompts.
    """
    measured = measure_of(results, model, task.metric)
    if measured is None or measured.value is None:
        known = sorted({key for sets in results.measures.get(model, {}).values() for key in sets.metrics})
        raise RecipeError(
            "the model has no such figure on report prompts", where="--benchmark", value=task.metric, allowed=known
        )
    entry = {
        "dataset": {"id": task.dataset, "task_id": task.task},
        "value": measured.value,
        "notes": f"sacpo: {task.metric} {with_interval(measured, task.metric)}, 95 % interval, n = {measured.n}",
    }
    return yaml.safe_dump([entry], sort_keys=False, allow_unicode=True).encode()


def _results(run: Path) -> Results:
    path = run / "stages" / "report" / "results.json"
    if not path.is_file():
        raise RunError("the run has no results yet", where=run, do=f"finish it: sacpo run {run / RECIPE}")
    return parse_results(json_value(path.read_text(encoding="utf-8")))


def _adapter_base(folder: Path, given: str | None) -> str:
    named: Any = config_of(folder).get("base_model_name_or_path")
    if given is None and (not isinstance(named, str) or HUB_ID.fullmatch(named) is None or Path(named).exists()):
        raise ModelError(
            "the adapter's base is no model of the hub, so that nobody else could load the adapter",
            where=folder / CONFIG,
            value=named,
            do="give --base USER/NAME if the base is there, or push whole weights: sacpo export MODEL --out FOLDER",
        )
    return given or str(named)


def _with_base(folder: Path, base: str) -> bytes:
    config = config_of(folder)
    revision = config.get("revision") if config.get("base_model_name_or_path") == base else None
    return (json.dumps({**config, "base_model_name_or_path": base, "revision": revision}, indent=2) + "\n").encode()


def _push(kind: Kind, wish: Wish, files: dict[str, Content], chosen: Chosen, card: str) -> Push:
    matter = yaml.safe_load(card.split("---\n", 2)[1]) or {}
    said = []
    if "license" not in matter:
        said.append(
            "the licence is unknown, and the card names none: give --license, as the base and the data allow it"
        )
    if kind == "model" and "base_model" not in matter:
        said.append("the card names no base model: give --base USER/NAME if the hub has it")
    sent = {**files, CARD: card.encode()}
    return Push(wish.repository, kind, not wish.public, sent, chosen.left, card, tuple(said))
