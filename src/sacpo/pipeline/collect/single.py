"""From what a user gives to `collect` to its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo.errors import RecipeError
from sacpo.judging.llm.specs import budget_of, check_orders, check_panel, rubric_of
from sacpo.judging.rubric import Form
from sacpo.merge.source import Checkpoint
from sacpo.pipeline.collect.drawing import DrawnPairs, Sampler, WorldPrompts
from sacpo.pipeline.collect.labels import Labeller, PeoplesVerdicts, rates
from sacpo.pipeline.collect.stage import DATA, Collected, FolderOfPairs
from sacpo.pipeline.judges import CriterionJudge, options_of
from sacpo.pipeline.outside import FilePrompts, FileRecords
from sacpo.pipeline.single import OutFolder, do_in, do_single
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonMapping
from sacpo.recipe.collect import COMPARED, LABELLED, DrawSpec, LabelSpec
from sacpo.recipe.explain import checked
from sacpo.recipe.safe import yaml_file
from sacpo.recipe.schema import BaseSpec, DataSpec, GenerationSpec, JudgeSpec, WorldSpec
from sacpo.system import processes
from sacpo.system.progress import Progress

Options = JsonMapping | None
PAIRS, ROWS, CACHE = "pairs", "data", "cache"


def collecting(
    model: str | Path,
    prompts: str | Path | Sequence[str | Path],
    out: Path,
    judges: str | Path | JsonMapping | None,
    format: str,
    draw: DrawSpec,
    options: tuple[Options, Options],
    seed: int,
    ask_again: bool,
    progress: Progress,
) -> Path:
    """Do what `sacpo.api.collect` says; `options` are those of answering and those of the models."""
    generation, base = options
    spec = None if judges is None else _labels(judges)
    if ask_again and (spec is None or not any(judge.kind == "llm" for judge in spec.judges.values())):
        raise RecipeError(
            "nobody can be asked again: no language model labels",
            where="--ask-again",
            allowed="only where language models label",
            do="leave it out, or name such a judge in the file of --judges",
        )
    models = [model] if draw.second is None else [model, draw.second]
    stage = DrawnPairs(
        samplers=tuple(_samplers(models, draw.temperatures, base, generation)),
        prompts=_prompts(prompts, format, draw.limit, seed, None if spec is None else spec.world),
        samples=draw.samples,
        pairs=draw.pairs,
        near=draw.near,
        seed=seed,
    )
    labellers = {} if spec is None else _labellers(spec, base)  # before anything is sampled
    folder = do_single("sample", stage, out / PAIRS, progress)
    if spec is None:
        return folder
    counted = spec.model_dump(mode="json", include={"labels", "votes", "score_scale", "ties"})
    labelled = Collected(FolderOfPairs(folder), labellers, counted, seed, spec)
    panel = [judge for one in spec.judges.values() for judge in one.judges]
    with OutFolder(out / ROWS, "label", progress) as rows:
        tools = Tools(rows, cache=out / CACHE, progress=progress, budget=budget_of(spec.budget, panel))
        if ask_again and processes.is_first():
            tools.bench.ask_again()
        return do_in(rows, labelled, tools, again=ask_again) / DATA


def _labels(judges: str | Path | JsonMapping) -> LabelSpec:
    if isinstance(judges, Mapping):
        return checked(LabelSpec, judges)
    data = yaml_file(Path(judges), "judges")
    if not isinstance(data, dict):
        raise RecipeError(
            "a file of judges is a mapping", where=judges, allowed=[*LabelSpec.model_fields], do="see docs/collect.md"
        )
    return checked(LabelSpec, data)


def _samplers(
    models: Sequence[str | Path],
    temperatures: Sequence[float],
    base: Options,
    generation: Options,
) -> list[Sampler]:
    if len({_title(model) for model in models}) < len(models):
        raise RecipeError("both models have one name", where="second", value=_title(models[0]), do="rename a folder")
    found = []
    for model in models:
        spec = checked(BaseSpec, base, model=str(model))
        for temperature in temperatures:
            options = checked(GenerationSpec, generation, do_sample=True, temperature=temperature)
            title = f"{_title(model)}@{temperature:g}" if len(temperatures) > 1 else _title(model)
            found.append(Sampler(title, Checkpoint(model, spec.revision), spec, options))
    return found


def _title(model: str | Path) -> str:
    """Return how data calls a model: the hub id, or the folder's name with that of the folder around it."""
    folder = Path(model).expanduser()
    return "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else str(model)


def _prompts(prompts: Any, format: str, limit: int | None, seed: int, world: WorldSpec | None) -> Any:
    names = [str(prompts)] if isinstance(prompts, str | Path) else [str(name) for name in prompts]
    if format != "world":
        specs = tuple(checked(DataSpec, format=format, path=name, limit=limit, **{"as": "prompts"}) for name in names)
        return FilePrompts(FileRecords(specs, seed))
    if world is None or limit is None or len(names) != 1:
        raise RecipeError(
            "the world's prompts need a world, a split and a limit",
            where="format",
            value=format,
            do="name the split as --prompts, say --draw limit=100, and name a 'world' in the file of --judges",
        )
    return WorldPrompts(world, names[0], limit, seed)


def _labellers(spec: LabelSpec, base: Options) -> dict[str, Labeller]:
    """Return who labels what, in the order in which it is asked."""
    found: dict[str, Labeller] = {}
    for criterion in (*COMPARED, *LABELLED):
        if criterion in spec.people:
            found[criterion] = _people(spec.people[criterion])
        elif criterion in spec.judges:
            found[criterion] = _judge(criterion, spec.judges[criterion], spec.world, base)
    if spec.score_scale != 1 and not any(_scores(found.get(criterion)) for criterion in COMPARED):
        raise RecipeError(
            "'score_scale' has no effect here: no judge that compares the answers gives scores",
            where="score_scale",
            value=spec.score_scale,
            do="leave it out",
        )
    return found


def _scores(labeller: Labeller | None) -> bool:
    return isinstance(labeller, CriterionJudge) and (labeller.spec.kind != "llm" or rates(labeller))


def _people(path: str) -> PeoplesVerdicts:
    if not Path(path).is_file():
        raise RecipeError(
            "no such store of labels", where="people", value=path, do="name the file of sacpo label's --store"
        )
    return PeoplesVerdicts(path)


def _judge(criterion: str, spec: JudgeSpec, world: WorldSpec | None, base: Options) -> CriterionJudge:
    if spec.kind == "llm":
        check_panel(spec.judges, f"judges.{criterion}")
    rubric = rubric_of(criterion, spec, f"judges.{criterion}") if spec.kind == "llm" else None
    if rubric is not None and (rubric.kind is Form.LABEL) == (criterion in COMPARED):
        compares = "a rubric that compares two answers, or rates each"
        raise RecipeError(
            "this rubric does not give what is labelled",
            where=f"judges.{criterion}.rubric",
            value=rubric.name,
            allowed=compares if criterion in COMPARED else "a rubric of kind label",
            do="name another rubric",
        )
    if rubric is not None:
        check_orders(spec, rubric, f"judges.{criterion}")
    own = {name: value for name, value in (base or {}).items() if name in ("template", "dtype", "device")}
    return CriterionJudge(
        criterion=criterion,
        counted=options_of(spec),
        base=checked(BaseSpec, own, model=spec.model or "none"),
        model=None if spec.model is None else Checkpoint(spec.model, spec.revision),
        world=world if spec.kind == "oracle" else None,
        rubric=rubric,
        spec=spec,
    )
