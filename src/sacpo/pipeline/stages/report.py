"""The results of a whole run, its report, and the chosen model's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from sacpo.data.records import Answer, Verdict
from sacpo.measure.benchmarks import harness_figures
from sacpo.measure.reliability import reliability_of
from sacpo.pipeline.stage import JsonStage, Stage
from sacpo.pipeline.stages.answers import Answers, KlSamples
from sacpo.pipeline.stages.bank import Resampled
from sacpo.pipeline.stages.certificate import Certificate
from sacpo.pipeline.stages.data import Data, Overlap, Prompts, report_of
from sacpo.pipeline.stages.fidelity import MergeFidelity
from sacpo.pipeline.stages.harness import Harness
from sacpo.pipeline.stages.optimum import Optimum
from sacpo.pipeline.stages.pairs import LabelledPairs
from sacpo.pipeline.stages.path import FoundPath
from sacpo.pipeline.stages.plan import Found
from sacpo.pipeline.stages.race import Race
from sacpo.pipeline.stages.selection import Selection, chosen_name
from sacpo.pipeline.stages.train import Heldout, RecordSource, Trained, Training, not_independent
from sacpo.pipeline.stages.verdicts import Measures, Verdicts
from sacpo.pipeline.stages.weighed import Weighed
from sacpo.pipeline.tools import Tools
from sacpo.plain import JsonObject
from sacpo.recipe.models import MergedModel, Node, StepModel, model_graph
from sacpo.recipe.schema import SFT, Recipe
from sacpo.report.build import build_report
from sacpo.report.results import FORMAT
from sacpo.stats.intervals import mean_interval, win_rate
from sacpo.system.runs import finished_size, versions
from sacpo.theory.regret import regret

RESULTS = "results.json"
CERTIFIED = ("sentence", "bounds", "confidence", "population", "assumptions", "look")
"""What the report takes of a certificate, beside the tests."""
HARMLESS = ("safe", "compliance", "full_compliance")
TRAINING = ("kind", "steps", "epochs", "tokens", "pairs", "completions", "first_loss", "last_loss")
NOTED = ("ties_dropped", "precision", "heldout_records", "best_step", "best_eval_loss", "averaged_steps")
READ = ("records", "kept", "truncated", "longest")
"""What a training says of the records that it read: how many, and the tokens of the longest."""


@dataclass(frozen=True)
class Report(JsonStage):
    """results.json, the figures and the page.

    Attributes:
        recipe: The whole recipe, which the report shows.
        command: How the run was started.
        data: The data sources.
        pairs: The pairs, and the resampled answers, that were sampled for steps.
        prompts: The prompt sets, in the recipe's order.
        overlap: What training and evaluation share.
        trained: Trainings, by model.
        heldout: Scores of held-out pairs, by model.
        answers, verdicts, kl: By model and prompt set.
        measures: By model.
        selection: The choice; None: nothing is chosen.
        certificate: What is certified of it; None: nothing was to be certified.
        optimum: The theory; None: there is none.
        found: The searches for strengths, by step.
        weighed: Choices of factors, by step.
        paths: Searches for q, by merge.
        fidelity: How far merged models are from their targets, by model and prompt set.
        harness: What models reached on tasks of lm-evaluation-harness.
        races: By model and prompt set.
    """

    result: ClassVar[str] = RESULTS

    recipe: Recipe
    command: str
    data: tuple[Data, ...]
    pairs: tuple[LabelledPairs | Resampled, ...]
    prompts: tuple[Prompts, ...]
    overlap: Overlap
    trained: Mapping[str, Training]
    heldout: Mapping[str, Heldout]
    answers: Mapping[str, Mapping[str, Answers]]
    verdicts: Mapping[str, Mapping[str, Verdicts]]
    kl: Mapping[str, Mapping[str, KlSamples]]
    measures: Mapping[str, Measures]
    selection: Selection | None
    certificate: Certificate | None
    optimum: Optimum | None
    found: Mapping[str, Found]
    weighed: Mapping[str, Weighed]
    paths: Mapping[str, FoundPath]
    fidelity: Mapping[str, Mapping[str, MergeFidelity]]
    harness: Mapping[str, Harness]
    races: Mapping[str, Mapping[str, Race]]

    @property
    def name(self) -> str:
        """`report`."""
        return "report"

    def work(self, out: Path, tools: Tools) -> None:
        """Write the report's folder."""
        build_report(self.results(tools), self._shown(tools), out)

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return model_graph(self.recipe)

    def results(self, tools: Tools) -> JsonObject:
        """Return everything that the run measured, in the form of `sacpo.report.results`."""
        recipe = self.recipe
        accuracies = {name: tools.read(stage) for name, stage in self.heldout.items()}
        data = {stage.source.name: tools.read(stage).report for stage in self.data}
        data |= {stage.name: tools.read(stage).report for stage in self.pairs}
        return {
            "format": FORMAT,
            "name": recipe.name,
            "recipe": recipe.written(),
            "versions": versions(),
            "seed": recipe.seed,
            "command": self.command,
            "disk": self._disk(tools),
            "warnings": [*tools.read(self.overlap), *not_independent(self.trained)],
            "baseline": recipe.evaluate.baseline,
            "data": data,
            "models": {name: self._model(name, accuracies, tools) for name in self._nodes},
            "prompts": {stage.source.name: report_of(tools.at(stage)) for stage in self.prompts},
            "measures": {name: tools.read(stage) for name, stage in self.measures.items()},
            "reliability": {name: self._reliability(name, tools) for name in self._opened},
            "plan": {name: self._search(tools.read(stage), tools) for name, stage in self.found.items()},
            "factors": {name: tools.read(stage) for name, stage in self.weighed.items()},
            **self._choice(tools),
            "theory": tools.read(self.optimum) if self.optimum is not None else None,
            "paths": {name: tools.read(stage) for name, stage in self.paths.items()},
            "fidelity": {
                name: {prompts: tools.read(stage) for prompts, stage in stages.items()}
                for name, stages in self.fidelity.items()
            },
            "harness": harness_figures({name: tools.read(stage) for name, stage in self.harness.items()}),
            "race": {name: [tools.read(race) for race in races.values()] for name, races in self.races.items()},
        }

    @property
    def _opened(self) -> list[str]:
        """The prompt sets that every model answered."""
        return [*next(iter(self.answers.values()), {})]

    def _choice(self, tools: Tools) -> JsonObject:
        """Return the choice, which is the certified model where there is one, and the certificate."""
        selection = None if self.selection is None else tools.read(self.selection)
        if selection is None or self.certificate is None:
            return {"selection": selection, "certificate": None}
        found = tools.read(self.certificate)
        chosen = chosen_name(selection, found)
        certificate = {name: found[name] for name in CERTIFIED} | found["tests"]
        return {
            "selection": {**selection, "chosen": chosen},
            "certificate": {**certificate, "point_choice": selection["chosen"], "sha256": found.get("sha256")},
        }

    def _search(self, found: JsonObject, tools: Tools) -> JsonObject:
        """Return a search, with the kept model's regret where the world knows the optimum."""
        theory, measures = self.recipe.theory, self.measures.get(found["model"])
        if theory is None or self.optimum is None or measures is None:
            return found
        metrics = tools.read(measures)[theory.prompts]["metrics"]
        names = {"E_r": f"mean_score/{theory.reward}", "E_g": f"mean_score/{theory.safety}", "kl": "kl"}
        own = {name: metrics[key]["value"] for name, key in names.items() if key in metrics}
        if len(own) < len(names) or None in own.values():
            return found
        return found | {"regret": regret(tools.read(self.optimum)["curve"], beta=theory.beta, **own)}

    def _disk(self, tools: Tools) -> dict[str, int]:
        """Return the bytes of the finished stages by what they hold; checkpoints and caches lie beside them."""
        judged = [stage for of in (self.answers, self.verdicts) for by_set in of.values() for stage in by_set.values()]
        stages: dict[str, list[Stage[object]]] = {
            "data and prompts": [*self.data, *self.prompts],
            "models": [*self.trained.values()],
            "answers and verdicts": [*judged],
        }
        return {what: sum(finished_size(tools.at(stage)) for stage in members) for what, members in stages.items()}

    def _reliability(self, prompts: str, tools: Tools) -> list[JsonObject]:
        """Return the reliability of a prompt set's judges, over all models."""
        answers = [answer for stages in self.answers.values() for answer in tools.read(stages[prompts])]
        verdicts = [verdict for stages in self.verdicts.values() for verdict in tools.read(stages[prompts])]
        return reliability_of(verdicts, {answer.hash: len(answer.text) for answer in answers})

    def _model(self, name: str, accuracies: JsonObject, tools: Tools) -> JsonObject:
        node = self._nodes[name]
        if isinstance(node, MergedModel):
            return {
                "kind": "merge",
                "parents": node.models,
                "q": node.q,
                "weights": node.weights,
                "method": node.spec.method,
                "line": node.line,
                "implicit": implicit_accuracies(accuracies, name, None) or None,
            }
        trained = tools.read(self.trained[name]) if name in self.trained else None
        parent = node.parent if isinstance(node, StepModel) else None
        found: JsonObject = {
            "kind": "base" if parent is None else "step",
            "training": training_facts(trained) if trained else None,
            "curve": trained.curve if trained else (),
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
                "round": node.round if node.step.rounds > 1 else None,
                "sampled": next((stage.name for stage in self._records(name) if stage in self.pairs), None),
                "kl_reference": self._kl_reference(name, tools),
            }
        return found

    def _records(self, name: str) -> tuple[RecordSource, ...]:
        """Return what a model was trained on."""
        return self.trained[name].records if name in self.trained else ()

    def _kl_reference(self, name: str, tools: Tools) -> JsonObject | None:
        stages = self.kl.get(name)
        if not stages:
            return None
        rows = [row for stage in stages.values() for row in tools.read(stage)]
        clusters = [row["answer"].prompt.cluster for row in rows]
        return mean_interval([row["reference"] for row in rows], clusters).to_json()

    def _shown(self, tools: Tools) -> list[JsonObject]:
        """Return the first prompts of every report set with all models' answers, flags and verdicts."""
        found: list[JsonObject] = []
        for stage in self.prompts:
            if stage.spec.role != "report":
                continue
            name = stage.source.name
            answers = {model: tools.read(stages[name]) for model, stages in self.answers.items()}
            verdicts = {model: _by_prompt(tools.read(stages[name])) for model, stages in self.verdicts.items()}
            first = answers[SFT][: self.recipe.report.max_answers]
            found += [shown_prompt(name, i, first[i], answers, verdicts) for i in range(len(first))]
        return found


