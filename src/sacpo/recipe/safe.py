"""One way to read what users write: files that end, YAML and JSON that are bounded and say one thing only.

Aliases are copies, so that a change of one section changes no other. A key stands once and is a name. What nests too
deep, grows too large or cannot be a number here is refused with its place.
"""

from __future__ import annotations

import copy
import json
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from sacpo.errors import RecipeError, UserError
from sacpo.plain import JsonObject
from sacpo.recipe.section import SURROGATE

DEEPEST = 50
"""Levels of lists and mappings; a recipe nests about five."""
MOST_VALUES = 20_000
"""Values of one YAML text after its aliases were written out; a long text counts as one for every 100 letters."""
LARGEST = 250_000
"""Bytes of a YAML text."""
LARGEST_NUMBER = 2**63 - 1
CORE = ("null", "bool", "int", "float", "str", "seq", "map")
"""YAML's types that a recipe may use; others (sets, dates, bytes) are no JSON."""
MERGE = "tag:yaml.org,2002:merge"
TOO_DEEP = f"recursion of more than {DEEPEST} levels: lists or mappings are nested too deep"


class Unbounded(yaml.MarkedYAMLError):
    """A text that is valid YAML and stands for something without end, or for far more than was written."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number and a date as text, copies aliases, and refuses what is unbounded."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - yaml's own attribute
        first: [item for item in items if item[0] != "tag:yaml.org,2002:timestamp"]
        for first, items in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012 - yaml's own attribute
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in CORE
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._inside: list[str | None] = []  # the anchors of the nodes around the one that is read
        self._values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            if event.anchor in self._inside:
                raise Unbounded(None, None, "a section refers to itself", event.start_mark)
            node = super().compose_node(parent, index)
            self._count(_size(node, len(self._inside)), event.start_mark)
            return copy.deepcopy(node)
        self._inside.append(event.anchor)
        if len(self._inside) > DEEPEST:
            raise yaml.composer.ComposerError(None, None, TOO_DEEP, event.start_mark)
        self._count(1 + len(getattr(event, "value", "")) // 100, event.start_mark)
        node = super().compose_node(parent, index)
        self._inside.pop()
        return node

    def _count(self, values: int, mark: Any) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise Unbounded(None, None, f"it stands for more than {MOST_VALUES:,} values", mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:  # `<<: *anchor`: keys beside it may repeat the anchor's
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a name", key_node.start_mark)
            if key is None or isinstance(key, bool):
                said = f"a key is not a name: {key_node.value or 'nothing'} (put a word into quotes)"
                raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if SURROGATE.search(value):
            raise yaml.constructor.ConstructorError(None, None, "half of a surrogate pair", node.start_mark)
        return value

    def whole_number(self, node: Any) -> int:
        """Return a whole number of at most 64 bits."""
        try:
            value = self.construct_yaml_int(node)
        except ValueError as error:  # such as a number of thousands of digits, and !!int abc
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error
        if abs(value) > LARGEST_NUMBER:
            said = f"a whole number beyond {LARGEST_NUMBER}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        return int(value)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)


def _size(node: Any, depth: int) -> int:
    """Return how many values a node stands for; refuse what is too deep where it is copied to."""
    if depth >= DEEPEST:
        raise yaml.composer.ComposerError(None, None, TOO_DEEP, node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value) // 100
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return 1 + sum(_size(part, depth + 1) for part in parts)


def yaml_value(text: str, name: str, where: object, kind: type[UserError] = RecipeError) -> object:
    """Return what a YAML text holds; numbers may be written as 1e-4, and no two parts of the value are one object.

    Args:
        text: The text.
        name: What it is, for messages: "recipe", "panel".
        where: Its file, or the option that it was given with.
        kind: The error to raise.

    Raises:
        UserError: It is no valid YAML, or holds what cannot be read; `kind` says which.
    """
    try:
        if len(text) > LARGEST:
            raise Unbounded(None, None, f"it is longer than {LARGEST:,} letters")
        return yaml.load(text, Loader=_Loader)
    except Unbounded as error:
        raise kind(
            f"the {name} has no end, or far too late an end: {error.problem}",
            where=_yaml_place(where, error),
            do="look at its YAML aliases (*NAME), or shorten it",
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # the latter from tags such as !!float abc
        raise kind(
            f"the {name} is not valid YAML",
            where=_yaml_place(where, error),
            value=_problem(error),
            do="correct this line, or what stands just before it",
        ) from error


def yaml_option(text: str, where: str, given: str) -> object:
    """Return the value of a NAME=VALUE option as YAML reads it; `given` is the whole option.

    Raises:
        RecipeError: It is no valid YAML.
    """
    name = "override" if where == "--set" else "option"
    try:
        return yaml_value(text, name, where)
    except RecipeError as error:
        raise RecipeError(
            f"an {name}'s value is not valid YAML: {error.value or error.what}",
            where=where,
            value=given,
            do="put the value into quotes",
        ) from error


def yaml_file(path: Path, name: str, kind: type[UserError] = RecipeError) -> object:
    """Return what a YAML file holds; see `read_text` and `yaml_value`."""
    return yaml_value(read_text(path, name, kind, LARGEST), name, path, kind)


def read_text(path: Path, name: str, kind: type[UserError] = RecipeError, largest: int | None = None) -> str:
    """Return a text file's content without its byte order mark.

    Args:
        path: The file.
        name: What it is, for messages.
        kind: The error to raise.
        largest: Most bytes; None: any number.

    Raises:
        UserError: There is no such file, it is a folder or something that never ends, or it cannot be read as text.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not path.is_dir():
            raise kind(f"the {name} is not a file that can be read to its end", where=path, do="write it to a file")
        if largest is not None and found.st_size > largest:
            raise kind(
                f"the {name} file is too large",
                where=path,
                value=f"{found.st_size:,} bytes",
                allowed=f"at most {largest:,}",
                do="give another file",
            )
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise kind(f"no such {name} file", where=path, do="give the path of a YAML file") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise kind(
            f"the {name} file cannot be read: {reason}", where=path, do="give the path of a YAML file that you may read"
        ) from error
    except UnicodeDecodeError as error:
        raise kind(
            f"the {name} file is not text", where=path, value=error.object[:16], do="give a YAML file in UTF-8"
        ) from error
    except ValueError as error:  # a null character in the path
        raise kind(f"no such {name} file", where=repr(str(path)), do="give the path of a YAML file") from error


def json_value(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: It is malformed, gives a key twice, nests too deep or holds a number of thousands of digits; a
            `json.JSONDecodeError` where the place in the text is known.
    """
    try:
        return bounded(DECODER.decode(text))
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error


def first_json(text: str, position: int) -> tuple[object, int]:
    """Return the JSON value that begins here and where it ends; errors as in `json_value`."""
    try:
        value, end = DECODER.raw_decode(text, position)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    return bounded(value), end


def bounded(value: object) -> object:
    """Return a value of lists and mappings that nest at most `DEEPEST` levels.

    Raises:
        ValueError: They nest deeper.
    """
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        inner = (item for one in level for item in (one.values() if isinstance(one, dict) else one))
        level = [item for item in inner if isinstance(item, dict | list)]
    return value


def _unique(pairs: list[tuple[str, object]]) -> JsonObject:
    """Return a JSON object; of a key given twice nobody can tell which value is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"key '{twice}' is given twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _yaml_place(where: object, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(where)


def _problem(error: Exception) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).splitlines()[0]
