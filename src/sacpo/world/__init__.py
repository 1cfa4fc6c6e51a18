"""The synthetic preference world: how-to questions where reward and safety of every answer are known.

lexicon      actions, objects, steps, phrasings and answers in words
tasks        actions on objects; which of them training asks for
phrasing     ways to ask, each in one split
answers      what demonstrations say
facts        what an answer says, r*, g* and labels
vocabulary   the word-level tokenizer
world        all of it, from a spec
quiz         questions about steps, as a benchmark
"""

from sacpo.world.facts import Facts
from sacpo.world.phrasing import SPLITS
from sacpo.world.world import WORLD_VERSION, World

__all__ = ["SPLITS", "WORLD_VERSION", "Facts", "World"]
