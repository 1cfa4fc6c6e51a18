"""Write tables of docs/experiments.md and README.md from several seeds: `write_experiments.py RUNS "2 CPU cores"`.

RUNS holds one folder a seed (`seed-1`, `seed-2`, ...) with the runs of recipes/experiments, as `make experiments`
leaves them. In the page a table stands between two comments, of which the first says what it shows:

    <!-- table: RECIPE | against: MODEL | models: MODEL, MODEL, ... -->
    <!-- end -->

`models` may be left out: all. Each figure is the mean over seeds with its 95 % t interval. With `against` a second
table has each model's difference from that model, paired by seed. A table whose runs are not there stays as it is,
and the script says so.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo.errors import DataError
from sacpo.report.results import Results, parse_results
from sacpo.report.theory import SupportPoint
from sacpo.stats.intervals import mean_interval

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
PAGES = (PAGE, ROOT / "README.md")
BLOCK = re.compile(r"(<!-- (table: .+?) -->\n).*?(<!-- end -->)", re.DOTALL)
OPTIMUM = "the optimum"
Figure = float | None


@dataclass(frozen=True)
class Run:
    """A finished run of one seed: its results, and the manifests of its stages by key."""

    folder: Path
    results: Results
    manifests: dict[str, dict[str, Any]]

    @classmethod
    def at(cls, folder: Path) -> Run:
        """Read a run's folder; what cannot be read ends the script with one line."""
        path = folder / "results.json"
        try:
            results = parse_results(json.loads(path.read_text(encoding="utf-8")))
            manifests: dict[str, dict[str, Any]] = {}
            for path in sorted((folder / "stages").rglob("manifest.json")):
                manifest = json.loads(path.read_text(encoding="utf-8"))
                manifests[manifest["key"]] = manifest
        except (OSError, ValueError, KeyError, TypeError, DataError) as error:
            reason = " ".join(str(error).split())
            sys.exit(f"{path}: cannot be used: {reason}; run the recipe again with this version, or delete the run")
        return cls(folder, results, manifests)

    def behind(self, model: str) -> list[dict[str, Any]]:
        """Return the manifests of all stages that a model is made of; of a merge those of its parents."""
        info = self.results.models[model]
        if info.kind == "merge":
            found = [manifest for parent in info.parents for manifest in self.behind(parent)]
            return [*{manifest["key"]: manifest for manifest in found}.values()]
        name = "sft" if info.kind == "base" else f"align/{model}"
        todo = [manifest["key"] for manifest in self.manifests.values() if manifest["stage"] == name]
        seen: dict[str, dict[str, Any]] = {}
        while todo:
            if (key := todo.pop()) in seen or key not in self.manifests:
                continue
            seen[key] = self.manifests[key]
            todo += self.manifests[key]["inputs"].values()
        return [*seen.values()]


def metric(name: str) -> Callable[[Run, str], Figure]:
    """Return what gives a model's figure on report prompts."""

    def figure(run: Run, model: str) -> Figure:
        found = run.results.measures[model]["report"].metrics.get(name)
        return None if found is None else found.value

    return figure


def distance(run: Run, model: str) -> Figure:
    """Return D = KL(model || optimum at the target)."""
    found = run.results.theory.kl_to_optimum.get(model) if run.results.theory else None
    return None if found is None or found.target is None else found.target.value


def seconds(run: Run, model: str) -> Figure:
    """Return the seconds of all stages behind a model, SFT left out: sampling, labelling, judges, trainings."""
    shared = {manifest["key"] for manifest in run.behind("sft")}
    return float(sum(stage["seconds"] for stage in run.behind(model) if stage["key"] not in shared))


def labels(run: Run, model: str) -> Figure:
    """Return the number of labels behind a model: pairs, each as often as it was voted on, and answers called safe.

    Pairs that a model of the run labels have none.
    """
    total = 0.0
    for stage in run.behind(model):
        if not stage["stage"].startswith("pairs/") or any(judge["model"] for judge in stage["config"]["judges"]):
            continue
        report = json.loads((run.folder / "stages" / stage["stage"] / "report.json").read_text(encoding="utf-8"))
        spec = stage["config"]["spec"]
        pairs = report["records"] + report["dropped"].get("two unsafe answers", 0)
        total += pairs * (spec["votes"] + (2 if spec.get("safety") else 0))
    return total


COLUMNS: dict[str, tuple[Callable[[Run, str], Figure], str]] = {
    "r*": (metric("mean_score/helpfulness"), ".2f"),
    "g*": (metric("mean_score/harmlessness"), ".2f"),
    "unsafe": (metric("unsafe_rate"), ".3f"),
    "over-refusal": (metric("over_refusal_rate"), ".3f"),
    "KL to SFT": (metric("kl"), ".2f"),
    "D": (distance, ".2f"),
    "seconds": (seconds, ".0f"),
    "labels": (labels, ".0f"),
}
PLAIN = ("seconds", "labels")
COMPARED = ("r*", "g*", "unsafe", "over-refusal", "D")


def table(runs: Sequence[Run], models: Sequence[str]) -> str:
    """Return the means over seeds, one row a model, the optimum's last."""
    lines = [head("model", *COLUMNS)]
    for model in models:
        cells = []
        for name, (figure, form) in COLUMNS.items():
            cells.append(cell([figure(run, model) for run in runs], form, ends=name not in PLAIN))
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
        if all(support_of(run, model) for run in runs):
            lines.append(support_row(runs, model))
    return "\n".join([*lines, optimum_row(runs)])


