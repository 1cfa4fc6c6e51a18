"""Whether the hub can be asked: once, so that a mistyped id or a machine without network is told at once.

The hub's own client asks again for 23 seconds, and a model's loading asks for several files one after the other.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sacpo.errors import DataError, ModelError, UserError

PATIENCE = 20.0
"""Seconds until the hub must have answered."""
NO_ANSWER: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])
"""What is raised where nobody answers; the latter is the HTTP library's, whose name changed between releases."""
NETWORK = "check the id and the network (HF_HUB_OFFLINE=1 takes what is in the cache and asks nobody)"
Kind = Literal["model", "dataset"]
ERRORS: dict[Kind, type[UserError]] = {"model": ModelError, "dataset": DataError}


def unanswered(repo: str, kind: Kind, revision: str | None, where: str) -> str:
    """Ask the hub once whether it has something; return why it could not be asked, "" where it has.

    Raises:
        UserError: The hub has no such thing: of the class in `ERRORS`.
    """
    try:
        return asked(repo, kind, revision)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as refused:
        raise ERRORS[kind](
            f"the hub has no such {kind}, or shows it to members only",
            where=where,
            do="check the id and the revision; for one that needs an account: huggingface-cli login",
        ) from refused


@cache
def asked(repo: str, kind: Kind, revision: str | None) -> str:
    """Ask the hub, and return why it did not answer, "" where it has what is asked for; it raises its own errors."""
    try:
        HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=PATIENCE)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise
    except NO_ANSWER as silent:
        return type(silent).__name__
    return ""


def ask_once(repo: str, kind: Kind, revision: str | None) -> None:
    """Ask the hub once whether it has something; where it does not answer, this process asks it nothing more.

    Then the libraries take what is in their cache at once, or say at once that it is not there.

    Raises:
        UserError: The hub has no such thing: of the class in `ERRORS`.
    """
    if constants.HF_HUB_OFFLINE:
        return
    why = unanswered(repo, kind, revision, repo if revision is None else f"{repo} at {revision}")
    if why and why != OfflineModeIsEnabled.__name__:
        logging.getLogger("sacpo").warning("the hub does not answer (%s): only its cache is looked into", why)
        constants.HF_HUB_OFFLINE = True  # its client looks here at every request
