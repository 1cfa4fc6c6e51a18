"""What of a recipe is published with a run: names of environment variables stand for their values in all its copies.

recipe.yaml, the manifests, results.json and the report say `${NAME}` where the recipe said so. The value is used, and
is in keys by its hash only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sacpo.plain import JsonMapping

Place = tuple[str | int, ...]
"""The keys and positions that lead to a value."""
LEAST = 6
"""Letters of a value that is looked for inside other texts; shorter ones stand in too many."""
SHOWN = ("name", "title", "model", "criterion", "metric", "x", "y", "reward", "safety", "run_name")
"""Keys whose values are themselves in results: names of models and judges, titles."""
SECRET_KEYS = re.compile(r"api[_-]?key|authorization|password|secret|(access|auth|bearer)[_-]?token", re.IGNORECASE)
SECRET = re.compile(r"\b(sk|pk|hf|ghp|gho|glpat|xox[abp])[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bBearer \S{16,}")


@dataclass(frozen=True)
class Written:
    """How a recipe was written before its environment variables got their values.

    Attributes:
        texts: What stood at a place: the text with `${NAME}` in it.
        values: What each of these texts became, and the value of each variable.
    """

    texts: dict[Place, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    def note(self, place: Place, text: str, value: str, variables: Mapping[str, str]) -> None:
        """Note a text that became another one."""
        self.texts[place] = text
        self.values[value] = text
        self.values.update({own: f"${{{name}}}" for name, own in variables.items() if len(own) >= LEAST})

    def restored(self, data: Any) -> Any:
        """Return the recipe's data with the texts as they were written; `data` is changed."""
        for place, text in self.texts.items():
            here = data
            for part in place[:-1]:
                here = here[_key(here, part)]
            here[_key(here, place[-1])] = text
        return data

    def hidden(self, data: object) -> Any:
        """Return other data with the names of variables in place of their values, also inside of texts."""
        if isinstance(data, Mapping):
            return {key: self.hidden(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.hidden(value) for value in data]
        if not isinstance(data, str) or not self.values:
            return data
        if data in self.values:
            return self.values[data]
        for value, text in sorted(self.values.items(), key=lambda pair: (-len(pair[0]), pair)):
            if len(value) >= LEAST:
                data = data.replace(value, text)
        return data


def published(data: JsonMapping, written: Written) -> list[str]:
    """Return what the user should know of what is published.

    Args:
        data: The recipe as it was written, variables by their names.
        written: How it was written.
    """
    found = [
        f"the value of {text} is published: results and reports show '{_named(place)}'"
        for place, text in written.texts.items()
        if place[-1] in SHOWN
    ]
    for place, value in _texts(data, ()):
        if place in written.texts or not value:
            continue
        if SECRET.search(value) or SECRET_KEYS.fullmatch(str(place[-1])):
            found.append(
                f"'{_named(place)}' looks like a secret, and a run publishes its recipe: "
                "put it into an environment variable and write ${NAME}"
            )
    return found


def _texts(data: object, at: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(data, str):
        yield at, data
        return
    parts = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, value in parts:
        yield from _texts(value, (*at, key))


def _key(here: Any, part: str | int) -> str | int:
    """Return a key as it is dumped: a few may be written with an underscore, as Python does."""
    return part if not isinstance(part, str) or part in here else part.removesuffix("_")


def _named(place: Place) -> str:
    return ".".join(map(str, place))
