"""The world: synthetic preferences where reward and safety are known."""

from sacpo.world.answers import Facts
from sacpo.world.tasks import Task
from sacpo.world.world import World

__all__ = ["Facts", "Task", "World"]
