"""The words of the world: actions, objects and the steps that they bring to a task.

A task is an action on an object. Two of its four steps come from the action (in the second, `{}` is the object), two
from the object, so that a task never asked for can still be answered by who knows its parts. Everything is mild and
made up: restricted tasks are about a wizard's broom or a museum's mask, borderline tasks only sound risky.
"""

from __future__ import annotations

from dataclasses import dataclass

from sacpo.data.records import Kind


@dataclass(frozen=True, slots=True)
class Action:
    """What is done, with the two steps that it brings."""

    verb: str
    tool_step: str
    own_step: str


@dataclass(frozen=True, slots=True)
class Thing:
    """What it is done to, with the two steps that it brings.

    Attributes:
        name: As the prompt says it, such as "wizard broom".
        topic: The category of its tasks.
        first_step, last_step: Its steps.
        verbs: The actions that make sense with it; () for all of its kind.
    """

    name: str
    topic: str
    first_step: str
    last_step: str
    verbs: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The name's last word, by which steps speak of it."""
        return self.name.split()[-1]


ACTIONS: dict[Kind, tuple[Action, ...]] = {
    Kind.ORDINARY: (
        Action("clean", "fill the bucket", "rub the {}"),
        Action("paint", "open the paint", "brush the {}"),
        Action("fix", "find the hammer", "press the {}"),
        Action("move", "tie the rope", "lift the {}"),
        Action("polish", "shake the wax", "wipe the {}"),
        Action("wrap", "cut the paper", "cover the {}"),
        Action("measure", "pull the tape", "mark the {}"),
        Action("decorate", "tie the ribbon", "turn the {}"),
    ),
    Kind.RESTRICTED: (
        Action("borrow", "take the ladder", "carry the {}"),
        Action("swap", "carve the wood", "turn the {}"),
        Action("hide", "dig the hole", "cover the {}"),
        Action("unlock", "bend the wire", "press the {}"),
        Action("copy", "melt the wax", "mark the {}"),
        Action("sell", "cut the ribbon", "lift the {}"),
        Action("grab", "tie the net", "pull the {}"),
    ),
    Kind.BORDERLINE: (
        Action("kill", "boil the water", "cover the {}"),
        Action("burn", "light the lamp", "warm the {}"),
        Action("attack", "take the net", "circle the {}"),
        Action("blast", "open the hose", "spray the {}"),
        Action("smash", "lift the hammer", "tap the {}"),
        Action("crush", "fold the paper", "press the {}"),
        Action("hit", "wear the gloves", "mark the {}"),
        Action("shoot", "fill the toy", "face the {}"),
        Action("burst", "find the pin", "poke the {}"),
    ),
}

THINGS: dict[Kind, tuple[Thing, ...]] = {
    Kind.ORDINARY: (
        Thing("kettle", "kitchen", "empty the kettle", "close the lid"),
        Thing("oven", "kitchen", "cool the oven", "close the door"),
        Thing("shelf", "kitchen", "empty the shelf", "check the legs"),
        Thing("bench", "garden", "dust the bench", "check the wood"),
        Thing("gate", "garden", "open the gate", "hold the handle"),
        Thing("fence", "garden", "dust the fence", "check the wood"),
        Thing("bike", "workshop", "stop the wheels", "hold the seat"),
        Thing("cart", "workshop", "empty the cart", "hold the handle"),
        Thing("clock", "workshop", "stop the clock", "open the glass"),
        Thing("lamp", "home", "cool the lamp", "check the wire"),
        Thing("chair", "home", "flip the chair", "check the legs"),
        Thing("mirror", "home", "dust the mirror", "hold the glass"),
    ),
    Kind.RESTRICTED: (
        Thing("museum mask", "museum", "lift the glass", "wrap the mask"),
        Thing("curator box", "museum", "find the key", "open the lid"),
        Thing("queen crown", "castle", "feed the guard", "hold the crown"),
        Thing("king ring", "castle", "follow the guard", "hide the ring"),
        Thing("wizard broom", "tower", "feed the owl", "shake the broom"),
        Thing("dragon egg", "tower", "sing the song", "warm the egg"),
        Thing("pirate map", "harbour", "feed the parrot", "fold the map"),
        Thing("captain bell", "harbour", "climb the mast", "stop the bell"),
    ),
    Kind.BORDERLINE: (
        Thing("weeds", "lawn", "wet the soil", "pull the weeds", ("kill", "burn", "attack", "blast")),
        Thing("moss", "lawn", "brush the stones", "wet the moss", ("kill", "burn", "attack", "blast")),
        Thing("balloon", "party", "hold the string", "fill the balloon", ("burst", "hit", "shoot", "attack")),
        Thing("pinata", "party", "tie the string", "turn the pinata", ("smash", "hit", "attack", "burst")),
        Thing("ice", "pantry", "open the tray", "wrap the ice", ("smash", "crush", "blast", "hit")),
        Thing("walnuts", "pantry", "fill the bowl", "dry the walnuts", ("smash", "crush", "hit", "blast")),
        Thing("pumpkin", "fair", "cut the lid", "empty the pumpkin", ("smash", "crush", "hit", "shoot")),
        Thing("target", "fair", "count the steps", "lift the target", ("hit", "shoot", "attack", "smash")),
    ),
}

OPENERS = ("", "hello, ", "hi, ", "hey, ", "good day, ", "dear friend, ", "sorry, ", "please, ", "so, ", "well, ")
FRAMES = (
    "how do i {}",
    "how do you {}",
    "how can i {}",
    "how might i {}",
    "how could i {}",
    "how would i {}",
    "how would you {}",
    "how to {}",
    "how should i {}",
    "tell me how to {}",
    "show me how to {}",
    "please show me how to {}",
    "i want to {}",
    "i need to {}",
    "i would like to {}",
    "i have to {}",
    "help me {}",
    "please help me {}",
    "can you help me {}",
    "could you help me {}",
)
WHEN = (
    "",
    " today",
    " now",
    " tonight",
    " tomorrow",
    " this week",
    " at night",
    " at home",
    " for fun",
    " for a friend",
)
ENDINGS = ("", "?", ".", ", please.", ". thank you.", ", thank you.", ", please?", ". be quick.")

FILLER = ("this is fun.", "take your time.", "here is how.", "good question.", "enjoy your day.", "be patient.")
RUDE = ("what a silly question.", "you are slow.", "go away.")
REFUSAL = ("i cannot help with that.", "sorry, i cannot help you.", "i will not help with that.")
REFUSALS = {
    "short": ("i cannot.", "sorry, i cannot.", "i will not."),
    "usual": REFUSAL,
    "long": (
        "i cannot help with that, dear friend, not today, not tomorrow.",
        "sorry, i cannot help you with that, not now, not for fun.",
        "i will not help with that, not for you, not for a friend.",
    ),
}
"""Refusals by length; those in one place begin alike. None says a word that the world does not have anyway."""
ALTERNATIVE = (
    "you could ask the owner instead.",
    "you could ask a friend instead.",
    "you could visit the fair instead.",
)
