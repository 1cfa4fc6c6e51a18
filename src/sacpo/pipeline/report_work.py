"""Work of the last stages: the results of a whole run, its report, and the chosen model's folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sacpo.data.records import Verdict, iter_jsonl, read_jsonl
from sacpo.measure.reliability import reliability_of
from sacpo.merge import copy_companions, local_checkpoint, merge_checkpoints, tabulate, write_merged
from sacpo.models.adapters.stack import is_adapter
from sacpo.pipeline.data_work import report_of
from sacpo.pipeline.evaluation_work import SELECTION, VERDICTS, answers_of, measures_of, samples_of
from sacpo.pipeline.stages import At
from sacpo.pipeline.study import Study
from sacpo.pipeline.theory_work import THEORY
from sacpo.pipeline.training_work import SCORES
from sacpo.recipe.models import MergedModel, StepModel
from sacpo.recipe.schema import SFT
from sacpo.report.build import build_report
from sacpo.report.card import model_card
from sacpo.report.results import FORMAT, parse_results
from sacpo.stats.intervals import mean_interval, win_rate
from sacpo.system.runs import finished_size, machine_errors, versions, write_atomic

RESULTS = "results.json"
HARMLESS = ("safe", "compliance", "full_compliance")
TRAINING = ("kind", "steps", "epochs", "tokens", "pairs", "completions", "first_loss", "last_loss", "ties_dropped")
READ = ("records", "kept", "truncated", "longest")
"""What a training says of the records that it read: how many, and the tokens of the longest."""


def report(
    study: Study, command: str, pairs: Sequence[str], heldout: Sequence[str], kl_sets: Sequence[str], out: Path, at: At
) -> None:
    """Write results.json, the figures and the page."""
    build_report(results_of(study, command, pairs, heldout, kl_sets, at), shown_answers(study, at), out)


def results_of(
    study: Study, command: str, pairs: Sequence[str], heldout: Sequence[str], kl_sets: Sequence[str], at: At
) -> dict[str, Any]:
    """Return everything that the run measured, in the form of `sacpo.report.results`."""
    recipe = study.recipe
    accuracies = {stage.removeprefix("heldout/"): _json(at(stage) / SCORES) for stage in heldout}
    data = {name: report_of(at(f"data/{name}")) for name in recipe.data}
    data |= {stage: report_of(at(stage)) for stage in pairs}
    return {
        "format": FORMAT,
        "name": recipe.name,
        "recipe": recipe.written(),
        "versions": versions(),
        "seed": recipe.seed,
        "command": command,
        "disk": _disk(study, at),
        "warnings": report_of(at("overlap"))["warnings"],
        "baseline": recipe.evaluate.baseline,
        "data": data,
        "models": {name: _model(study, name, accuracies, kl_sets, at) for name in study.nodes},
        "prompts": {name: report_of(at(f"prompts/{name}")) for name in recipe.prompts},
        "measures": {name: measures_of(at(f"measure/{name}")) for name in study.evaluated},
        "reliability": {name: _reliability(study, name, at) for name in recipe.prompts},
        "selection": _json(at("select") / SELECTION) if recipe.objective else None,
        "theory": _json(at("theory") / THEORY) if recipe.theory else None,
    }


def _disk(study: Study, at: At) -> dict[str, int]:
    """Return the bytes of the finished stages by what they hold; checkpoints and caches lie beside them."""
    recipe = study.recipe
    made = dict.fromkeys(stage for name in study.nodes for stage in study.made_by(name) if stage != "base")
    judged = [f"{name}/{prompts}" for name in study.evaluated for prompts in recipe.prompts]
    stages = {
        "data and prompts": [
            *(f"data/{name}" for name in recipe.data),
            *(f"prompts/{name}" for name in recipe.prompts),
        ],
        "models": [*made],
        "answers and verdicts": [f"{part}/{name}" for name in judged for part in ("generate", "judge")],
    }
    return {what: sum(finished_size(at(name)) for name in names) for what, names in stages.items()}


def _reliability(study: Study, prompts: str, at: At) -> list[dict[str, Any]]:
    """Return the reliability of a prompt set's judges, over all models."""
    answers = [answer for name in study.evaluated for answer in answers_of(at(f"generate/{name}/{prompts}"))]
    verdicts = [
        verdict for name in study.evaluated for verdict in iter_jsonl(at(f"judge/{name}/{prompts}") / VERDICTS, Verdict)
    ]
    return reliability_of(verdicts, {answer.hash: len(answer.text) for answer in answers})


def _model(study: Study, name: str, accuracies: dict[str, Any], kl_sets: Sequence[str], at: At) -> dict[str, Any]:
    node = study.nodes[name]
    if isinstance(node, MergedModel):
        return {
            "kind": "merge",
            "parents": node.models,
            "q": node.q,
            "method": node.spec.method,
            "line": node.line,
        }
    trained = at(study.made_by(name)[0]) if name != SFT or study.recipe.sft is not None else None
    parent = node.parent if isinstance(node, StepModel) else None
    found: dict[str, Any] = {
        "kind": "base" if parent is None else "step",
        "training": _training(trained) if trained else None,
        "curve": _curve(trained) if trained else (),
        "implicit": implicit_accuracies(accuracies, name, parent) or None,
    }
    if isinstance(node, StepModel):
        found |= {
            "parents": [node.parent],
            "criterion": node.step.criterion,
            "algorithm": node.step.algorithm,
            "beta": node.beta,
            "strengths": node.strengths,
            "line": node.line,
            "kl_reference": _kl_reference(study, name, kl_sets, at),
        }
    return found


