"""What is talked to: a path of models, the model beside it, the judges, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sacpo.data.records import Kind, Prompt
from sacpo.errors import RecipeError
from sacpo.judging.question import Judge
from sacpo.merge.source import Checkpoint, Merge
from sacpo.plain import JsonObject
from sacpo.recipe.schema import BaseSpec, GenerationSpec

LISTED = 12
"""Examples of each kind that are offered."""
MakeJudge = Callable[[], Judge]


@dataclass(frozen=True)
class Figure:
    """A measured figure of one model, in words.

    Attributes:
        label: What was measured: "unsafe answers at most 6.0 %", "win rate, helpfulness".
        value: The figure with its interval.
        met: Whether it meets its bound; None: it has none, or was not measured.
    """

    label: str
    value: str
    met: bool | None = None


@dataclass(frozen=True)
class Point:
    """A model of the path that was measured.

    Attributes:
        q: Its place on the path.
        name: The model's name.
        made: How it was made, strengths included.
        figures: What was measured of it on report prompts.
    """

    q: float
    name: str
    made: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Setting:
    """What is talked to.

    Attributes:
        title: The run's name or the models'.
        path: A merge whose q moves, or one model.
        ends: Names of the models at q = 0 and q = 1; one name: there is no path.
        base: Template, dtype, device and consent to remote code.
        generation: How answers are decoded.
        q: Where the slider stands first.
        line: The path's name, for names of its models.
        beside: Name and place of the model whose answer stands beside; None: there is none.
        judges: What makes the judge of each criterion.
        examples: Prompts that the models were made for; what judges know of them counts when they are asked.
        points: The path's models that were measured.
        alone: Why each question is asked by itself; "": it is not.
        seed: Of sampled answers.
        notes: What must be said.
    """

    title: str
    path: Merge | Checkpoint
    ends: tuple[str, ...]
    base: BaseSpec
    generation: GenerationSpec
    q: float = 1.0
    line: str = ""
    beside: tuple[str, Checkpoint] | None = None
    judges: Mapping[str, MakeJudge] = field(default_factory=dict)
    examples: tuple[Prompt, ...] = ()
    points: tuple[Point, ...] = ()
    alone: str = ""
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether there is a path to move along."""
        return len(self.ends) == 2

    def name_at(self, q: float) -> str:
        """Return the name of the model at q: an end's own, or the path's with its q."""
        if not self.moves or q in (0.0, 1.0):
            return self.ends[int(q) if self.moves else 0]
        measured = next((point.name for point in self.points if point.q == q), None)
        return measured or f"{self.line}@q{q:g}"

    def _listed(self) -> list[Prompt]:
        """Return the first single questions of each kind."""
        single = [prompt for prompt in self.examples if len(prompt.messages) == 1]
        return [p for kind in Kind for p in [p for p in single if p.kind is kind][:LISTED]]

    def shown(self) -> JsonObject:
        """Return what a page or a terminal shows of it."""
        return {
            "title": self.title,
            "ends": list(self.ends),
            "moves": self.moves,
            "q": self.q,
            "beside": self.beside[0] if self.beside is not None else None,
            "judges": list(self.judges),
            "examples": [{"kind": str(prompt.kind), "text": prompt.text} for prompt in self._listed()],
            "points": [
                {
                    "q": point.q,
                    "name": point.name,
                    "made": point.made,
                    "figures": [{"label": f.label, "value": f.value, "met": f.met} for f in point.figures],
                }
                for point in self.points
            ],
            "alone": self.alone,
            "temperature": self.generation.temperature if self.generation.do_sample else 0.0,
            "max_new_tokens": self.generation.max_new_tokens,
            "notes": list(self.notes),
        }


def checked_q(q: float) -> float:
    """Return a place on the path.

    Raises:
        RecipeError: It is outside of it.
    """
    if not 0.0 <= q <= 1.0:
        raise RecipeError("q is a place on the path", where="q", value=q, allowed="0 to 1", do="correct it")
    return q


def why_alone(template: str, world: bool) -> str:
    """Return why each question is asked by itself; "" where a conversation can be continued."""
    if world:
        return "These models were trained on single questions: each is asked by itself."
    if template == "plain":
        return "The template 'plain' knows no turns: each question is asked by itself."
    return ""
