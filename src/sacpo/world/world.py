"""The world: prompts, demonstrations, and the true reward and safety of any answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo.data.records import Demonstration, Kind, Prompt
from sacpo.errors import DataError
from sacpo.recipe.schema import WorldSpec
from sacpo.system.files import content_key
from sacpo.world.answers import demonstrate
from sacpo.world.facts import SCORES, Facts, read_facts, refusal_label, safety_label
from sacpo.world.lexicon import REFUSALS
from sacpo.world.phrasing import phrasings_of
from sacpo.world.tasks import KINDS, Task, choose_tasks, random_of
from sacpo.world.vocabulary import build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORLD_VERSION = 1
"""To be raised whenever the same spec gives other prompts, answers or scores than before."""


class World:
    """A how-to world in which everything about an answer is known.

    Args:
        spec: Seed, number of tasks, how often demonstrations comply with restricted tasks and how long they refuse.

    Attributes:
        tasks: The tasks that training asks for, by kind.
        unseen: Other combinations of the same actions and objects, which no training prompt asks for.

    Raises:
        RecipeError: The spec asks for more tasks than the lexicon can say.
    """

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        self.tasks, self.unseen = choose_tasks(spec)
        self._by_id = {task.id: task for group in (self.tasks, self.unseen) for kind in KINDS for task in group[kind]}
        self._refusals = REFUSALS[spec.refusal_length]
        self._steps = sorted({step for kind in KINDS for task in self.tasks[kind] for step in task.steps})

    @property
    def key(self) -> str:
        """Content key of everything that follows from the spec."""
        spec = self.spec.model_dump(mode="json")
        if spec["refusal_length"] == "usual":  # the key of worlds from before refusals had lengths
            del spec["refusal_length"]
        return content_key({"version": WORLD_VERSION, "spec": spec})

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return a new word-level tokenizer with a chat template."""
        return build_tokenizer()

    def prompts(
        self,
        split: str,
        n: int,
        *,
        seed: int,
        mix: Mapping[Any, float] | None = None,
        unseen_tasks: bool = False,
    ) -> list[Prompt]:
        """Draw distinct prompts: of each kind a fixed number, task and phrasing uniformly at random.

        Args:
            split: One of `phrasing.SPLITS`.
            n: How many.
            seed: Which ones; the world's own seed counts too.
            mix: Share of each kind, adding up to 1; by default every task is asked for equally often.
            unseen_tasks: Ask for tasks that training never asks for.

        Raises:
            DataError: There is no such split or kind, the shares do not add up to 1, or there are fewer prompts.
        """
        phrases = phrasings_of(split, self.spec.seed)
        tasks = self.unseen if unseen_tasks else self.tasks
        random = random_of("prompts", self.spec.seed, split, unseen_tasks, seed)
        drawn: list[Prompt] = []
        for kind, count in self._counts(n, mix, tasks).items():
            possible = len(tasks[kind]) * len(phrases)
            if count > possible:
                raise DataError(
                    f"the world has fewer {kind.value} prompts {'of unseen tasks ' if unseen_tasks else ''}than that",
                    where=f"split '{split}'",
                    value=count,
                    allowed=f"at most {possible}",
                    do="lower 'limit' or change 'mix'",
                )
            codes = random.choice(possible, size=count, replace=False) if count else ()
            drawn += [_prompt(tasks[kind][code // len(phrases)], phrases[code % len(phrases)]) for code in codes]
        return [drawn[i] for i in random.permutation(len(drawn))]

    def demonstrations(self, n: int, *, seed: int, mix: Mapping[Any, float] | None = None) -> list[Demonstration]:
        """Draw distinct prompts of the split "sft", each with an answer to imitate; see `prompts`.

        Raises:
            DataError: As `prompts` does.
        """
        random = random_of("answers", self.spec.seed, seed)
        return [
            Demonstration(prompt, self._demonstrate(prompt, random), source="world")
            for prompt in self.prompts("sft", n, seed=seed, mix=mix)
        ]

    def task(self, prompt: Prompt) -> Task:
        """Return the task that a prompt asks for.

        Raises:
            DataError: The prompt is not of this world.
        """
        name = prompt.meta.get("task")
        if name not in self._by_id:
            raise DataError(
                "the prompt is not of this world, so its answers cannot be scored",
                where=f"prompt {prompt.id}",
                value=name,
                do="draw prompts with format: world, under the same world section",
            )
        return self._by_id[name]

    def facts(self, prompt: Prompt, text: str) -> Facts:
        """Return what an answer says, read from its text.

        Raises:
            DataError: The prompt is not of this world.
        """
        return read_facts(self.task(prompt).steps, text, self._refusals)

    def score(self, criterion: str, prompt: Prompt, text: str) -> float:
        """Return the true score of an answer by a criterion of `facts.SCORES`, in logits, higher is better."""
        return SCORES[criterion](self.facts(prompt, text), self.task(prompt).kind)

    def reward(self, prompt: Prompt, text: str) -> float:
        """Return r*, the true helpfulness of an answer, in logits; see `facts.reward_of`."""
        return self.score("helpfulness", prompt, text)

    def safety(self, prompt: Prompt, text: str) -> float:
        """Return g*, the true safety of an answer, in logits, higher is safer; see `facts.safety_of`."""
        return self.score("harmlessness", prompt, text)

    def label(self, prompt: Prompt, text: str) -> str:
        """Return "unsafe" if the answer discloses a step of a restricted task, else "safe"."""
        return safety_label(self.facts(prompt, text), self.task(prompt).kind)

    def refusal(self, prompt: Prompt, text: str) -> str:
        """Return "full_refusal", "partial_refusal" or "compliance"."""
        return refusal_label(self.facts(prompt, text))

    def recognised(self, prompt: Prompt) -> Prompt:
        """Return a question with what the world knows of its task, in whatever phrasing; as it is where it names none.

        A question that names several tasks stays as it is, too.
        """
        words = f" {' '.join(re.findall('[a-z]+', prompt.text.lower()))} "
        named = [task for task in self._by_id.values() if f" {task.words} " in words]
        if len(named) != 1:
            return prompt
        (task,) = named
        return replace(prompt, cluster=task.id, category=task.topic, kind=task.kind, meta={"task": task.id})

    def population(self, split: str, unseen_tasks: bool = False) -> str:
        """Say in words what the prompts of a split are a sample of.

        Raises:
            DataError: There is no such split.
        """
        n = len(phrasings_of(split, self.spec.seed))
        group = self.unseen if unseen_tasks else self.tasks
        counts = ", ".join(f"{len(group[kind])} {kind.value}" for kind in KINDS)
        asked = "that no training prompt asks for" if unseen_tasks else "that training prompts ask for as well"
        return (
            f"how-to questions of the synthetic world (seed {self.spec.seed}) about tasks {asked} ({counts}), in the "
            f"{n} phrasings of split '{split}', which no other split has; task and phrasing uniform within a kind"
        )

    def _counts(
        self, n: int, mix: Mapping[object, float] | None, tasks: Mapping[Kind, Sequence[Task]]
    ) -> dict[Kind, int]:
        """Return how many prompts of each kind make n in these shares, by largest remainders."""
        if mix is None:
            total = sum(len(tasks[kind]) for kind in KINDS)
            shares = {kind: len(tasks[kind]) / max(total, 1) for kind in KINDS}
        else:
            shares = _shares(mix)
        counts = {kind: int(n * shares[kind]) for kind in KINDS}
        by_remainder = sorted(KINDS, key=lambda kind: counts[kind] - n * shares[kind])
        for kind in by_remainder[: n - sum(counts.values())]:
            counts[kind] += 1
        return counts

    def _demonstrate(self, prompt: Prompt, random: np.random.Generator) -> str:
        return demonstrate(self.task(prompt), self._steps, self._refusals, self.spec.sft_compliance, random)


def _prompt(task: Task, phrasing: str) -> Prompt:
    return Prompt.from_text(
        phrasing.format(task.words), cluster=task.id, category=task.topic, kind=task.kind, meta={"task": task.id}
    )


def _shares(mix: Mapping[object, float]) -> dict[Kind, float]:
    names = [kind.value for kind in KINDS]
    unknown = [name for name in mix if name not in names]
    if unknown:
        raise DataError("the world has no such kind of task", where="mix", value=unknown[0], allowed=names)
    if abs(sum(mix.values()) - 1) > 1e-6 or min(mix.values()) < 0:
        raise DataError(
            "the shares of a mix must add up to 1", where="mix", value=dict(mix), allowed="shares in [0, 1]"
        )
    return {kind: mix.get(kind.value, 0.0) for kind in KINDS}
