"""The models that a recipe describes, in an order in which each comes after those it is made from."""

from __future__ import annotations

from dataclasses import dataclass

from sacpo.errors import RecipeError
from sacpo.recipe.explain import did_you_mean
from sacpo.recipe.resample import POLICY
from sacpo.recipe.schema import SFT, MergeSpec, Recipe, StepSpec
from sacpo.recipe.section import LONGEST_MODEL

TAKEN = {SFT: "the model that steps start from", POLICY: "a step's own model as it stands, where it is sampled"}


@dataclass(frozen=True)
class BaseModelNode:
    """The SFT model, or the base itself where the recipe has no `sft`."""

    name: str = SFT


@dataclass(frozen=True)
class StepModel:
    """A model trained by one step at one strength.

    Attributes:
        name: `STEP` or, in a sweep, `STEP@BETA`; `PARENT+STEP[@BETA]` when the parent is a member of a sweep.
        beta: The strength; None: the run finds it (`auto`) or weights (`dual`, `factors`), and settles the recipe.
        parent: The model that the step starts from, which is the reference of all its rounds.
        strengths: criterion -> strength of every step on the way from the SFT model, this one included; RWR aims at
            weights of the SFT model wherever it starts.
        line: Models of one line differ in strength only: the report joins them.
        start: The model that this training starts from: the parent, or the model of the round before.
        round: Which of the step's rounds it is.
    """

    name: str
    step: StepSpec
    beta: float | None
    parent: str
    strengths: tuple[tuple[str, float], ...]
    line: str
    start: str
    round: int = 1

    @property
    def title(self) -> str:
        """The step's name, and the round where there are several."""
        return _round_name(self.step, self.round)


@dataclass(frozen=True)
class MergedModel:
    """A merged model.

    Attributes:
        weights: One for each of the models; of two models `(1 - q, q)`.
        line: Models of one merge differ in their weights only.
    """

    name: str
    spec: MergeSpec
    weights: tuple[float, ...]
    models: tuple[str, ...]
    line: str

    @property
    def q(self) -> float | None:
        """The weight of the later of two models; None for more models."""
        return self.weights[-1] if len(self.weights) == 2 else None


Node = BaseModelNode | StepModel | MergedModel


def model_graph(recipe: Recipe) -> dict[str, Node]:
    """Return every model of the recipe by name, parents first.

    Raises:
        RecipeError: Two models share a name, or a step or merge names an unknown, ambiguous or cyclic model.
    """
    nodes: dict[str, Node] = {SFT: BaseModelNode()}
    members: dict[str, list[str]] = {SFT: [SFT]}
    _check_starts(recipe)
    for index in _ordered(recipe.steps):
        step = recipe.steps[index]
        parents = _members(parent_name(recipe.steps, index), members, nodes, f"steps.{index}.from")
        for parent in parents:
            for beta in (None,) if step.dual or step.multiplied else step.betas or (None,):
                for node in _rounds(step, beta, nodes[parent], len(parents) > 1):
                    last = node.round == step.rounds
                    _add(nodes, members, step.name if last else node.name, node, f"steps.{index}.name")
    for index, spec in enumerate(recipe.merge):
        if spec.name in members:
            raise RecipeError(
                "two models have the same name", where=f"merge.{index}.name", value=spec.name, do="rename one of them"
            )
        where = f"merge.{index}.models"
        merged = tuple(_single(name, members, nodes, where) for name in spec.models)  # of `auto` too, which has no q
        for row in spec.rows:
            combined = MergedModel(spec.model_name(row), spec, row, merged, spec.name)
            _add(nodes, members, spec.name, combined, f"merge.{index}.name")
    return nodes


def parent_name(steps: tuple[StepSpec, ...], index: int) -> str:
    """Return the name that a step starts from: its `from`, else the step before, else "sft"."""
    return steps[index].from_ or (steps[index - 1].name if index else SFT)


