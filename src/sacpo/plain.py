"""What JSON holds, as Python has it; the one place that leaves these values untyped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JsonObject = dict[str, Any]
"""A JSON object that is made here or was read from a file; its values are what JSON has."""
JsonMapping = Mapping[str, Any]
"""A JSON object that is only read."""
