"""The world: synthetic preferences where reward and safety are known."""
