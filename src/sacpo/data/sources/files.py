"""Local files as rows: JSON, JSON lines, CSV and TSV, gzipped or not, Parquet and Arrow, each row with its line.

JSON and CSV are read with the standard library, so that an error can name the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sacpo.data.sources.rows import Row, nearest
from sacpo.errors import DataError
from sacpo.plain import JsonObject
from sacpo.recipe.safe import first_json, json_value

Numbered = Iterator[tuple[int, JsonObject]]
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
TABLES = (".csv", ".tsv")
SAVED, SPLITS = "state.json", "dataset_dict.json"
"""What `datasets.Dataset.save_to_disk` writes beside its tables, and `DatasetDict.save_to_disk` above its splits."""
SPACE = " \t\r\n"
WRAPPED = re.compile(r'\s*\{\s*"data"\s*:\s*(?=\[)')
"""The beginning of a file whose rows stand in a list that is the only value of an object."""
MAX_FIELD = 2**31 - 1
SEPARATORS = (",", ";", "\t", "|")


def suffix(path: Path) -> str:
    """Return a file's suffix in lower case, that before `.gz` for a gzipped file."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def local(text: str) -> Path:
    """Return the file that a path of the recipe means; a home folder that nobody has stays as it is written."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def looks_local(text: str) -> bool:
    """Return whether a path of the recipe means a local file and not a hub id."""
    path = local(text)
    return (
        path.exists()
        or path.is_symlink()
        or suffix(path) in SUFFIXES
        or text.startswith((".", "/", "~"))
        or text.endswith(".gz")
    )


def read_file(path: Path, name: str) -> Iterator[Row]:
    """Yield a file's rows in order.

    Raises:
        DataError: The file is missing, empty, of an unknown type or malformed; file and line are named.
    """
    check_file(path)
    if path.is_dir() or suffix(path) in BINARY:
        numbered: Numbered = enumerate((row for file in files_of(path) for row in BINARY[suffix(file)](file)), 1)
        unit = "row"
    else:
        numbered, unit = READERS[suffix(path)](file_text(path), path), "line"
    empty = True
    for number, data in numbered:
        empty = False
        yield Row(data, f"{path}, {unit} {number}", f"{name}:{path.name}:{number}", table=suffix(path) in TABLES)
    if empty:
        raise DataError("the file holds no row", where=path, do="give a file with at least one row")


def check_file(path: Path) -> None:
    """Check that the path is a file of a known type, or a folder that `datasets.Dataset.save_to_disk` wrote.

    Raises:
        DataError: It is not; the nearest file beside it is named.
    """
    if path.is_dir():
        for file in files_of(path):
            check_file(file)
        return
    if path.exists() and not path.is_file():
        raise DataError(
            "not a file that can be read to its end", where=path, allowed=SUFFIXES, do="write its rows to a file"
        )
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        hint = f"did you mean {path.parent / near}?" if near else "check the path; it is relative to the working folder"
        raise DataError("no such file", where=path, do=hint)
    if suffix(path) not in SUFFIXES:
        raise DataError(
            "unknown type of file",
            where=path,
            value=path.name,
            allowed=[*SUFFIXES, "and .gz of these"],
            do="rename the file after its format, or convert it",
        )


def files_of(path: Path) -> list[Path]:
    """Return the files that a path of a recipe is: itself, or the tables of a folder that `save_to_disk` wrote.

    Raises:
        DataError: It is another folder, or one that lists no tables.
    """
    if not path.is_dir():
        return [path]
    if (path / SPLITS).is_file():
        splits = sorted(str(found.parent) for found in path.glob(f"*/{SAVED}"))
        raise DataError("a folder of several splits", where=path, allowed=splits, do="name one of them under 'path'")
    if not (path / SAVED).is_file():
        raise DataError("a folder, not a file", where=path, allowed=SUFFIXES, do="list the files under 'path'")
    try:
        return [path / Path(one["filename"]).name for one in json.loads((path / SAVED).read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            "the folder does not say which tables it holds",
            where=path / SAVED,
            do="save the data set again (save_to_disk), or as Parquet",
        ) from error


def file_text(path: Path) -> str:
    """Return a UTF-8 file's text without its byte order mark, unpacked where it is gzipped.

    Raises:
        DataError: It cannot be read, is a broken gzip file, or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}", where=path, do="check the file and its permissions"
        ) from error
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"broken gzip file: {error}", where=path, do="fetch or pack it again") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            "not UTF-8",
            where=f"{path}, line {line}",
            value=raw[error.start : error.start + 4],
            do="save the file as UTF-8",
        ) from error
    if not text.strip():
        raise DataError("the file is empty", where=path, do="give a file with at least one row")
    return text


