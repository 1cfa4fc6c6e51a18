"""The package's exceptions.

    SacpoError
    ├── TrainingDiverged       exit code 1: a loss or a gradient became NaN or infinite
    └── UserError              exit code 2: something the user can mend
        ├── RecipeError        the recipe file
        ├── DataError          a data file or a record in it
        ├── ModelError         a model or a tokenizer
        ├── MachineError       the disk, a folder's permissions, a device
        └── RunError           a run folder: locked, corrupted, incomplete
            └── Unfinished     replies of language models are missing: the same command goes on

Exit code 70 is what nobody foresaw: an error of another kind, which is a mistake of this package.
A user error says what is wrong, where, the value, what is allowed and what to do.
"""

from __future__ import annotations


class SacpoError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 70


class TrainingDiverged(SacpoError):
    """A loss or a gradient norm became NaN or infinite; the message names the batch's ids."""

    exit_code = 1


class UserError(SacpoError):
    """Something the user can mend.

    Args:
        what: What is wrong, in one clause.
        where: The file, line and field, as far as known.
        value: The offending value.
        allowed: What would be allowed.
        do: What to do about it.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        value: object = None,
        allowed: object = None,
        do: str | None = None,
    ) -> None:
        self.what, self.where, self.value, self.allowed, self.do = what, where, value, allowed, do
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where:   {self.where}")
        if self.value is not None:
            lines.append(f"  value:   {_short(self.value)}")
        if self.allowed is not None:
            lines.append(f"  allowed: {_listed(self.allowed)}")
        if self.do is not None:
            lines.append(f"  to do:   {self.do}")
        return "\n".join(lines)


class RecipeError(UserError):
    """The recipe file cannot be used as it is."""


class DataError(UserError):
    """A data file, or a record in it, cannot be used as it is."""


class ModelError(UserError):
    """A model or a tokenizer cannot be used as it is."""


class MachineError(UserError):
    """The machine lacks something: disk space, a permission, a device."""


class RunError(UserError):
    """A run folder is locked, corrupted or incomplete."""


class Unfinished(RunError):
    """Replies of language models are missing; what is there stays, and the same command goes on from it."""


def _short(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _listed(allowed: object) -> str:
    if isinstance(allowed, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in allowed)
    return str(allowed)
