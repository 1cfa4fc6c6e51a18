"""`sacpo new`: a recipe for a user's own files; and the demo that the package carries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from align_toys import toy_pairs, write_base
from typer.testing import CliRunner

from sacpo.cli import app
from sacpo.data.detect import detect
from sacpo.errors import DataError, RecipeError, RunError
from sacpo.pipeline.new import NewRecipe, new_recipe
from sacpo.recipe import load_recipe, parse_recipe
from sacpo.recipe.load import DEMO
from sacpo.recipe.safe import yaml_value

PKU = {
    "response_0": "Yes.",
    "response_1": "No.",
    "better_response_id": 0,
    "safer_response_id": 1,
    "is_response_0_safe": False,
    "is_response_1_safe": True,
}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "preference": (
        {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."},
        "preference pairs, 3 rows (format preference)",
    ),
    "chats": (
        {
            "chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}],
        },
        "preference pairs, 3 rows (format preference); prompts as chat messages",
    ),
    "ultrafeedback": (
        {"prompt": "Why?", "chosen": "Yes.", "rejected": "No.", "score_chosen": 2, "score_rejected": 1},
        "preference pairs, 3 rows (format ultrafeedback)",
    ),
    "hh-rlhf": (
        {"chosen": "\n\nHuman: Why?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
        "preference pairs, 3 rows (format hh-rlhf)",
    ),
    "pku-safe-rlhf": ({"prompt": "Why?", **PKU}, "preference pairs, 3 rows (format pku-safe-rlhf, label safer)"),
    "sharegpt": (
        {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        "preference pairs, 3 rows (format sharegpt); prompts as chat messages",
    ),
    "unpaired": (
        {"prompt": "Why?", "completion": "Yes.", "label": True},
        "labelled completions, 3 rows (format unpaired)",
    ),
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_pairs(path: Path, n: int, seed: int) -> Path:
    pairs = toy_pairs(n, seed=seed)
    return write_rows(path, [{"prompt": p.prompt.text, "chosen": p.chosen, "rejected": p.rejected} for p in pairs])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def begin(folder: Path, out: str = "own.yaml", **changes: Any) -> NewRecipe:
    helpful, safe = write_pairs(folder / "helpful.jsonl", 60, 0), write_pairs(folder / "safe.jsonl", 40, 1)
    return new_recipe(folder / out, **{"model": "base", "helpful": helpful, "safe": safe, **changes})


@pytest.mark.parametrize("name", ROWS)
def test_a_format_is_told_by_the_first_rows(name: str, tmp_path: Path) -> None:
    row, said = ROWS[name]
    found = detect(write_rows(tmp_path / "x.jsonl", [row] * 3), usable=("pairs", "unpaired"), label="safer")
    assert found.said().startswith(f"{tmp_path / 'x.jsonl'}: {said}")
    assert found.spec.format == ("preference" if name == "chats" else name)


def test_what_cannot_be_told_or_used_is_refused(tmp_path: Path) -> None:
    odd = write_rows(tmp_path / "odd.jsonl", [{"question": "Why?", "good": "Yes.", "bad": "No."}])
    with pytest.raises(DataError, match="this file holds prompts") as told:
        detect(odd, usable=("pairs", "unpaired"))
    pairs = ["pku-safe-rlhf", "hh-rlhf", "ultrafeedback", "preference"]
    assert told.value.allowed == [*pairs, "unpaired", "sharegpt", "pandalm"]
    odd = write_rows(tmp_path / "odd.jsonl", [{"good": "Yes.", "bad": "No."}])
    with pytest.raises(DataError, match="no format fits") as unknown:
        detect(odd, usable=("pairs", "unpaired"))
    assert unknown.value.value == ["bad", "good"] and unknown.value.allowed == told.value.allowed
    empty = write_rows(tmp_path / "empty.jsonl", [{"prompt": "Why?", "chosen": " ", "rejected": "No."}])
    with pytest.raises(DataError, match="as format 'preference' this is wrong: 'chosen' is empty"):
        detect(empty, usable=("pairs",))
    later = write_rows(tmp_path / "later.jsonl", [ROWS["preference"][0], {"prompt": "Why?", "chosen": "Yes."}])
    with pytest.raises(DataError, match=r"(?s)no column 'rejected'.*later.jsonl, line 2"):
        detect(later, usable=("pairs",))


def test_prompts_are_held_out_of_both_files(tmp_path: Path) -> None:
    done = begin(tmp_path)
    data = tmp_path / "own-data"
    sets = {role: rows_of(data / f"{role}.jsonl") for role in ("tuning", "report")}
    asked = {row["prompt"]: row["kind"] for rows in sets.values() for row in rows}
    assert [len(rows) for rows in sets.values()] == [5, 5] and len(asked) == 10  # a tenth of 60 + 40 prompts
    for step, kind in (("helpful", "ordinary"), ("safe", "restricted")):
        all_rows, left = rows_of(tmp_path / f"{step}.jsonl"), rows_of(data / f"{step}.jsonl")
        assert left == [row for row in all_rows if row["prompt"] not in asked] and len(left) < len(all_rows)
        assert {asked[row["prompt"]] for row in all_rows if row["prompt"] in asked} == {kind}
    recipe = load_recipe(done.recipe)
    assert recipe.name == "own" and recipe.data["safe"].path == str(data / "safe.jsonl")
    assert [(step.name, step.criterion, step.from_) for step in recipe.steps] == [
        ("H", "helpfulness", "sft"),
        ("H-S", "harmlessness", "H"),
    ]
    assert recipe.merge[0].models == ("H", "H-S")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    text = begin(tmp_path).recipe.read_text(encoding="utf-8")
    with pytest.raises(RunError, match="stays as it is"):
        begin(tmp_path)
    (tmp_path / "own.yaml").unlink()
    with pytest.raises(RunError, match="own-data"):
        begin(tmp_path)
    assert not (tmp_path / "own.yaml").exists()
    with pytest.raises(RecipeError, match="name"):
        begin(tmp_path, out="other.yaml", name="a/b")
    assert not (tmp_path / "other-data").exists() and 'name: "own"' in text


def test_prompts_of_their_own_leave_the_files_whole(tmp_path: Path) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"w{i} w{i}", "kind": "borderline"} for i in range(6)])
    recipe = load_recipe(begin(tmp_path, prompts=prompts).recipe)
    assert recipe.data["helpful"].path == str(tmp_path / "helpful.jsonl")
    assert sorted(path.name for path in (tmp_path / "own-data").iterdir()) == ["report.jsonl", "tuning.jsonl"]
    found = [rows_of(tmp_path / "own-data" / f"{role}.jsonl") for role in ("tuning", "report")]
    assert [len(rows) for rows in found] == [3, 3] and {row["kind"] for rows in found for row in rows} == {"borderline"}
    seen = write_rows(
        tmp_path / "seen.jsonl", [{"prompt": rows_of(tmp_path / "safe.jsonl")[0]["prompt"]}, {"prompt": "w5"}]
    )
    with pytest.raises(DataError, match=r"(?s)1 of its records .*safe.jsonl"):
        begin(tmp_path, out="other.yaml", prompts=seen)


def test_commented_judges_and_the_choice_are_valid_when_uncommented(tmp_path: Path) -> None:
    text = begin(tmp_path).recipe.read_text(encoding="utf-8")
    for kind in ("reward-model", "llm"):
        lines = [
            line.replace("# ", "", 1)
            if re.search(rf"# (helpfulness|harmlessness|safety): {{kind: {kind}", line)
            or re.match(r"# (constraints:|  - {metric|objective:)", line)
            or "# lora:" in line
            else line
            for line in text.splitlines()
        ]
        recipe = parse_recipe(yaml_value("\n".join(lines), "recipe", "x"))
        assert {judge.kind for judge in recipe.evaluate.judges.values()} == {"refusal", kind}
        assert recipe.objective is not None and recipe.steps[1].lora is not None


@pytest.mark.slow
def test_the_written_recipe_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path / "base", max_position_embeddings=600)
    write_pairs(tmp_path / "helpful.jsonl", 60, 0)
    write_rows(
        tmp_path / "safe.jsonl",
        [{"prompt": f"w3 w{i} w{i % 7}", "completion": f"w{i % 5}", "label": i % 2 == 0} for i in range(40)],
    )
    run = CliRunner()
    line = ["new", "own.yaml", "--model", "base", "--helpful", "helpful.jsonl", "--safe", "safe.jsonl"]
    said = run.invoke(app, line, catch_exceptions=False)
    assert "safe.jsonl: labelled completions, 40 rows (format unpaired); prompts as texts" in said.output
    assert run.invoke(app, ["validate", "own.yaml"], catch_exceptions=False).exit_code == 0
    small = ["--set", "evaluate.generation.max_new_tokens=8", "--set", "base.template=plain"]
    done = run.invoke(app, ["run", "own.yaml", *small], catch_exceptions=False)
    assert done.exit_code == 0 and "6 models to compare" in done.output
    results = json.loads(Path("runs/own/stages/report/results.json").read_text(encoding="utf-8"))
    assert [*results["models"]] == ["sft", "H", "H-S", "P@q0.25", "P@q0.5", "P@q0.75"]


def test_the_demo_of_the_package_is_the_repositorys() -> None:
    ours = Path(__file__).parents[2] / "recipes" / "demo.yaml"
    assert ours.read_bytes() == DEMO.read_bytes()


def test_demo_plans_the_packaged_recipe_away_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["demo", "--dry-run", "--json", "--set", "name=mine"], catch_exceptions=False)
    plan = json.loads(done.stdout.splitlines()[-1])
    assert "S is trained at up to 3 strengths" in json.dumps(plan) and load_recipe(DEMO).name == "demo"
    assert not (tmp_path / "runs" / "demo").exists()


def test_too_few_prompts_are_not_held_out(tmp_path: Path) -> None:
    rows = [{"prompt": f"w{i}", "chosen": "w1", "rejected": "w2"} for i in range(2)]
    both = write_rows(tmp_path / "both.jsonl", rows)
    with pytest.raises(DataError, match="too few prompts to hold some out"):
        begin(tmp_path, helpful=both, safe=both)
    assert not (tmp_path / "own-data").exists()


def test_prompts_of_both_files_have_no_kind(tmp_path: Path) -> None:
    rows = [{"prompt": f"w{i}", "chosen": "w1", "rejected": "w2"} for i in range(30)]
    both = write_rows(tmp_path / "both.jsonl", rows)
    begin(tmp_path, helpful=both, safe=both)
    found = rows_of(tmp_path / "own-data" / "tuning.jsonl") + rows_of(tmp_path / "own-data" / "report.jsonl")
    assert len(found) == 3 and all(row.keys() == {"prompt"} for row in found)