def _check_starts(recipe: Recipe) -> None:
    merges = [spec.name for spec in recipe.merge]
    for index, step in enumerate(recipe.steps):
        if step.name in TAKEN:
            raise RecipeError(
                f"two models have the same name: '{step.name}' is {TAKEN[step.name]}",
                where=f"steps.{index}.name",
                value=step.name,
                do="rename the step",
            )
        if step.from_ is not None and step.from_.split("@")[0] in merges:
            raise RecipeError(
                "a step starts from a trained model, not from a merge",
                where=f"steps.{index}.from",
                value=step.from_,
                do="name 'sft', a step, or a member of a sweep",
            )


def _rounds(step: StepSpec, beta: float | None, parent: Node, crossed: bool) -> list[StepModel]:
    """Return the models of a step at one strength, one a round; what they aim at is the same."""
    before = parent.strengths if isinstance(parent, StepModel) and step.algorithm != "rwr" else ()
    strengths = before if beta is None else (*before, *step.aims(beta))
    found: list[StepModel] = []
    for number in range(1, step.rounds + 1):
        title = _round_name(step, number)
        own = f"{title}@{beta:g}" if step.swept else title
        name = f"{parent.name}+{own}" if crossed else own
        start = found[-1].name if found else parent.name
        found.append(StepModel(name, step, beta, parent.name, strengths, title, start, number))
    return found


def _round_name(step: StepSpec, number: int) -> str:
    return step.name if step.rounds == 1 else f"{step.name}-{number}"


def _add(nodes: dict[str, Node], members: dict[str, list[str]], group: str, node: Node, where: str) -> None:
    if node.name in nodes:
        raise RecipeError("two models have the same name", where=where, value=node.name, do="rename one of them")
    if len(node.name) > LONGEST_MODEL:
        raise RecipeError(
            "a model's name is too long: it holds the names of the steps before",
            where=where,
            value=node.name,
            allowed=f"at most {LONGEST_MODEL} letters",
            do="give shorter names to the steps that are swept",
        )
    nodes[node.name] = node
    members.setdefault(group, []).append(node.name)


def _ordered(steps: tuple[StepSpec, ...]) -> list[int]:
    position = {step.name: index for index, step in enumerate(steps)}
    if len(position) < len(steps):
        taken = [step.name for step in steps]
        twice = next(name for index, name in enumerate(taken) if name in taken[:index])
        raise RecipeError("two steps have the same name", where="steps", value=twice, do="rename one of them")
    done: list[int] = []
    for start in range(len(steps)):
        path: list[int] = []
        index: int | None = start
        while index is not None and index not in done:
            if index in path:
                names = " -> ".join(steps[i].name for i in [*path[path.index(index) :], index])
                raise RecipeError(
                    "steps start from each other in a cycle",
                    where=f"steps.{index}.from",
                    value=names,
                    do="let one of them start from 'sft'",
                )
            path.append(index)
            index = position.get(parent_name(steps, index).split("@")[0].split("+")[-1])
        done.extend(reversed(path))
    return done


def _members(name: str, members: dict[str, list[str]], nodes: dict[str, Node], where: str) -> list[str]:
    if name in nodes and name not in members:
        return [name]
    if name in members:
        return members[name]
    raise RecipeError(
        "no such model",
        where=where,
        value=name,
        allowed=[*nodes],
        do=did_you_mean(name, nodes, "name 'sft', a step, or a member of a sweep"),
    )


def _single(name: str, members: dict[str, list[str]], nodes: dict[str, Node], where: str) -> str:
    found = _members(name, members, nodes, where)
    if isinstance(nodes[found[0]], MergedModel):
        raise RecipeError(
            "a merge is between trained models, not between merged ones",
            where=where,
            value=name,
            allowed=[other for other, node in nodes.items() if not isinstance(node, MergedModel)],
            do="name 'sft' or the model of a step",
        )
    if len(found) > 1:
        raise RecipeError(
            "this name stands for several models", where=where, value=name, allowed=found, do="name one of them"
        )
    return found[0]
