"""Trackers see the curves of a step: TensorBoard where it is installed, and a stand-in for trackio."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from align_toys import toy_pairs

STEPS = 3
STAND_IN = '''
"""As much of trackio as transformers calls; what it is told goes into a file."""
import json
from pathlib import Path
from types import SimpleNamespace

__version__ = "0.0"
SEEN = Path(r"{seen}")
context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))


def _note(what, value):
    with SEEN.open("a") as file:
        file.write(json.dumps([what, value]) + "\\n")


def _told(values, allow_val_change=False):
    _note("config", sorted(values))


config = type("Config", (dict,), {{"update": staticmethod(_told)}})()


def init(project, name, **options):
    _note("init", name)


def log(values):
    _note("log", values)


def finish():
    _note("finish", None)
'''


def aligned(base: Path, out: Path, tracker: str) -> list[dict[str, float]]:
    """Train a step on toy pairs with a tracker and return its own log."""
    from sacpo.api import align

    rows = [{"prompt": p.prompt.text, "chosen": f" {p.chosen}", "rejected": f" {p.rejected}"} for p in toy_pairs(12)]
    data = out.parent / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"report_to": tracker, "run_name": "first", "max_steps": STEPS, "logging_steps": 1, "bf16": False}
    align(
        str(base),
        str(data),
        out,
        beta=0.5,
        base={"device": "cpu", "template": "plain"},
        max_length=64,
        training=training,
    )
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_tracker_sees_the_curves_of_a_step(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, reward margin and accuracy of every step, as in the step's own log, once each and in order."""
    place, seen = tmp_path / "packages", tmp_path / "seen.jsonl"
    place.mkdir()
    (place / "trackio.py").write_text(STAND_IN.format(seen=seen))
    monkeypatch.syspath_prepend(place)
    try:
        log = aligned(base, tmp_path / "H", "trackio")
    finally:
        sys.modules.pop("trackio", None)
    events: list[tuple[str, Any]] = [tuple(json.loads(line)) for line in seen.read_text().splitlines()]
    assert [what for what, _ in events if what in ("init", "finish")] == ["init", "finish"]
    assert dict(events)["init"] == "first"
    curves = [values for what, values in events if what == "log" and "train/loss" in values]
    assert [values["train/global_step"] for values in curves] == [1, 2, 3]
    assert len(log) == STEPS
    for name in ("loss", "rewards/margins", "rewards/accuracies", "rewards/chosen"):
        assert [values[f"train/{name}"] for values in curves] == [line[name] for line in log], name


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed: pip install tensorboard")
def test_tensorboard_sees_the_curves_of_a_step(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "curves"))
    log = aligned(base, tmp_path / "H", "tensorboard")
    events = EventAccumulator(str(tmp_path / "curves"))
    events.Reload()
    found = events.Scalars("train/loss")
    assert [event.step for event in found] == [1, 2, 3]
    assert [event.value for event in found] == pytest.approx([line["loss"] for line in log])
