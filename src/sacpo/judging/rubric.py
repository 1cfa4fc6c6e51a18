"""Rubrics: what a judge is told to judge by, and what form its verdict has.

Built-in ones lie beside this module as YAML files in our own words; a user's rubric is such a file.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.recipe.safe import yaml_file
from sacpo.system.files import content_key

FOLDER = Path(__file__).parent / "rubrics"


class Form(enum.StrEnum):
    """What a verdict consists of."""

    SCORES = "scores"  # two answers, a score each
    VERDICT = "verdict"  # two answers: the first, the second or a tie
    LABEL = "label"  # one answer, one of several labels
    RATING = "rating"  # one answer, one score


@dataclass(frozen=True)
class Rubric:
    """What to judge by.

    Attributes:
        name: Names the rubric in messages.
        criterion: What its verdicts are filed under.
        kind: The form of a verdict.
        task: The instructions, without the form of the reply.
        role: Who the judge is: the system message's beginning.
        scale: Lowest and highest score, both allowed; for scores and ratings.
        labels: What each label means, for labels.
        categories: What each category means; may be empty.
        categorised: The label that comes with categories.
        explain: Ask for a short reason before the verdict.
    """

    name: str
    criterion: str
    kind: Form
    task: str
    role: str = "You judge assistants' answers."
    scale: tuple[float, float] = (1.0, 10.0)
    labels: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)
    categorised: str = ""
    explain: bool = True

    @property
    def pairwise(self) -> bool:
        """Whether it compares two answers."""
        return self.kind in (Form.SCORES, Form.VERDICT)

    @functools.cached_property
    def key(self) -> str:
        """Content hash of everything the judge is told."""
        return content_key(asdict(self))


def builtin_rubrics() -> list[str]:
    """Return the names of the rubrics that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_rubric(source: str | Path, where: str = "rubric") -> Rubric:
    """Return a built-in rubric by its name, or a user's by its file; `where` says who names it.

    Raises:
        DataError: There is no such rubric, or the file is none; the message names file and field.
    """
    text = str(source)
    path = FOLDER / f"{text}.yaml" if text in builtin_rubrics() else Path(source)
    if not path.exists():
        raise DataError(
            "no such rubric",
            where=where,
            value=text,
            allowed=[*builtin_rubrics(), "a YAML file"],
            do="name one of these",
        )
    return _rubric(yaml_file(path, "rubric", DataError), path)


_REQUIRED = ("name", "criterion", "kind", "task")
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "criterion", "task", "role", "categorised"), str),
    **dict.fromkeys(("labels", "categories"), dict),
    "kind": str,
    "scale": list,
    "explain": bool,
}


def _rubric(data: object, path: Path) -> Rubric:
    if not isinstance(data, dict):
        raise DataError("a rubric is a mapping of fields", where=path, value=data, allowed=sorted(_TYPES))
    for name, value in data.items():
        if name not in _TYPES:
            raise DataError("no such field in a rubric", where=path, value=name, allowed=sorted(_TYPES))
        if not isinstance(value, _TYPES[name]) or value == "":
            raise DataError("a field of the rubric has the wrong type", where=f"{path}, {name}", value=value)
    missing = [name for name in _REQUIRED if name not in data]
    if missing:
        raise DataError("a rubric lacks fields", where=path, value=missing, allowed=_REQUIRED)
    if data["kind"] not in list(Form):
        raise DataError("no such kind of rubric", where=f"{path}, kind", value=data["kind"], allowed=list(Form))
    _check_labels(data, path)
    fields = {**data, "kind": Form(data["kind"])}
    if "scale" in data:
        if data["kind"] not in (Form.SCORES, Form.RATING):
            raise DataError(
                "'scale' has no effect here: it is about scores",
                where=f"{path}, scale",
                value=data["scale"],
                do=f"leave it out, or name another kind than {data['kind']}",
            )
        fields["scale"] = _scale(data["scale"], path)
    for name in ("labels", "categories"):
        if name in data:
            fields[name] = {normal(key): str(text) for key, text in data[name].items()}
    return Rubric(**fields)


def normal(name: object) -> str:
    """Return a label in the form in which labels are compared: lower case, words joined by underscores."""
    words = "".join(c if c.isalnum() else " " for c in str(name).casefold()).split()
    return "_".join(words)


def _check_labels(data: JsonObject, path: Path) -> None:
    if (data["kind"] == Form.LABEL) != bool(data.get("labels")):
        raise DataError(
            "labels belong to rubrics of kind label, and these need them", where=f"{path}, labels", value=data["kind"]
        )
    if data.get("labels") and len({normal(name) for name in data["labels"]}) < 2:
        raise DataError("a rubric needs two labels or more", where=f"{path}, labels", value=list(data["labels"]))
    if bool(data.get("categories")) != bool(data.get("categorised")):
        raise DataError("categories need 'categorised', the label they belong to, and the reverse", where=path)
    labels = data.get("labels") or {}
    if data.get("categorised") and data["categorised"] not in labels:
        raise DataError(
            "no such label",
            where=f"{path}, categorised",
            value=data["categorised"],
            allowed=list(labels) or "none: only rubrics of kind label have labels",
        )


def _scale(value: list[object], path: Path) -> tuple[float, float]:
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(value) != 2 or len(numbers) != 2 or not -math.inf < numbers[0] < numbers[1] < math.inf:
        raise DataError("a scale is its lowest and its highest score", where=f"{path}, scale", value=value)
    return float(numbers[0]), float(numbers[1])