def training_facts(trained: Trained) -> JsonObject:
    """Return what results.json says of a training."""
    summary = trained.summary
    read = summary["records"]
    found = {key: summary[key] for key in (*TRAINING, *NOTED) if key in summary}
    found |= {key: read[key] for key in READ if key in read}
    return found | {f"dropped: {reason}": n for reason, n in sorted(read["dropped"].items()) if n}


def implicit_accuracies(accuracies: JsonObject, name: str, parent: str | None) -> JsonObject:
    """Return how often scores prefer the preferred completion of held-out pairs, by data source.

    `SOURCE/implicit` is of log pi/pi_ref, `SOURCE/from_sft` of log pi/pi_sft, `SOURCE/before` of log pi_ref and
    `SOURCE/after` of log pi; equal scores count one half.

    Args:
        accuracies: model: data source: clusters and log-probs, two a pair, the preferred completion's first.
        name: The model.
        parent: The model's reference; None for the SFT model, which has only `after`, and for a merged model, which has
            no reference of its own.
    """
    found: JsonObject = {}
    for source, own in accuracies.get(name, {}).items():
        scores: dict[str, list[float]] = {}
        if parent is not None:
            before = accuracies[parent][source]["logps"]
            scores["implicit"] = [a - b for a, b in zip(own["logps"], before, strict=True)]
        if name != SFT:
            sft = accuracies[SFT][source]["logps"]
            scores["from_sft"] = [a - b for a, b in zip(own["logps"], sft, strict=True)]
        if parent is not None:
            scores["before"] = before
        scores["after"] = own["logps"]
        for key, values in scores.items():
            correct = [_preference(values[i] - values[i + 1]) for i in range(0, len(values), 2)]
            found[f"{source}/{key}"] = win_rate(correct, own["clusters"]).to_json()
    return found


def _preference(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def shown_prompt(
    prompts: str,
    place: int,
    first: Answer,
    answers: Mapping[str, Sequence[Answer]],
    verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]],
) -> JsonObject:
    """Return one prompt of a set with all models' answers, as the page shows it."""
    messages = first.prompt.messages
    return {
        "prompt": "\n\n".join(
            message.content if len(messages) == 1 else f"{message.role}: {message.content}" for message in messages
        ),
        "category": first.prompt.category,
        "kind": str(first.prompt.kind),
        "set": prompts,
        "answers": {
            model: _shown(of_model[place], verdicts[model].get(first.prompt.id, []))
            for model, of_model in answers.items()
        },
    }


def _by_prompt(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.prompt_id, []).append(verdict)
    return found


def _shown(answer: Answer, verdicts: Sequence[Verdict]) -> JsonObject:
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
