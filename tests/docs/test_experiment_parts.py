"""What a distance consists of, and what lines of models give at a bound."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def script(name: str) -> ModuleType:
    return importlib.import_module(f"experiment_{name}")


def run(few: float, seed: int = 1, **distances: tuple[float, float]) -> Any:
    """A run whose models have these parts of their distances: strength and shape."""
    known = {
        name: SimpleNamespace(
            target=SimpleNamespace(value=sum(parts)),
            tilt=SimpleNamespace(reward=0.5, safety=0.8, strength=parts[0], shape=parts[1]),
        )
        for name, parts in distances.items()
    }
    theory = SimpleNamespace(kl_to_optimum=known, support={"D-true": SimpleNamespace(distance=few)})
    return SimpleNamespace(results=SimpleNamespace(theory=theory, seed=seed))


def test_the_parts_of_a_distance_add_up() -> None:
    """Votes 1.6, exact .7 + .3, learned scores .4, true ones .5, .2 of it the weights'; wide .4, .1 theirs."""
    ends = {"votes-H-S": (0.4, 1.2), "H-S": (0.7, 0.3), "D": (0.1, 0.3), "D-true": (0.1, 0.4)}
    one, wide = run(0.2, **ends), run(0.1, **{"D-true": (0.2, 0.2)})
    parts = script("parts").parts_of(one, wide)
    assert parts == pytest.approx([0.6, 0.6, 0.0, -0.1, 0.2, 0.3, 0.0])
    assert sum(parts) == pytest.approx(1.6)
    assert len(parts) == len(script("parts").PARTS)
    one.results.theory.support.clear()
    with pytest.raises(LookupError, match="votes-H-S, H-S, D or D-true"):
        script("parts").parts_of(one, wide)


def test_a_tilt_of_each_model_is_shown_beside_its_distance() -> None:
    shown = script("parts").tilts([run(0.2, **{"H-S": (0.7, 0.3)})], {"tilts": "any", "models": "H-S"})
    assert shown.splitlines()[-1] == "| H-S | 0.50 | 0.80 | 1.00 | 0.70 | 0.30 |"
    lacking = run(0.2, **{"H-S": (0.7, 0.3)})
    lacking.results.theory.kl_to_optimum["H-S"].tilt = None
    shown = script("parts").tilts([lacking], {"tilts": "any", "models": "H-S"})
    assert shown.splitlines()[-1] == "| H-S | – | – | 1.00 | – | – |"


def judged(**models: tuple[float, float, float]) -> Any:
    """A run whose models have these shares of unsafe answers, r* and over-refusal, and win rates of .6."""
    names = ("unsafe_rate", "mean_score/helpfulness", "over_refusal_rate")
    wins = dict.fromkeys(("win_rate/helpfulness", "win_rate/harmlessness"), SimpleNamespace(value=0.6))
    measures = {
        model: {
            "report": SimpleNamespace(
                metrics={**wins, **{n: SimpleNamespace(value=v) for n, v in zip(names, values, strict=True)}}
            )
        }
        for model, values in models.items()
    }
    return SimpleNamespace(results=SimpleNamespace(measures=measures, theory=None))


def test_lines_are_compared_at_each_bound() -> None:
    """At 20 % unsafe the first line is half between 30 and 10; at 5 % it never comes, the other one does."""
    runs = [judged(H=(0.3, 0.9, 0.1), S=(0.1, 0.5, 0.3), A=(0.4, 1.0, 0.0), B=(0.0, 0.6, 0.1))]
    asked = {"fronts": "any", "at": "0.2, 0.05", "paper": "H, S", "ours": "A, B"}
    shown = script("fronts").fronts(runs, asked).splitlines()
    assert shown[0].count("r* at") == 2
    first, other = ([part.strip() for part in line.split("|")[1:-1]] for line in shown[2:])
    assert first == ["paper", "0.0100", "", "0.70", "", "0.200", "–", "", "–"]
    assert other == ["ours", "0.0100", "+0.0000", "0.80", "+0.10", "0.050", "0.65", "–", "0.088"]


def test_a_hypervolume_is_the_area_above_the_reference() -> None:
    """(.7, .6) and (.6, .8) above (.5, .5): .2 x .1 + .1 x .2; a dominated point and one below it add nothing."""
    points = [(0.6, 0.8), (0.7, 0.6), (0.55, 0.7), (0.9, 0.4)]
    assert script("lines").hypervolume(points, (0.5, 0.5)) == pytest.approx(0.04)
    assert script("lines").hypervolume([(0.4, 0.9)], (0.5, 0.5)) == 0


def test_a_bound_is_crossed_between_two_models() -> None:
    """From 30 % to 10 % unsafe r* falls from 1 to .5; at 15 % it is .625. Never so safe: nothing."""
    line = [(0.8, 1.2), (0.3, 1.0), (0.1, 0.5), (0.0, 0.2)]
    assert script("lines").crossing(line, 0.15) == pytest.approx(0.625)
    assert script("lines").crossing(line, 0.1) == pytest.approx(0.5)
    assert script("lines").crossing(line[:2], 0.1) is None
