"""What is measured, in which order, and how many seconds each section may take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Part:
    """One process of a section.

    Attributes:
        call: Module and function in this package.
        budget: Seconds, the imports of libraries apart.
        label: What it is called.
        options: What the function is given.
    """

    call: str
    budget: float
    label: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """One question.

    Attributes:
        name: Its name.
        title: What is asked, for tables.
        parts: Processes, one after the other.
        smaller: The section that is done instead if memory runs out in each part or in the first.
        pairs: Labels that are compared: this package's, and the peer's.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    smaller: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()


DEFAULTS, TUNED = "TRL, defaults", "TRL, tuned"
OURS, OURS_PLAIN, OURS_FLEX = "sacpo", "sacpo, no checkpointing", "sacpo, FlexAttention"


STEPS, FEWER = 10, 8
"""Optimiser steps of a training, the first two of which are not timed."""


def _lora(shape: str, budget: float) -> tuple[Part, ...]:
    """Return the sides of LoRA: TRL checkpoints in its defaults, and not when it is tuned; so do we beside it."""
    base = {"shape": shape, "lora": True, "steps": STEPS}
    return (
        Part("training.run", budget, OURS, {**base, "peer": "sacpo"}),
        Part("training.run", 1.2 * budget, DEFAULTS, {**base, "peer": "trl"}),
        Part("training.run", budget, OURS_PLAIN, {**base, "peer": "sacpo", "checkpointing": False}),
        Part("training.run", 1.2 * budget, TUNED, {**base, "peer": "trl-tuned", "checkpointing": False}),
    )


def _full(shape: str, budget: float) -> tuple[Part, ...]:
    base = {"shape": shape, "lora": False, "steps": FEWER}
    return (
        Part("training.run", budget, OURS, {**base, "peer": "sacpo"}),
        Part("training.run", budget, DEFAULTS, {**base, "peer": "trl"}),
        Part("training.run", budget, TUNED, {**base, "peer": "trl-tuned"}),
    )


def _flex(shape: str, budget: float) -> tuple[Part, ...]:
    """Return packed rows with both attentions; one's compiler takes more than a minute."""
    base = {"shape": shape, "lora": True, "peer": "sacpo", "lengths": "hh", "steps": FEWER}
    return (
        Part("training.run", budget, OURS, base),
        Part("training.run", 3 * budget, OURS_FLEX, {**base, "attention": "flex_attention"}),
    )


PAIRS = ((OURS, DEFAULTS), (OURS_PLAIN, TUNED))
FULL_PAIRS = ((OURS, DEFAULTS), (OURS, TUNED))
FLEX_PAIRS = ((OURS_FLEX, OURS),)
KINDS = ("llama", "qwen3", "gemma3_text")
SECTIONS = (
    Section("machine", "the machine", (Part("machine.describe", 30),)),
    Section(
        "agreement",
        "rows agree, SDPA",
        tuple(Part("agreement.run", 20, kind, {"kind": kind, "forms": "sdpa"}) for kind in KINDS),
    ),
    Section("lora-7b", "DPO, LoRA r=16, 7B Llama shape", _lora("7b", 40), "lora-1.5b", PAIRS),
    Section("generation", "answers, 1.5B", (Part("generation.run", 60, options={"shape": "1.5b"}),)),
    Section("full-1.5b", "DPO, all weights, 1.5B Llama shape", _full("1.5b", 30), "full-small", FULL_PAIRS),
    Section(
        "kernels",
        "where a step's time goes",
        (
            Part("kernels.run", 45, OURS, {"shape": "7b"}),
            Part("kernels.run", 45, OURS_PLAIN, {"shape": "7b", "checkpointing": False}),
        ),
    ),
    Section(
        "resume", "a resumed training", (Part("resuming.run", 60, options={"shape": "small", "dtype": "float32"}),)
    ),
    Section("merge", "two checkpoints into one, q = .5", (Part("merging.run", 60, options={"shape": "7b"}),)),
    Section("full-7b", "DPO, all weights, 7B Llama shape", _full("7b", 50), None, FULL_PAIRS),
    Section(
        "agreement-flex",
        "rows agree, FlexAttention",
        tuple(Part("agreement.run", 80, kind, {"kind": kind, "forms": "flex"}) for kind in KINDS),
    ),
    Section("flex", "FlexAttention, LoRA r=16, 7B Llama shape, long pairs", _flex("7b", 50), None, FLEX_PAIRS),
    Section("lora-1.5b", "DPO, LoRA r=16, 1.5B Llama shape", _lora("1.5b", 30), None, PAIRS),
)
SPARE = (Section("full-small", "DPO, all weights, 0.17B Llama shape", _full("small", 30), None, FULL_PAIRS),)
"""Done only where a larger one has no room."""


def toy(section: Section) -> Section:
    """Return a section at a size of seconds, with a model of 64 columns."""
    return replace(section, title=f"{section.title} (toy)", parts=tuple(_toy_part(part) for part in section.parts))


def _toy_part(part: Part) -> Part:
    options = dict(part.options)
    if "shape" in options:
        options["shape"] = "toy"
    if part.call in ("training.run", "resuming.run", "kernels.run"):
        options |= {"steps": 4, "batch": 4, "lengths": "toy", "dtype": "float32", "rate": 5e-3}
        options |= {"micro": 2} if part.call == "training.run" else {}
    if part.call == "generation.run":
        options |= {"prompts": 4, "new_tokens": 8, "lengths": "toy"}
    if part.call == "agreement.run":
        options |= {"toy": True}
    return replace(part, options=options)


def chosen(names: list[str], *, small: bool) -> list[Section]:
    """Return the sections of these names, all without names, in the order of importance.

    Raises:
        ValueError: There is no such section.
    """
    known = {section.name: section for section in (*SECTIONS, *SPARE)}
    strange = [name for name in names if name not in known]
    if strange:
        raise ValueError(f"no such section: {strange[0]}; allowed: {', '.join(known)}")
    found = [section for section in SECTIONS if not names or section.name in names]
    found += [section for section in SPARE if section.name in names]
    return [toy(section) if small else section for section in found]


def budgets(sections: list[Section]) -> dict[str, float]:
    """Return the seconds that each section takes at most, in order."""
    return {section.name: sum(part.budget for part in section.parts) for section in sections}
