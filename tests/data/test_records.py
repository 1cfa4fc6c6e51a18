"""Records as JSON lines: what is written comes back, and neighbours that were asked the same share a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sacpo.data.records import Answer, Demonstration, Kind, Message, Pair, Prompt, Verdict, read_jsonl, write_jsonl
from sacpo.errors import DataError

FIRST = Prompt.from_text("how?", kind=Kind.BORDERLINE, meta={"task": ["a", 1], "deep": {"n": None}})
SECOND = Prompt((Message("system", "be kind"), Message("user", "why?")), id="two", cluster="c")


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    asked = (FIRST, FIRST, SECOND, FIRST)
    kinds = {
        "answers": [Answer(prompt, "m", f"a{i}", sample=i, tokens=(3, i)) for i, prompt in enumerate(asked)],
        "pairs": [Pair(prompt, "yes", "no", p=0.5) for prompt in asked],
        "demonstrations": [Demonstration(prompt, "so") for prompt in asked],
        "prompts": [*asked],
        "verdicts": [Verdict(prompt.id, prompt.cluster, "m", "h", "j", "0", kind=prompt.kind) for prompt in asked],
    }
    for name, records in kinds.items():
        path = tmp_path / f"{name}.jsonl"
        assert write_jsonl(path, records) == 4
        assert read_jsonl(path, type(records[0])) == records
    found = read_jsonl(tmp_path / "answers.jsonl", Answer)
    assert [answer.prompt.meta for answer in found] == [prompt.meta for prompt in asked]
    assert found[0].prompt is found[1].prompt is not found[2].prompt
    assert [type(json.loads(line)["tokens"]) for line in (tmp_path / "answers.jsonl").open()] == [list] * 4


def test_a_prompt_that_differs_in_what_is_known_beside_it_is_another(tmp_path: Path) -> None:
    """1, 1.0 and true are equal to Python and not the same."""
    metas = [{"n": 1}, {"n": True}, {"n": 1.0}, {"n": 1}, {}]
    write_jsonl(tmp_path / "p.jsonl", [Answer(Prompt.from_text("how?", meta=meta), "m", "a") for meta in metas])
    assert repr([answer.prompt.meta for answer in read_jsonl(tmp_path / "p.jsonl", Answer)]) == repr(metas)


@pytest.mark.parametrize("prompt", [{"messages": [{"role": "user"}]}, {"no": 1}, 3, None])
def test_a_prompt_that_is_none_is_told_by_line(tmp_path: Path, prompt: object) -> None:
    path = tmp_path / "p.jsonl"
    write_jsonl(path, [Answer(FIRST, "m", "a")])
    with path.open("a") as file:
        file.write(json.dumps({"prompt": prompt, "model": "m", "text": "b"}) + "\n")
    with pytest.raises(DataError, match=r"not a record of the kind Answer(?s:.*)line 2"):
        read_jsonl(path, Answer)
