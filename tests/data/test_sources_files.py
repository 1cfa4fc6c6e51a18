"""Reading files: every type of file gives the same rows, and every error names the file, the line and the remedy."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.feather
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sacpo.data.sources import read_source
from sacpo.data.sources.files import read_file
from sacpo.data.sources.key import source_key
from sacpo.errors import DataError
from sacpo.recipe.schema import DataSpec, SourceSpec

ROWS = [{"prompt": "Q é", "chosen": 'A\nB, "C"', "rejected": "x\ty"}, {"prompt": "R", "chosen": "D", "rejected": "E"}]
GOOD = '{"prompt": "Q", "chosen": "A", "rejected": "B"}\n'


def table(rows: list[dict[str, str]], delimiter: str) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def contents(rows: list[dict[str, str]]) -> dict[str, bytes]:
    texts = {
        "list.json": json.dumps(rows, indent=2),
        "compact.json": json.dumps(rows),
        "lines.json": lines(rows),
        "lines.jsonl": lines(rows),
        "table.csv": table(rows, ","),
        "table.tsv": table(rows, "\t"),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["crlf.jsonl"] = lines(rows).replace("\n", "\r\n").encode()
    files["blank.jsonl"] = ("\n" + lines(rows).replace("\n", "\n\n")).encode()
    files |= {f"bom-{name}": b"\xef\xbb\xbf" + raw for name, raw in files.items()}
    return files | {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in files.items()}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_every_type_of_file_gives_the_same_rows(tmp_path: Path, texts: list[str]) -> None:
    rows = [{"prompt": text, "chosen": f"{text}1", "rejected": f"2{text}"} for text in texts] + ROWS
    for name, raw in contents(rows).items():
        path = tmp_path / name
        path.write_bytes(raw)
        assert [row.data for row in read_file(path, "x")] == rows, name


def test_rows_name_the_line_that_they_begin_on(tmp_path: Path) -> None:
    """The first row of the table has a line break in a field, so the second begins on line 4."""
    expected = {"list.json": [2, 7], "compact.json": [1, 1], "lines.jsonl": [1, 2], "table.csv": [2, 4]}
    expected |= {"blank.jsonl": [2, 4], "crlf.jsonl": [1, 2], "bom-table.tsv.gz": [2, 4]}
    for name, numbers in expected.items():
        path = tmp_path / name
        path.write_bytes(contents(ROWS)[name])
        rows = list(read_file(path, "x"))
        assert [row.place for row in rows] == [f"{path}, line {n}" for n in numbers]
        assert [row.source for row in rows] == [f"x:{name}:{n}" for n in numbers]


def test_rows_in_the_only_value_of_an_object(tmp_path: Path) -> None:
    """Both rows are found, with their own lines; what stands beside them in the object is not left out in silence."""
    path = tmp_path / "wrapped.json"
    path.write_text('{"data": [\n{"prompt": "Q"},\n{"prompt": "R"}\n]}\n')
    assert [(row.data, row.place) for row in read_file(path, "x")] == [
        ({"prompt": "Q"}, f"{path}, line 2"),
        ({"prompt": "R"}, f"{path}, line 3"),
    ]
    path.write_text('{"data": [{"prompt": "Q"}],\n"more": 1}')
    with pytest.raises(DataError) as caught:
        list(read_file(path, "x"))
    assert 'more than "data"' in str(caught.value)


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    chat = [{"prompt": "Q", "chosen": [{"role": "assistant", "content": "A"}], "rejected": None}]
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(chat).to_parquet(str(path))
    (row,) = read_file(path, "x")
    assert row.data == chat[0] and row.place == f"{path}, row 1"


def test_messages_that_a_table_was_written_of_are_no_texts(tmp_path: Path) -> None:
    """`datasets` and pandas print lists of messages into CSV files; JSON lines and Parquet hold them."""
    rows = [
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "Q"}],
            "chosen": [{"content": "A", "role": "assistant"}],
            "rejected": [{"content": "B", "role": "assistant"}],
        }
    ]
    data = datasets.Dataset.from_list(rows)
    data.to_json(tmp_path / "a.jsonl")
    data.to_csv(tmp_path / "a.csv")
    data.to_csv(tmp_path / "a.tsv", sep="\t")
    data.map(lambda row: {"prompt": "Q", "messages": row["prompt"]}).to_csv(tmp_path / "prompt.csv")
    data.rename_column("chosen", "better").to_csv(tmp_path / "named.csv")

    def read(name: str, format: str = "preference", **more: Any) -> int:
        spec = SourceSpec(format=format, path=str(tmp_path / name), **more)  # type: ignore[arg-type]
        return len(read_source(spec, name="a", seed=0).records)

    assert read("a.jsonl") == 1
    for name, field in (("a.csv", "prompt"), ("a.tsv", "prompt"), ("prompt.csv", "chosen"), ("named.csv", "prompt")):
        columns = {"chosen": "better"} if name == "named.csv" else {}
        with pytest.raises(DataError, match=rf"{field}' holds messages as Python prints them(.|\n)*to_parquet"):
            read(name, columns=columns)
    (tmp_path / "b.csv").write_text("prompt,messages\nQ,\"[{'role': 'user', 'content': 'Q'}]\"\n")
    assert read("b.csv", "prompts") == 1  # a column that is not read


def test_what_datasets_saves_to_the_disk_is_read(tmp_path: Path) -> None:
    """A folder with its shards in order, one shard, an Arrow file with an index; of several splits one is named."""
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "many")
    pyarrow.feather.write_feather(data.data.table, tmp_path / "b.arrow", compression="uncompressed")
    for path in (tmp_path / "one", tmp_path / "many" / "train", tmp_path / "b.arrow"):
        found = list(read_file(path, "a"))
        assert [row.data for row in found] == ROWS
        assert found[-1].place == f"{path}, row {len(ROWS)}"
    (shard,) = (tmp_path / "one").glob("*-00001-of-*.arrow")
    assert [row.data for row in read_file(shard, "a")] == ROWS[-(len(ROWS) // 2) :]
    with pytest.raises(DataError, match="a folder of several splits") as told:
        list(read_file(tmp_path / "many", "a"))
    assert str(tmp_path / "many" / "train") in str(told.value)


def test_a_saved_folder_s_key_is_of_its_tables(tmp_path: Path) -> None:
    """And what is missing or broken in it is told by its own name."""
    folder = tmp_path / "one"
    datasets.Dataset.from_list(ROWS).save_to_disk(folder, num_shards=2)
    first, second = sorted(folder.glob("*.arrow"))
    spec = SourceSpec(format="prompts", path=str(folder))
    before = source_key(spec)
    first.write_bytes(b"not a table")
    assert source_key(spec) != before
    with pytest.raises(DataError, match="the Arrow file cannot be read"):
        list(read_file(folder, "a"))
    second.unlink()
    with pytest.raises(DataError, match="no such file") as told:
        source_key(spec)
    assert second.name in str(told.value)
    (folder / "state.json").write_text("[]")
    with pytest.raises(DataError, match="does not say which tables it holds"):
        list(read_file(folder, "a"))


def test_several_files_are_read_in_the_recipes_order(tmp_path: Path) -> None:
    for name, text in (("b.jsonl", "Q1"), ("a.jsonl", "Q2")):
        (tmp_path / name).write_text(GOOD.replace("Q", text))
    paths = (str(tmp_path / "b.jsonl"), str(tmp_path / "a.jsonl"))
    result = read_source(SourceSpec(format="preference", path=paths), name="src", seed=0)
    assert [r.prompt.text for r in result.records] == ["Q1", "Q2"]
    assert [r.source for r in result.records] == ["src:b.jsonl:1", "src:a.jsonl:1"]


def test_a_field_longer_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    path = tmp_path / "long.csv"
    path.write_text(table([{"prompt": "Q", "chosen": "w" * 200_000, "rejected": "B"}], ","))
    (row,) = read_file(path, "x")
    assert len(row.data["chosen"]) == 200_000
    assert csv.field_size_limit() == limit


FILE_ERRORS = [
    ("rows.jsonl", GOOD + '{"prompt": \n', ["malformed JSON", "line 2"]),
    ("rows.json", '[\n{"prompt": "Q"},\n{"prompt": ]\n', ["malformed JSON", "line 3"]),
    ("rows.json", '[{"prompt": "Q"}\n{"prompt": "R"}]', ["malformed JSON: Expecting ',' or ']'", "line 2"]),
    ("rows.json", '[{"prompt": "Q"},\n', ["malformed JSON", "line 2"]),
    ("rows.json", '[{"prompt": "Q"}]\n[]', ["text after the list", "line 2"]),
    ("rows.json", '"text"', ["not a list of objects", "allowed: [{...}, {...}]"]),
    ("rows.json", '{"data": [{"prompt": "Q"}]', ['more than "data" in the object', "line 1"]),
    ("rows.json", "[]", ["the file holds no row"]),
    ("rows.jsonl", GOOD + "[1]\n", ["no JSON object", "line 2"]),
    ("rows.jsonl", "", ["the file is empty"]),
    ("rows.jsonl", " \n\n", ["the file is empty"]),
    ("rows.csv", "prompt,chosen,rejected\n", ["the file holds no row"]),
    ("rows.csv", "prompt,chosen,rejected\nQ,A,B\nQ,A,B,C\n", ["4 fields in a table of 3 columns", "line 3"]),
    ("rows.csv", "prompt,chosen,rejected\nQ,A\n", ["2 fields in a table of 3 columns", "line 2"]),
    ("rows.csv", 'prompt,chosen,rejected\nQ,"A,B\n', ["malformed table", "line 2"]),
    ("rows.csv", "prompt,prompt,rejected\nQ,A,B\n", ["two columns have one name", "line 1"]),
    ("rows.jsonl", GOOD.encode() + b'{"prompt": "\xff"}\n', ["not UTF-8", "line 2", "save the file as UTF-8"]),
    ("rows.jsonl.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], ["broken gzip file"]),
    ("rows.parquet", "text", ["the Parquet file cannot be read"]),
    ("rows.xlsx", "text", ["unknown type of file", ".jsonl"]),
]


@pytest.mark.parametrize(("name", "content", "said"), FILE_ERRORS)
def test_malformed_files(tmp_path: Path, name: str, content: str | bytes, said: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        list(read_file(path, "src"))
    assert str(path) in str(caught.value)
    for words in said:
        assert words in str(caught.value)


def row_error(format: str, row: dict[str, Any], *said: str, **fields: Any) -> Any:
    return pytest.param(format, row, fields, said, id=f"{format}-{said[0].replace(' ', '-')}")


PAIR = {"prompt": "Q", "chosen": "A", "rejected": "B"}
PKU = {"prompt": "Q", "response_0": "A", "response_1": "B", "safer_response_id": 0}
CHAT = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
LABELLED = {"prompt": "Q", "completion": "A", "label": True}
COLLECTED = {**PKU, "is_response_0_safe": True, "is_response_1_safe": False, "better_response_id": 1}
ROW_ERRORS = [
    row_error("preference", LABELLED, "this looks like 'unpaired'", "--format unpaired", "format: unpaired", "kto"),
    row_error("preference", COLLECTED, "this looks like 'pku-safe-rlhf'", "--format pku-safe-rlhf", "--label better"),
    row_error("preference", {"prompt": "Q", "completion": "A"}, "this looks like 'demonstrations'", "sacpo sft"),
    row_error("preference", {"messages": CHAT}, "this looks like 'sharegpt'", "give preference pairs"),
    row_error("preference", {"prompt": "Q"}, "this looks like 'prompts'", "give preference pairs"),
    row_error("preference", {"prompt": "Q", "choosen": "A", "reject": "B"}, "'chosen'; the nearest is 'choosen'"),
    row_error("preference", {**LABELLED, "rejected": "B"}, "no column 'chosen'", "rename it in the file"),
    row_error("demonstrations", PAIR, "this looks like 'preference'", "format: preference"),
    row_error("unpaired", COLLECTED, "this looks like 'pku-safe-rlhf'", "not 'unpaired'"),
    row_error("preference", {**PAIR, "chosen": ""}, "'chosen' is empty", "field 'chosen'"),
    row_error("preference", {**PAIR, "prompt": " \n"}, "'prompt' is empty"),
    row_error("preference", {**PAIR, "rejected": 3}, "'rejected' is not a text", "value:   3"),
    row_error("preference", {**PAIR, "prompt": None}, "'prompt' is not a text", "allowed: a text"),
    row_error("preference", {**PAIR, "prompt": "\ud800"}, "half of a surrogate pair"),
    row_error("preference", {"prompt": "Q", "chosen": "A", "reject": "B"}, "'rejected'; the nearest is 'reject'"),
    row_error("preference", {**PAIR, "p": 1.5}, "bad number in 'p'", "a number in [0, 1]"),
    row_error("preference", {**PAIR, "p": True}, "bad number in 'p'"),
    row_error("preference", {**PAIR, "prompt": CHAT}, "does not end with a user's message", "'assistant'"),
    row_error("preference", {**PAIR, "chosen": [{"role": "user", "content": "A"}]}, "not one assistant message"),
    row_error("preference", {**PAIR, "prompt": [{"role": "tool", "content": "A"}]}, "unknown role", "'prompt[0].role'"),
    row_error("preference", {**PAIR, "prompt": [{"content": "A"}]}, "not a message", "field 'prompt[0]'"),
    row_error("preference", {**PAIR, "prompt": []}, "no list of messages"),
    row_error("preference", {**PAIR, "prompt": [{"role": "user", "content": ""}]}, "'prompt[0].content' is empty"),
    row_error("preference", PAIR, "no column 'question'", columns={"prompt": "question"}),
    row_error("preference", PAIR, "knows no column 'promt'; did you mean 'prompt'?", columns={"promt": "prompt"}),
    row_error("preference", PAIR, "a local file has no 'split'", split="test"),
    row_error("preference", PAIR, "only format 'pku-safe-rlhf' has a 'label'", label="safer"),
    row_error("unpaired", {"prompt": "Q", "completion": "A", "label": "good"}, "bad label in 'label'", "true, false"),
    row_error("unpaired", {"prompt": "Q", "completion": "A", "label": 2}, "bad label in 'label'"),
    row_error("unpaired", {"prompt": "Q", "completion": "A", "label": None}, "bad label in 'label'", "null"),
    row_error("unpaired", {"prompt": "Q", "completion": "", "label": True}, "'completion' is empty"),
    row_error("pku-safe-rlhf", PKU, "the recipe names none", "better, safer"),
    row_error("pku-safe-rlhf", PKU, "no column 'better_response_id'", label="better"),
    row_error("unpaired", PAIR, "these are pairs, not labelled completions"),
    row_error("pku-safe-rlhf", {**PKU, "safer_response_id": 2}, "label in 'safer_response_id'", "0, 1", label="safer"),
    row_error("pku-safe-rlhf", {**PKU, "safer_response_id": True}, "bad label in 'safer_response_id'", label="safer"),
    row_error("pku-safe-rlhf", PAIR, "hold only the safety preference", label="better"),
    row_error("hh-rlhf", {"chosen": "Human: a", "rejected": "b"}, "not a dialogue", "field 'chosen'"),
    row_error("hh-rlhf", {"chosen": "\n\nHuman: \n\nAssistant: b", "rejected": "b"}, "an empty turn", "turn 1"),
    row_error("demonstrations", {"messages": CHAT[:1]}, "does not end with an assistant's answer"),
    row_error("alpaca", {"instruction": "", "input": "", "output": "A"}, "'instruction' is empty"),
    row_error("alpaca", {"instruction": "Q", "output": "A", "history": [["x"]]}, "not a pair of texts", "history[0]"),
    row_error("prompts", {"text": "Q"}, "no column 'prompt'"),
    row_error("prompts", {"prompt": "Q", "kind": "evil"}, "unknown kind of prompt", "ordinary, restricted, borderline"),
    row_error("prompts", {"prompt": ""}, "'prompt' is empty"),
    row_error("xstest", {"prompt": "Q", "type": "t", "label": "fine"}, "bad label in 'label'", "safe, unsafe"),
    row_error("pandalm", {"instruction": "Q", "annotator1": 3}, "bad label in 'annotator1'", "0, 1, 2"),
    row_error("ultrafeedback", {**PAIR, "score_chosen": "high"}, "bad number in 'score_chosen'"),
]


@pytest.mark.parametrize(("format", "row", "fields", "said"), ROW_ERRORS)
def test_unusable_rows(
    tmp_path: Path, format: str, row: dict[str, Any], fields: dict[str, Any], said: tuple[str, ...]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_source(SourceSpec(format=format, path=str(path), **fields), name="src", seed=0)
    text = str(caught.value)
    for words in said:
        assert words in text
    if "columns" not in fields and "split" not in fields and format != "preference":
        assert f"{path}, line 2" in text


def test_missing_files_name_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    spec = DataSpec(format="preference", path=str(tmp_path / "pair.jsonl"))
    with pytest.raises(DataError, match=r"no such file[\s\S]*did you mean .*pairs\.jsonl\?"):
        read_source(spec, name="src", seed=0)
    with pytest.raises(DataError, match="a folder, not a file"):
        read_source(DataSpec(format="preference", path=str(tmp_path)), name="src", seed=0)


def test_only_unusable_rows_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b", "rejected": "\\n\\nHuman: c\\n\\nAssistant: d"}')
    with pytest.raises(DataError, match="no usable record"):
        read_source(SourceSpec(format="hh-rlhf", path=str(path)), name="src", seed=0)
