"""What the closed form costs at 7B beside the paper's two steps, by arithmetic: `python -m benchmarks.distil_cost`.

A token costs `2 P` operations forward, `6 P` in training and `2 P` more with recomputed activations, for P parameters.
Sampling is counted by an assumed rate of vLLM, all else by an assumed share of the card's peak. Nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """The paper's setting (section 6, appendix G), and what it leaves open.

    Attributes:
        parameters: Of the model.
        pairs: Of PKU-SafeRLHF-30K, labelled by both criteria.
        epochs: Of each step.
        tokens: Prompt and answer together, on the average; an assumption.
        answer: Those of the answer.
        prompts, samples, keep, rounds: Of the bank; answers of a prompt that weigh enough to be learnt (`draw: all`; 9
            to 10 in the world, whose answers differ), and epochs on them.
        peak: Operations a second of the card in bf16 (A100), and the share of it that trainings reach; an assumption.
        decoding: Tokens a second that vLLM samples on one card; an assumption.
        said: Card hours of both steps by the paper's own words.
    """

    parameters: float = 6.7e9
    pairs: int = 27_000
    epochs: int = 3
    tokens: int = 160
    answer: int = 120
    prompts: int = 10_000
    samples: int = 16
    keep: int = 10
    rounds: int = 2
    peak: float = 312e12
    share: float = 0.4
    decoding: float = 2500.0
    said: float = 16.0

    def tree(self, answers: int) -> int:
        """Return the tokens of a prompt with so many answers."""
        return self.tokens - self.answer + answers * self.answer

    def hours(self, tokens: float, passes: float) -> float:
        """Return the card hours of so many tokens at `passes x P` operations each."""
        return tokens * passes * self.parameters / (self.peak * self.share) / 3600


@dataclass(frozen=True)
class Part:
    """A part of the work: tokens sampled, scored and trained on, and card hours."""

    name: str
    sampled: float = 0.0
    scored: float = 0.0
    trained: float = 0.0
    hours: float = 0.0


def parts(setting: Setting) -> Iterator[tuple[str, Part]]:
    """Give the parts of the paper's recipe, then those of the closed form."""
    sides = 2.0 * setting.pairs * setting.tokens
    for step in ("step 1, DPO", "step 2, DPO"):
        trained = sides * setting.epochs
        yield "paper", Part(step, 0, sides, trained, setting.hours(sides, 2) + setting.hours(trained, 8))
    # a prompt is computed once for its answers
    traits = 2.0 * setting.pairs * setting.tree(2)
    yield "closed form", Part("traits of the pairs, once a criterion", 0, traits, 0, setting.hours(traits, 2))
    bank = float(setting.prompts * setting.samples)
    sampled = bank * setting.answer
    yield "closed form", Part("bank, sampled", sampled, 0, 0, sampled / setting.decoding / 3600)
    scored = float(setting.prompts * setting.tree(setting.samples))
    yield "closed form", Part("bank, scored", 0, scored, 0, setting.hours(scored, 2))
    trained = float(setting.prompts * setting.tree(setting.keep) * setting.rounds)
    yield "closed form", Part("one lambda, distilled", 0, 0, trained, setting.hours(trained, 8))


def beside(setting: Setting) -> Iterator[Part]:
    """Give what stands beside the sums: other scores for the closed form, and what the paper says of its own steps."""
    scored = 2.0 * setting.prompts * setting.samples * setting.tokens  # each answer behind its own prompt
    name = "a reward and a cost model of 7B score the bank, in the place of its traits and the pairs'"
    yield Part(name, 0, scored, 0, setting.hours(scored, 2))
    yield Part("the paper's two steps as it says: about an hour each on 8 A100", hours=setting.said)


def row(name: str, part: Part) -> str:
    """Return a line of the table."""
    millions = " | ".join(f"{tokens / 1e6:.1f}" for tokens in (part.sampled, part.scored, part.trained))
    return f"| {name} | {millions} | {part.hours:.1f} |"


def main() -> None:
    """Print the table."""
    print("| | million tokens sampled | scored | trained on | A100 hours |\n|---|---|---|---|---|")
    totals: dict[str, float] = {}
    for whose, part in parts(Setting()):
        print(row(f"{whose}: {part.name}", part))
        totals[whose] = totals.get(whose, 0.0) + part.hours
    for whose, hours in totals.items():
        print(f"| **{whose}, one lambda** | | | | **{hours:.1f}** |")
    for part in beside(Setting()):
        print(row(part.name, part))


if __name__ == "__main__":
    main()
