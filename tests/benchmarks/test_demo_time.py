from __future__ import annotations

import json
from pathlib import Path

from benchmarks.demo_time import OTHER, OUTSIDE, kinds, noted, table

LINES = [
    {"stage": "sft", "cpu": 20.0, "wall": 30.0},
    {"stage": "generate/H/tuning", "cpu": 2.0, "wall": 2.5},
    {"stage": "generate/S@0.3/tuning", "cpu": 3.0, "wall": 3.5},
    {"stage": "prompts/tuning", "cpu": 0.5, "wall": 0.5},
    {
        "stage": None,
        "cpu": 27.0,
        "wall": 40.0,
        "gflops": 100.0,
        "rates": [90.0, 110.0],
        "jobs": False,
        "machine": {"cpu": "X"},
    },
]


def test_stages_are_added_up_by_kind_and_the_rest_lies_between_them() -> None:
    found = kinds(LINES)
    assert found["answers"] == (5.0, 6.0)
    assert found[OTHER] == (0.5, 0.5)
    assert found[OUTSIDE] == (1.5, 3.5)
    assert found["all"] == (27.0, 40.0)


def test_a_machine_of_half_the_rate_has_done_the_same_work_in_twice_the_seconds(tmp_path: Path) -> None:
    slow = [{**line, "cpu": 2 * line["cpu"]} for line in LINES]
    slow[-1]["gflops"] = 50.0
    for name, lines in (("fast", LINES), ("slow", slow)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = table([tmp_path / "fast.jsonl", tmp_path / "slow.jsonl"])
    assert "| SFT | 20.0 | 2.00 | 40.0 | 2.00 |" in text
    assert "fast: 40 s of wall time, 100 GFLOP/s a core (90 to 110), X" in text


def test_a_finished_run_is_told_by_its_manifests(tmp_path: Path) -> None:
    for stage, seconds in (("kl/H/report", 1.25), ("kl/sft/report", 2.0), ("sft", 7.0)):
        folder = tmp_path / "stages" / stage
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"stage": stage, "seconds": seconds}))
    text = noted([tmp_path])
    assert "| SFT | 7.0 |" in text and "| KL: samples and scores | 3.2 |" in text and "| all | 10.2 |" in text
