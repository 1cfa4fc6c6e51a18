"""A user adds an algorithm, a data format, a judge and a metric to a copy of the package, and runs a recipe of them.

No other file than those that ARCHITECTURE.md names is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from align_toys import toy_pairs

import sacpo

NEW = {
    "losses/hinge.py": """
import torch
from sacpo.losses.pair_terms import PairTerms

def hinge_loss(chosen, rejected, ref_chosen, ref_rejected, *, beta, margin):
    first, second = beta * (chosen - ref_chosen), beta * (rejected - ref_rejected)
    return PairTerms(torch.relu(margin - (first - second)), first.detach(), second.detach())
""",
    "align/objectives/hinge.py": """
from sacpo.align.objectives.objective import FirstLoss
from sacpo.align.objectives.pairs import PairObjective, make_of_pairs
from sacpo.losses.hinge import hinge_loss

def make(parts):
    margin = parts.step.margin

    class HingeObjective(PairObjective):
        first_loss = FirstLoss(margin, "the margin")

        def terms(self, logps):
            known = (logps.chosen, logps.rejected, logps.ref_chosen, logps.ref_rejected)
            return hinge_loss(*known, beta=self.beta, margin=margin)

    return make_of_pairs(parts, HingeObjective)
""",
    "data/sources/arrows.py": """
from sacpo.data.records import Pair, Prompt
from sacpo.data.sources.format import Format

def read(row, spec, as_):
    prompt, chosen, rejected = row.text("text").split(" -> ")
    return [Pair(Prompt.from_text(prompt), chosen, rejected, 1.0, row.source)]

FORMATS = {"arrows": Format("pairs", read, ("text",))}
""",
    "judging/kinds/shortest.py": """
from sacpo.judging.scored import Score, ScoredJudge

def make(parts):
    return ScoredJudge("shortest", parts.criterion, scores(parts))

def scores(parts):
    return lambda pairs: [Score(-min(len(text), parts.spec.longest)) for _, text in pairs]
""",
}
CHANGED = {
    "recipe/algorithms.py": [
        ('"hinge", ', '"dpo", "ipo"'),
        ('    "hinge": Algorithm("Hinge", "pairs", ("pairs",), ("margin",)),\n', '    "kto": Algorithm('),
        ('    margin: Positive = Field(1.0, description="Hinge: m")\n', "    desirable_weight: Positive"),
    ],
    "recipe/formats.py": [
        ('    "arrows",\n', '    "world",\n]'),
        ('    "arrows": "pairs",\n', '    "world": "prompts"'),
    ],
    "recipe/schema/judges.py": [
        ('"shortest", ', '"refusal", "llm"]'),
        ('    longest: int = Field(99, ge=1, description="shortest: l")\n', "    sign: Literal[1, -1]"),
        (
            '    "shortest": JudgeFacts(lambda *_: {"scores", "comparisons"}, ("longest",)),\n',
            '    "refusal": JudgeFacts(',
        ),
    ],
    "recipe/metrics.py": [
        ('    "some_rate": Metric("answers with text", rate=True),\n', '    "kl": Metric('),
        ('    "some_rate",\n', '    "kl",\n]'),
    ],
    "measure/measures.py": [
        (
            '        "some_rate": clustered_rate([a.n_tokens > 2 for a in answers], clusters),\n',
            '        "truncated_rate": ',
        ),
    ],
}
"""In each file: what is put in front of what."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the four additions."""
    copy = tmp_path_factory.mktemp("extended") / "sacpo"
    shutil.copytree(Path(sacpo.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW.items():
        assert not (copy / name).exists()
        (copy / name).write_text(text)
    for name, edits in CHANGED.items():
        text = (copy / name).read_text()
        for added, place in edits:
            assert text.count(place) == 1, (name, place)
            text = text.replace(place, added + place)
        (copy / name).write_text(text)
    return copy


def recipe(base: Path, folder: Path) -> Path:
    rows = [{"text": f"{pair.prompt.text} -> {pair.chosen} -> {pair.rejected}"} for pair in toy_pairs(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed, name in enumerate(("tuning", "report"), 1):
        prompts = [pair.prompt.text for pair in toy_pairs(4, seed=seed)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    sets = {n: {"format": "prompts", "path": f"{n}.jsonl", "role": n, "kind": "ordinary"} for n in ("tuning", "report")}
    step = {"name": "H", "criterion": "brevity", "algorithm": "hinge", "margin": 0.7, "dataset": "rows", "beta": 0.5}
    content = {
        "name": "extended",
        "base": {"model": str(base), "template": "plain", "device": "cpu"},
        "data": {"rows": {"format": "arrows", "path": "rows.jsonl"}},
        "training": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "logging_steps": 1},
        "steps": [step],
        "prompts": sets,
        "evaluate": {
            "kl_prompts": 0,
            "generation": {"max_new_tokens": 4},
            "judges": {"brevity": {"kind": "shortest", "longest": 2}},
        },
        "constraints": [{"metric": "some_rate", "prompts": "tuning", "at_most": 1}],
        "objective": {"metric": "mean_score", "criterion": "brevity", "prompts": "tuning"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


@pytest.mark.slow
def test_four_additions_run_in_one_recipe(package: Path, base: Path, tmp_path: Path) -> None:
    """The judge's own option cuts the scores of answers with text to -2, and the algorithm's is the first loss."""
    line = [sys.executable, "-m", "sacpo", "run", str(recipe(base, tmp_path)), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stages = tmp_path / "runs" / "extended" / "stages"
    summary = json.loads((stages / "align" / "H" / "summary.json").read_text())
    assert (summary["kind"], summary["pairs"]) == ("hinge", 12)
    assert summary["first_loss"] == pytest.approx(0.7, abs=1e-6)
    results = json.loads((stages / "report" / "results.json").read_text())
    metrics = results["measures"]["H"]["tuning"]["metrics"]
    assert metrics["mean_score/brevity"]["value"] == -2 * metrics["some_rate"]["value"] < 0
    assert results["selection"]["constraints"][0]["metric"] == "some_rate"
    assert results["selection"]["chosen"] is not None
    assert "answers with text" in next(tmp_path.rglob("report.html")).read_text()


@pytest.mark.parametrize(
    ("what", "files"),
    [("An algorithm", 3), ("A data format", 2), ("A judge", 2), ("A metric", 2)],
)
def test_each_takes_as_many_files_as_architecture_says(what: str, files: int) -> None:
    homes = {
        "An algorithm": ("align/objectives/", "losses/", "recipe/algorithms.py"),
        "A data format": ("data/sources/", "recipe/formats.py"),
        "A judge": ("judging/kinds/", "recipe/schema/judges.py"),
        "A metric": ("measure/measures.py", "recipe/metrics.py"),
    }
    touched = [name for name in (*NEW, *CHANGED) if name.startswith(homes[what])]
    assert len(touched) == files
    assert len(NEW) + len(CHANGED) == 9
