"""Labels of pairs: which answer is preferred by each criterion, and which answers are safe."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sacpo.data.records import Verdict
from sacpo.judging.llm.store import Store
from sacpo.judging.preferences import bradley_terry, preferences
from sacpo.judging.question import Question
from sacpo.judging.ratings import mean_ratings
from sacpo.judging.rubric import Form
from sacpo.pipeline.collect.drawing import Drawn
from sacpo.pipeline.judges import CriterionJudge
from sacpo.pipeline.outside import FromOutside
from sacpo.pipeline.tools import Tools
from sacpo.recipe.collect import HARMLESS, SAFE, SEVERE
from sacpo.system.files import content_key

SEVERITY = ("none", "minor", "moderate", "severe")
"""Labels of severity, from 0 to 3."""
UNSAFE = "unsafe"
Text = tuple[str, str]
"""A prompt's id and an answer's hash."""


@dataclass(frozen=True)
class PeoplesVerdicts(FromOutside):
    """What people said at the page of `sacpo label`, in its store."""

    path: str

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """All verdicts of the store."""
        with Store(Path(self.path)) as store:
            return store.verdicts()

    @cached_property
    def content(self) -> str:
        """The key of what was said."""
        return content_key([verdict.to_json() for verdict in self.verdicts])


Labeller = CriterionJudge | PeoplesVerdicts


@dataclass
class Labels:
    """What was said of all pairs.

    Attributes:
        better: By criterion and pair, the probability that the first answer is preferred; None where it was not read.
        safe: By answer, whether it is safe; None where it was not read.
        categories: By answer, the categories of harm that at least half of the judges name.
        severity: By answer, from 0 to 3.
        ratings: By criterion that language models rate and answer, the mean rating; None where it was not read.
        verdicts: Everything that was said one by one.
    """

    better: dict[str, list[float | None]] = field(default_factory=dict)
    safe: dict[Text, bool | None] = field(default_factory=dict)
    categories: dict[Text, tuple[str, ...]] = field(default_factory=dict)
    severity: dict[Text, int | None] = field(default_factory=dict)
    ratings: dict[str, dict[Text, float | None]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def label(pairs: Sequence[Drawn], labellers: Mapping[str, Labeller], scale: float, tools: Tools) -> Labels:
    """Let everyone label the pairs.

    Args:
        pairs: The pairs.
        labellers: By criterion; see `sacpo.recipe.collect`.
        scale: Of scores; see `LabelSpec`.
        tools: What judges work with.

    Raises:
        RunError: Verdicts of language models are missing, because a budget is spent or an endpoint failed; those that
            are there are kept.
    """
    found = Labels()
    for criterion, labeller in labellers.items():
        if criterion in (SAFE, SEVERE):
            _label_alone(criterion, labeller, pairs, found, tools)
        elif isinstance(labeller, CriterionJudge) and labeller.spec.kind != "llm":
            _label_by_scores(criterion, labeller, pairs, found, scale, tools)
        elif rates(labeller):
            _label_by_ratings(criterion, labeller, pairs, found, scale, tools)
        else:
            verdicts = _said(labeller, criterion, [Question(a.prompt, a, b) for a, b in pairs], tools)
            found.verdicts += verdicts
            found.better[criterion] = preferences(pairs, verdicts)
    return found


def rates(labeller: Labeller) -> bool:
    """Return whether language models give single answers a score."""
    rubric = labeller.rubric if isinstance(labeller, CriterionJudge) else None
    return rubric is not None and rubric.kind is Form.RATING


def answer_key(answer: object) -> Text:
    """Return what an answer's labels are kept under."""
    return answer.prompt.id, answer.hash  # type: ignore[attr-defined]


def _said(labeller: Labeller, criterion: str, questions: Sequence[Question], tools: Tools) -> list[Verdict]:
    if isinstance(labeller, CriterionJudge):
        return labeller.make(tools).judge(questions)
    asked = {(q.prompt.id, q.answer.hash, "" if q.baseline is None else q.baseline.hash) for q in questions}
    return [
        verdict
        for verdict in labeller.verdicts
        if verdict.criterion == criterion and (verdict.prompt_id, verdict.answer_hash, verdict.baseline_hash) in asked
    ]


def _label_by_scores(
    criterion: str, judge: CriterionJudge, pairs: Sequence[Drawn], found: Labels, scale: float, tools: Tools
) -> None:
    texts = {answer_key(answer): (answer.prompt, answer.text) for pair in pairs for answer in pair}
    scores = dict(zip(texts, judge.scores(tools)([*texts.values()]), strict=True))
    found.better[criterion] = _scored(pairs, {key: score.value for key, score in scores.items()}, scale)
    if criterion == HARMLESS and any(score.label for score in scores.values()):
        found.safe |= {key: score.label != UNSAFE if score.label else None for key, score in scores.items()}


def _label_by_ratings(
    criterion: str, judge: Labeller, pairs: Sequence[Drawn], found: Labels, scale: float, tools: Tools
) -> None:
    verdicts = _said(judge, criterion, _alone(pairs), tools)
    found.verdicts += verdicts
    found.ratings[criterion] = mean_ratings(verdicts)
    found.better[criterion] = _scored(pairs, found.ratings[criterion], scale)


def _scored(pairs: Sequence[Drawn], scores: Mapping[Text, float | None], scale: float) -> list[float | None]:
    return [bradley_terry(scores[answer_key(first)], scores[answer_key(second)], scale) for first, second in pairs]


def _alone(pairs: Sequence[Drawn]) -> list[Question]:
    """Return the questions about single answers, each once."""
    answers = {answer_key(answer): answer for pair in pairs for answer in pair}
    return [Question(answer.prompt, answer) for answer in answers.values()]


def _label_alone(criterion: str, labeller: Labeller, pairs: Sequence[Drawn], found: Labels, tools: Tools) -> None:
    asked = _alone(pairs)
    answers = [answer_key(question.answer) for question in asked]
    verdicts = _said(labeller, criterion, asked, tools)
    found.verdicts += verdicts
    labels: dict[Text, list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.label:
            labels[verdict.prompt_id, verdict.answer_hash].append(verdict.label)
    if criterion == SAFE:
        found.safe = {key: _safe(labels.get(key, [])) for key in answers}
        found.categories = _categories(verdicts, labels, tools)
    else:
        found.severity = {key: _severity(labels.get(key, [])) for key in answers}


def _safe(labels: Sequence[str]) -> bool | None:
    """Return whether an answer is safe: unsafe when at least half of the labels say so."""
    return None if not labels else sum(said == UNSAFE for said in labels) * 2 < len(labels)


def _severity(labels: Sequence[str]) -> int | None:
    """Return the middle of the levels, of two middle ones the higher."""
    levels = sorted(SEVERITY.index(said) for said in labels if said in SEVERITY)
    return levels[len(levels) // 2] if levels else None


def _categories(
    verdicts: Sequence[Verdict], labels: Mapping[Text, Sequence[str]], tools: Tools
) -> dict[Text, tuple[str, ...]]:
    """Return the categories that at least half of an answer's judges name; stores keep them beside the verdicts."""
    path = tools.bench.store
    if path is None or not path.exists():
        return {}
    judged = set(verdicts)
    named: dict[Text, Counter[str]] = defaultdict(Counter)
    with Store(path) as store:
        for row in store.rows():
            if row.verdict in judged:
                named[row.verdict.prompt_id, row.verdict.answer_hash].update(row.question.get("categories", ()))
    return {
        key: tuple(sorted(name for name, n in counts.items() if 2 * n >= len(labels[key])))
        for key, counts in named.items()
        if key in labels
    }
