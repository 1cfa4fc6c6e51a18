"""Talking to the models of a finished run: the path that its chosen model lies on, or any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sacpo.chat.setting import Figure, Point, Setting, checked_q, why_alone
from sacpo.data.records import Prompt, read_jsonl
from sacpo.errors import RecipeError, RunError
from sacpo.judging.kinds import Bench, Parts, make_judge
from sacpo.judging.llm.specs import budget_of, check_judges
from sacpo.merge.source import Checkpoint, Merge, Method
from sacpo.recipe import load_recipe
from sacpo.recipe.explain import did_you_mean
from sacpo.recipe.schema import SFT, JudgeSpec, Recipe
from sacpo.report.lookup import bound_words, label, made_by, measure_of, with_interval
from sacpo.report.read import IN_RUN, results_of
from sacpo.report.results import Constraint, ModelInfo, Results, parse_results
from sacpo.world import World

RECIPE, STORE = "recipe.yaml", Path("cache") / "verdicts.sqlite"


def is_run(place: str | Path) -> bool:
    """Tell whether a place is the folder of a run."""
    return (Path(place) / RECIPE).is_file() and (Path(place) / "stages").is_dir()


def setting_of_run(
    run: str | Path,
    *,
    between: tuple[str, str] | None = None,
    q: float | None = None,
    method: Method | None = None,
    beside: str | None = None,
    ask_llm: bool = False,
) -> Setting:
    """Return the setting of a finished run.

    The path is the one that the chosen model (else the nearest) lies on: between the two that it merges, or from the
    model that its last step started from to the chosen one.

    Args:
        run: The run's folder.
        between: Another path: the names of two trained models.
        q: Where the slider stands first; None: at the chosen model.
        method: "linear" moves the weights, "token-level" mixes logits; None: as the recipe merges, else linear.
        beside: The model whose answer stands beside; None: the SFT model.
        ask_llm: Ask language models that judge too, which may cost.

    Raises:
        RunError: The run is not finished, or a model of it is not there.
        RecipeError: There is no such model, an option does not fit, or the chosen model merges more than two.
    """
    found = _Run(Path(run))
    ends, merge, start = found.path(between, method)
    if merge is None and (q is not None or method is not None):
        raise RecipeError("one model has no path to move along", where="--q, --method", do="use --between A B")
    recipe, line = found.recipe, f"{ends[0]}..{ends[-1]}"
    judges = {
        criterion: partial(make_judge, found.parts(criterion, spec))
        for criterion, spec in recipe.evaluate.judges.items()
        if spec.kind != "llm" or ask_llm
    }
    unasked = [criterion for criterion, spec in recipe.evaluate.judges.items() if spec.kind == "llm" and not ask_llm]
    other = beside or SFT
    return Setting(
        title=f"run {recipe.name}",
        path=merge or found.checkpoint(ends[0]),
        ends=ends,
        base=recipe.base,
        generation=recipe.evaluate.generation,
        q=start if q is None else checked_q(q),
        line=line,
        beside=None if (other,) == ends else (other, found.checkpoint(other)),
        judges=judges,
        examples=tuple(found.prompts()),
        knows=None if recipe.world is None else World(recipe.world).recognised,
        points=tuple(found.points(ends, merge)),
        alone=why_alone(recipe.base.template, recipe.world is not None),
        seed=recipe.seed,
        notes=tuple(f"{criterion}: language models judge only with --ask-llm" for criterion in unasked),
    )


@dataclass
class _Run:
    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / IN_RUN).is_file():
            raise RunError(
                "the run has no results yet",
                where=self.folder,
                do="let sacpo run finish, or name folders of models: sacpo chat MODEL [MODEL]",
            )
        self.recipe: Recipe = load_recipe(self.folder / RECIPE)
        self.results: Results = parse_results(results_of(self.folder))
        everyone = [judge for spec in self.recipe.evaluate.judges.values() for judge in spec.judges]
        self.bench = Bench(self.folder / STORE, budget_of(self.recipe.evaluate.budget, everyone))  # for all together

    def info(self, name: str) -> ModelInfo:
        """Return what the results say of a model."""
        known = self.results.models
        if name not in known:
            raise RecipeError(
                "the run has no such model",
                where=self.folder,
                value=name,
                allowed=[*known],
                do=did_you_mean(name, known, "name one of these"),
            )
        return known[name]

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a model that has weights or adapters of its own in the run, or the base from outside."""
        if self.info(name).kind == "merge":
            raise RecipeError(
                "a merged model is a point of a path, not an end",
                where=self.folder,
                value=name,
                do="name the models that it merges: " + " ".join(self.info(name).parents),
            )
        base = self.recipe.base
        stage = f"align/{name}" if name != SFT else SFT if self.recipe.sft is not None else "base"
        if stage == "base" and base.model is not None:
            return Checkpoint(base.model, base.revision)
        folder = self.folder / "stages" / stage / "model"
        if not folder.is_dir():
            raise RunError("a model of the run is not there", where=folder, do="run the recipe again: sacpo run")
        return Checkpoint(folder)

    def path(
        self, between: tuple[str, str] | None, method: Method | None
    ) -> tuple[tuple[str, ...], Merge | None, float]:
        """Return the ends of the path, the path, and where it begins."""
        if between is not None:
            return between, self._merge(between, method or "linear", 1.0), 1.0
        chosen = self._chosen()
        info = self.info(chosen)
        if info.kind == "base":
            return (chosen,), None, 1.0
        if info.kind == "step":
            ends = (info.parents[0], chosen)
            return ends, self._merge(ends, method or "linear", 1.0), 1.0
        if len(info.parents) > 2:
            raise RecipeError(
                f"the chosen model merges {len(info.parents)} models, and the slider moves between two",
                where=self.folder,
                value=chosen,
                allowed=[*info.parents],
                do=f"name two of them, as --between {' '.join(info.parents[-2:])}; or talk to it alone: "
                f"sacpo chat {self.folder / 'model'}",
            )
        ends = (info.parents[0], info.parents[1])
        spec = next(spec for spec in self.recipe.merge if spec.name == info.line)
        start = info.q if info.q is not None else 1.0
        return ends, self._merge(ends, method or spec.method, start, spec.scale), start

    def _merge(self, ends: tuple[str, str], method: Method, q: float, scale: float = 1.0) -> Merge:
        models, row = tuple(map(self.checkpoint, ends)), (1.0 - q, q)
        if method != "task-vectors":
            return Merge(method, models, row)
        return Merge(method, models, row, scale, self.checkpoint(SFT))

    def _chosen(self) -> str:
        selection = self.results.selection
        chosen = selection and (selection.chosen or selection.nearest)
        return chosen or next(reversed([n for n, info in self.results.models.items() if info.kind != "merge"]))

    def parts(self, criterion: str, spec: JudgeSpec) -> Parts:
        """Return what a criterion's judge is made from."""
        recipe = self.recipe
        trained = self.folder / "stages" / "judge-model" / criterion / "model"
        model = None if spec.kind != "reward-model" else trained if spec.model is None else spec.model
        rubric = check_judges(recipe).get(criterion)
        world = World(recipe.world) if spec.kind == "oracle" and recipe.world is not None else None
        return Parts(criterion, spec, recipe.base, model, world, rubric, self.bench)

    def prompts(self) -> list[Prompt]:
        """Return the report prompts, which nothing was trained or selected on."""
        names = [name for name, prompts in self.results.prompts.items() if prompts.role == "report"]
        files = [self.folder / "stages" / "prompts" / name / "prompts.jsonl" for name in names]
        return [prompt for file in files if file.is_file() for prompt in read_jsonl(file, Prompt)]

    def points(self, ends: tuple[str, ...], merge: Merge | None) -> list[Point]:
        """Return the path's models that were measured, in their order."""
        places: Mapping[str, float] = dict(zip(ends, (0.0, 1.0), strict=False))
        places = {**places, **self._merged(ends, merge)}
        known = [name for name in places if name in self.results.measures]
        return [
            Point(places[name], name, made_by(self.results, name), tuple(self._figures(name)))
            for name in sorted(known, key=lambda name: places[name])
        ]

    def _merged(self, ends: tuple[str, ...], merge: Merge | None) -> dict[str, float]:
        return {
            name: info.q
            for name, info in self.results.models.items()
            if merge is not None and info.parents == ends and info.method == merge.method and info.q is not None
        }

    def _figures(self, name: str) -> list[Figure]:
        selection = self.results.selection
        if selection is None:
            return []
        bounded = [self._bounded(name, bound) for bound in selection.constraints]
        metric, criterion = selection.objective.metric, selection.objective.criterion
        key = f"{metric}/{criterion}" if criterion else metric
        return [*bounded, Figure(label(key), with_interval(measure_of(self.results, name, key), key))]

    def _bounded(self, name: str, bound: Constraint) -> Figure:
        found = measure_of(self.results, name, bound.key)
        met = None
        if found is not None and found.value is not None:
            met = found.value <= bound.bound if bound.at_most is not None else found.value >= bound.bound
        return Figure(bound_words(bound), with_interval(found, bound.key), met)