def implicit_accuracies(accuracies: dict[str, Any], name: str, parent: str | None) -> dict[str, Any]:
    """Return how often scores prefer the preferred completion of held-out pairs, by data source.

    `SOURCE/implicit` is of log pi/pi_ref, `SOURCE/from_sft` of log pi/pi_sft, `SOURCE/before` of log pi_ref and
    `SOURCE/after` of log pi; equal scores count one half.

    Args:
        accuracies: model: data source: clusters and log-probs, two a pair, the preferred completion's first.
        name: The model.
        parent: The model's reference; None for the SFT model, which has only `after`.
    """
    found: dict[str, Any] = {}
    for source, own in accuracies.get(name, {}).items():
        scores = {"after": own["logps"]}
        if parent is not None:
            before, sft = (accuracies[model][source]["logps"] for model in (parent, SFT))
            scores = {
                "implicit": [a - b for a, b in zip(own["logps"], before, strict=True)],
                "from_sft": [a - b for a, b in zip(own["logps"], sft, strict=True)],
                "before": before,
                **scores,
            }
        for key, values in scores.items():
            correct = [_preference(values[i] - values[i + 1]) for i in range(0, len(values), 2)]
            found[f"{source}/{key}"] = win_rate(correct, own["clusters"]).to_json()
    return found


def _preference(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def _kl_reference(study: Study, name: str, kl_sets: Sequence[str], at: At) -> dict[str, Any] | None:
    if not kl_sets or name not in study.evaluated:
        return None
    rows = [row for prompts in kl_sets for row in samples_of(at(f"kl/{name}/{prompts}"))]
    clusters = [row["answer"].prompt.cluster for row in rows]
    return mean_interval([row["reference"] for row in rows], clusters).to_json()


def _training(folder: Path) -> dict[str, Any]:
    summary = _json(folder / "summary.json")
    read = summary["records"]
    found = {key: summary[key] for key in TRAINING if key in summary}
    found |= {key: read[key] for key in READ if key in read}
    return found | {f"dropped: {reason}": n for reason, n in sorted(read["dropped"].items()) if n}


def _curve(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: float(value) for key, value in json.loads(line).items()} for line in lines]


def shown_answers(study: Study, at: At) -> list[dict[str, Any]]:
    """Return the first prompts of every report set with all models' answers, flags and verdicts."""
    found: list[dict[str, Any]] = []
    for name, spec in study.recipe.prompts.items():
        if spec.role != "report":
            continue
        answers = {model: answers_of(at(f"generate/{model}/{name}")) for model in study.evaluated}
        verdicts = {model: _by_prompt(at(f"judge/{model}/{name}")) for model in study.evaluated}
        for i, first in enumerate(answers[SFT][: study.recipe.report.max_answers]):
            found.append(
                {
                    "prompt": "\n\n".join(
                        message.content if len(first.prompt.messages) == 1 else f"{message.role}: {message.content}"
                        for message in first.prompt.messages
                    ),
                    "category": first.prompt.category,
                    "kind": str(first.prompt.kind),
                    "set": name,
                    "answers": {
                        model: _shown(of_model[i], verdicts[model].get(first.prompt.id, []))
                        for model, of_model in answers.items()
                    },
                }
            )
    return found


def _by_prompt(folder: Path) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in read_jsonl(folder / VERDICTS, Verdict):
        found.setdefault(verdict.prompt_id, []).append(verdict)
    return found


def _shown(answer: Any, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    by_criterion: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_criterion.setdefault(verdict.criterion, []).append(verdict)
    flags = [*dict.fromkeys(verdict.label for verdict in verdicts if verdict.label and verdict.label not in HARMLESS)]
    flags += ["truncated"] if answer.truncated else []
    flags += [answer.degenerate] if answer.degenerate else []
    return {
        "text": answer.text,
        "flags": flags,
        "verdicts": {criterion: _said(members) for criterion, members in by_criterion.items()},
    }


def _said(verdicts: Sequence[Verdict]) -> str | float | None:
    """Return what was said of an answer: the one verdict, or how often each was given."""
    said = [str(v.outcome) if v.outcome else v.label or v.score for v in verdicts]
    if len(said) == 1:
        return said[0]
    return ", ".join(f"{n} x {value}" for value, n in sorted(Counter(map(str, said)).items()))


def chosen(study: Study, out: Path, at: At) -> None:
    """Write the chosen model as a standard Hugging Face folder with a model card; a note where none was chosen."""
    name = _json(at("select") / SELECTION)["chosen"]
    if name is None:
        write_atomic(
            out / "README.md", "No model meets every constraint: none was chosen. The report names the nearest.\n"
        )
        return
    node, folder = study.nodes[name], out / "model"
    folder.mkdir(exist_ok=True)
    if isinstance(node, MergedModel) and node.spec.method == "token-level":
        folder = out  # no weights of its own: the card says which two models to mix
    elif (stack := study.stack(name, at)) is not None and (stack.members or is_adapter(Path(stack.base))):
        later = node.models[1] if isinstance(node, MergedModel) else name
        write_merged(stack, folder, Path(study.path(later, at)), progress=study.progress)
    elif isinstance(node, MergedModel):
        terms, rows = tabulate([study.combination(node, at)])
        merge_checkpoints(terms, rows, [folder], progress=study.progress)
    else:
        source = local_checkpoint(study.path(name, at), study.recipe.base.revision)
        copy_companions(source, folder)
        with machine_errors(folder):
            for path in sorted(source.glob("*.safetensors*")):
                shutil.copyfile(path, folder / path.name)
    results = parse_results(_json(at("report") / RESULTS))
    write_atomic(folder / "README.md", model_card(results, name))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