def _json(text: str, path: Path) -> Numbered:
    """Yield the objects of a JSON list, of {"data": [...]}, or of JSON lines under the suffix .json."""
    wrapped = WRAPPED.match(text)
    position = wrapped.end() if wrapped else _skip_space(text, 0)
    if text[position] == "{":
        yield from _json_lines(text, path)
        return
    if text[position] != "[":
        raise DataError(
            "not a list of objects",
            where=path,
            value=text[:40],
            allowed="[{...}, {...}] or {...} a line",
            do="write the file as a list of objects",
        )
    line, counted, position = 1, 0, position + 1
    try:
        position = _skip_space(text, position)
        while text[position : position + 1] != "]":
            line, counted = line + text.count("\n", counted, position), position
            item, position = first_json(text, position)
            yield line, _object(item, f"{path}, line {line}")
            position = _skip_space(text, position)
            if text[position : position + 1] == ",":
                position = _skip_space(text, position + 1)
            elif text[position : position + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
    except json.JSONDecodeError as error:
        raise _malformed(path, error.lineno, error.msg, text[error.pos : error.pos + 40]) from error
    except ValueError as error:  # numbers of thousands of digits, thousands of brackets
        raise _malformed(path, line, str(error), text[position : position + 40]) from error
    rest = _skip_space(text, position + 1)
    if wrapped and text[rest : rest + 1] == "}":
        rest = _skip_space(text, rest + 1)
    elif wrapped:
        raise _malformed(path, text.count("\n", 0, rest) + 1, 'more than "data" in the object', text[rest : rest + 40])
    if rest < len(text):
        raise _malformed(path, text.count("\n", 0, rest) + 1, "text after the list", text[rest : rest + 40])


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in SPACE:
        position += 1
    return position


def _json_lines(text: str, path: Path) -> Numbered:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip(SPACE):
            try:
                item = json_value(line)
            except ValueError as error:
                raise _malformed(path, number, getattr(error, "msg", str(error)), line.strip(SPACE)[:40]) from error
            yield number, _object(item, f"{path}, line {number}")


def _object(item: object, place: str) -> JsonObject:
    if not isinstance(item, dict):
        raise DataError(
            "a row that is no JSON object",
            where=place,
            value=item,
            allowed='{"column": value, ...}',
            do="correct or remove this row",
        )
    return item


def _malformed(path: Path, line: int, problem: str, value: str) -> DataError:
    return DataError(
        f"malformed JSON: {problem}", where=f"{path}, line {line}", value=value, do="correct or remove this line"
    )


def _csv(text: str, path: Path) -> Numbered:
    return _table(text, path, ",")


def _tsv(text: str, path: Path) -> Numbered:
    return _table(text, path, "\t")


def _table(text: str, path: Path, delimiter: str) -> Numbered:
    # `strict`: without it a quote that is never closed swallows the rest of the file in silence.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = _next_row(rows, path)
    if header is None:
        return
    if len(header) == 1 and any(other in header[0] for other in SEPARATORS if other != delimiter):
        raise DataError(
            "a table of one column: its columns are separated by something else",
            where=f"{path}, line 1",
            value=header[0],
            allowed="commas in a .csv file, tabs in a .tsv file",
            do="rename the file, or write it with this separator",
        )
    if len(set(header)) < len(header):
        raise DataError("two columns have one name", where=f"{path}, line 1", value=header, do="rename one of them")
    while True:
        line = rows.line_num + 1
        row = _next_row(rows, path)
        if row is None:
            return
        if not row:  # a blank line
            continue
        if len(row) != len(header):
            raise DataError(
                f"{len(row)} fields in a table of {len(header)} columns",
                where=f"{path}, line {line}",
                value=row[0],
                do="put texts that contain the separator into double quotes",
            )
        yield line, dict(zip(header, row, strict=True))


def _next_row(rows: Any, path: Path) -> list[str] | None:
    limit = csv.field_size_limit(MAX_FIELD)  # the library's own limit, 128 kB a field, is less than a long dialogue
    try:
        return next(rows, None)
    except csv.Error as error:
        raise DataError(
            f"malformed table: {error}",
            where=f"{path}, line {rows.line_num}",
            do='close every quote; a quote inside a quoted text is written ""',
        ) from error
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path) -> Iterator[JsonObject]:
    import pyarrow.parquet as parquet

    return _columns(path, "Parquet", parquet.read_table)


def _arrow(path: Path) -> Iterator[JsonObject]:
    """Read a stream, as `datasets` writes it, or a file with an index at its end (Feather)."""
    import pyarrow as arrow

    def read(place: Path) -> Any:
        with arrow.memory_map(str(place)) as source:
            try:
                return arrow.ipc.open_stream(source).read_all()
            except arrow.ArrowInvalid:
                return arrow.ipc.open_file(source).read_all()

    return _columns(path, "Arrow", read)


def _columns(path: Path, kind: str, read: Callable[[Path], Any]) -> Iterator[JsonObject]:
    import pyarrow as arrow

    try:
        table = read(path)
    except (arrow.ArrowInvalid, OSError) as error:
        raise DataError(f"the {kind} file cannot be read: {error}", where=path, do="fetch or write it again") from error
    for batch in table.to_batches():
        yield from batch.to_pylist()


BINARY: dict[str, Callable[[Path], Iterator[JsonObject]]] = {".parquet": _parquet, ".arrow": _arrow}
READERS: dict[str, Callable[[str, Path], Numbered]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
}