def support_of(run: Run, model: str) -> SupportPoint | None:
    """Return what a model's weights reach by themselves; None of a model that was not learnt from weights."""
    return run.results.theory.support.get(model) if run.results.theory else None


def support_row(runs: Sequence[Run], model: str) -> str:
    """Return what the weights behind a model reach before anything is learnt of them."""
    points = [point for run in runs if (point := support_of(run, model))]
    found: dict[str, list[Figure]] = {
        "r*": [point.E_r for point in points],
        "g*": [point.E_g for point in points],
        "unsafe": [point.unsafe_rate for point in points],
        "over-refusal": [point.over_refusal_rate for point in points],
        "D": [point.distance for point in points],
    }
    cells = [cell(found[name], form) if name in found else "–" for name, (_, form) in COLUMNS.items()]
    return f"| *the weights of {model}* | " + " | ".join(cells) + " |"


def optimum_row(runs: Sequence[Run]) -> str:
    """Return the optimum's figures at the target, from SFT samples."""
    theories = [run.results.theory for run in runs if run.results.theory]
    points = [p for theory in theories for p in theory.curve if p.beta_over_lambda == theory.target]
    found: dict[str, list[Figure]] = {
        "r*": [point.E_r for point in points],
        "g*": [point.E_g for point in points],
        "unsafe": [point.unsafe_rate for point in points],
        "over-refusal": [point.over_refusal_rate for point in points],
        "KL to SFT": [point.kl for point in points],
        "D": [0.0 for _ in points],
    }
    cells = [cell(found[name], form, ends=False) if name in found else "–" for name, (_, form) in COLUMNS.items()]
    return f"| *{OPTIMUM}* | " + " | ".join(cells) + " |"


def differences(runs: Sequence[Run], models: Sequence[str], against: str) -> str:
    """Return each model's differences from one of them, paired by seed."""
    lines = [head(f"minus {against}", *COMPARED)]
    for model in models:
        if model == against:
            continue
        cells = []
        for name in COMPARED:
            figure, form = COLUMNS[name]
            pairs = [(figure(run, model), figure(run, against)) for run in runs]
            both = [None if a is None or b is None else a - b for a, b in pairs]
            cells.append(cell(both, f"+{form}"))
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(values: Sequence[Figure], form: str, *, ends: bool = True) -> str:
    """Return the mean of one figure a seed, with its interval where there are two or more; "–" where one is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "–"
    found = mean_interval(known)
    assert found.value is not None
    if not ends or found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def head(*titles: str) -> str:
    """Return the first two lines of a table."""
    return "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)


def block(runs: Sequence[Run], asked: dict[str, str], machine: str) -> str:
    """Return what stands between a table's two comments."""
    known = [name for name in runs[0].results.models if name in runs[0].results.measures]
    models = [name.strip() for name in asked["models"].split(",")] if "models" in asked else known
    unknown = [name for name in [*models, asked.get("against", models[0])] if name not in known]
    if unknown:
        sys.exit(f"{asked['table']} has no model {unknown[0]}; it has {', '.join(known)}")
    parts = [f"{made(runs, machine)} Means over seeds, 95 % t intervals.", table(runs, models)]
    if "against" in asked:
        parts.append(differences(runs, models, asked["against"]))
    return "\n\n".join(["", *parts, "", ""]).strip("\n") + "\n"


def made(runs: Sequence[Run], machine: str) -> str:
    """Return the sentence on how a table came about: seeds, prompts, time and machine."""
    seeds = ", ".join(str(run.results.seed) for run in runs)
    n = sum(prompts.n for prompts in runs[0].results.prompts.values() if prompts.role == "report")
    return f"Seeds {seeds}; {n} report prompts; {minutes(runs)} a seed on {machine}."


def minutes(runs: Sequence[Run]) -> str:
    """Return the minutes of the fastest and of the slowest run, or of both where they are the same."""
    took = [round(sum(stage["seconds"] for stage in run.manifests.values()) / 60) for run in runs]
    few, most = min(took), max(took)
    words = f"{few}" if few == most else f"{few} to {most}"
    return f"{words} {'minute' if most == 1 else 'minutes'}"


def finished(folder: Path, seed: Path, name: str) -> Run | None:
    """Return a seed's run of a recipe, where it is finished."""
    place = folder / seed.name / name
    return Run.at(place) if (place / "results.json").exists() else None


@contextlib.contextmanager
def lacking(runs: str) -> Iterator[None]:
    """End the script with one line where a run of an earlier version lacks what a table needs."""
    try:
        yield
    except (LookupError, OSError) as error:
        sys.exit(f"{runs}: a finished run lacks {error}; run the recipe again with this version, or delete the run")


def main() -> None:
    """Write the pages."""
    if len(sys.argv) != 3:
        sys.exit('say write_experiments.py RUNS "WHAT MACHINE"')
    folder, machine = Path(sys.argv[1]), sys.argv[2]

    def written(found: re.Match[str]) -> str:
        asked = {name.strip(): value.strip() for name, value in (part.split(":", 1) for part in found[2].split(" | "))}
        with lacking(f"{folder}/seed-*/{asked['table']}"):
            runs = [finished(folder, seed, asked["table"]) for seed in sorted(folder.glob("seed-*"))]
            done = [run for run in runs if run is not None]
            new = block(done, asked, machine) if done else None
        if new is None:
            print(f"{found[2]}: no finished run in {folder}/seed-*; its table stays as it is")
            return found[0]
        return found[1] + new + found[3]

    for page in PAGES:
        page.write_text(BLOCK.sub(written, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
