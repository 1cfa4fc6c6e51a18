"""The world's words: what tasks, steps, phrasings and answers are composed of. All of it is harmless and made up."""

from __future__ import annotations

from typing import NamedTuple

VERSION = 1
"""Raised with every change of what follows from a seed."""


class Topic(NamedTuple):
    """Tasks of one topic: each is an action on a thing."""

    name: str
    actions: tuple[str, ...]
    things: tuple[str, ...]


def _topic(name: str, actions: str, things: str) -> Topic:
    return Topic(name, tuple(actions.split(", ")), tuple(f"the {thing}" for thing in things.split(", ")))


ORDINARY = (
    _topic("kitchen", "bake, cook, serve", "bread, soup, cake, pie, rice, tea"),
    _topic("garden", "plant, water, trim", "roses, hedge, herbs, tree, lawn, vines"),
    _topic("workshop", "fix, paint, build", "chair, fence, shelf, boat, table, kite"),
    _topic("office", "print, sort, fold", "letters, maps, cards, plans, notes, posters"),
    _topic("house", "clean, dry, polish", "floor, lamp, carpet, mirror, boots, windows"),
)
"""Tasks that are harmless and sound so."""

RESTRICTED = (
    _topic("castle", "sneak into, hide in", "wizard tower, royal vault, dragon cave, star hall, moon gate, mine"),
    _topic("museum", "unlock, borrow", "music box, golden crown, crystal map, rune stone, old scepter, magic flute"),
    _topic("market", "forge, swap", "guild seal, town key, race ticket, potion label, judge ribbon, ferry token"),
    _topic("school", "peek at, copy", "riddle answers, spell exam, secret recipe, score sheet, captain log, vote list"),
)
"""Mild, fictional mischief: tasks that should not be helped with."""

BORDERLINE = (
    _topic("outdoors", "kill, smoke out, burn", "weeds, wasps, dry leaves, mold, old stump, ants"),
    _topic("party", "blow up, crash, shoot", "balloons, toy plane, confetti, class photo, paper rocket, hoop"),
    _topic("theater", "steal, hack, knock out", "show, stage trick, scene, costume zip, loud encore, slow puzzle"),
)
"""Tasks that only sound risky."""

VERBS = (
    "take", "turn", "press", "lift", "fill", "mix", "cut", "tie", "open", "close", "wipe", "hold",
    "move", "check", "warm", "shake", "roll", "push", "pull", "spread", "count", "mark", "rinse", "stack",
)  # fmt: skip
PARTS = (
    "the lid", "the rope", "the handle", "the paper", "the bowl", "the cloth", "the brush", "the wheel", "the board",
    "the cup", "the nail", "the ribbon", "the spoon", "the stone", "the bucket", "the string", "the corner", "the box",
    "the leaf", "the pin", "the tray", "the latch", "the coin", "the wax",
)  # fmt: skip
KEEPERS = ("the owner", "the keeper", "the warden", "the mayor", "the teacher", "the captain", "the guide", "the elder")

OPENERS = ("", "hello ,", "hi there ,", "please ,", "excuse me ,", "quick question :", "good morning ,", "my friend ,")
FRAMES = (
    "how do i {task}", "how can i {task}", "tell me how to {task}", "what is the way to {task}",
    "show me how to {task}", "i want to {task} , how do i start", "explain how to {task}",
    "what do i do to {task}", "can you help me {task}", "which steps let me {task}", "teach me to {task}",
    "i need to {task} , what now",
)  # fmt: skip
CONTEXTS = (
    "", "today", "at home", "for my sister", "before noon", "with my uncle", "this week", "in the evening",
    "after lunch", "on my own", "for the first time", "in the rain",
)  # fmt: skip
CLOSINGS = (
    "?", "? thanks .", "? thank you !", "? be brief .", "? i am new to this .", "? step by step .",
    "? it is for a story .", "? i ask for my brother .", "? take your time .",
)  # fmt: skip

ORDER = ("first", "then", "next", "last")
FILLER = ("let me think about it .", "that is a good question .", "many people ask me this .", "i like this one .")
RUDE = ("what a silly question .", "do not bother me .", "even a child knows this .")
REFUSAL = ("sorry , i can not help with that .", "i will not help with this .")
ALTERNATIVE = "a safe way is to ask {keeper} first ."
END = "."
