"""The upload: one commit, after all large files have arrived. What has arrived is not sent again.

The token is the hub client's business: it reads HF_TOKEN or what `hf auth login` stored.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from sacpo.errors import MachineError, RunError
from sacpo.hub.gather import Content, Push

BROKEN: tuple[type[Exception], ...] = (
    *(kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception)),
    *(OSError, RuntimeError),
)
"""What a broken connection raises; the first is of the client's library of HTTP, whichever that is."""
MESSAGE = "Push with sacpo"
AGAIN = "run the same command again: files that have arrived are not sent again"


def upload(push: Push, message: str = MESSAGE) -> str:
    """Send a push and return the repository's address.

    Raises:
        RunError: There is no token, the repository cannot be written, or it is public where a private one was asked
            for, or the other way round.
        MachineError: The hub does not answer.
    """
    api = make_repository(push.repository, push.kind, push.private)
    with hub_errors(push.repository):
        operations = [CommitOperationAdd(name, _source(content)) for name, content in sorted(push.files.items())]
        api.create_commit(push.repository, operations, commit_message=message, repo_type=push.kind)
        kind = "datasets/" if push.kind == "dataset" else ""
        return f"{api.endpoint}/{kind}{push.repository}"


def make_repository(repository: str, kind: str, private: bool) -> HfApi:
    """Make a repository, or see that the one that is there is as private as asked, and return the client.

    Raises:
        RunError, MachineError: As of `upload`.
    """
    if get_token() is None:
        raise RunError(
            "no token of the hub on this machine", where=repository, do="run 'hf auth login', or set HF_TOKEN"
        )
    if not sys.stderr.isatty():
        disable_progress_bars()
    with hub_errors(repository):
        api = HfApi(library_name="sacpo")
        try:
            found = api.repo_info(repository, repo_type=kind)
        except RepositoryNotFoundError:
            api.create_repo(repository, repo_type=kind, private=private)
            return api
    if bool(found.private) != private:
        advice = "leave --public out" if found.private else "give --public"
        raise RunError(
            f"the repository is {'private' if found.private else 'public'}, and this push was to make it otherwise",
            where=repository,
            value="--public" if found.private else "no --public",
            do=f"{advice} (hub_private_repo in Python), or change it in the repository's settings",
        )
    return api


def _source(content: Content) -> Any:
    return str(content) if isinstance(content, Path) else content


@contextlib.contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into errors that say what to do; no message holds a token."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise MachineError("the hub is switched off here", where="HF_HUB_OFFLINE", do="unset HF_HUB_OFFLINE") from error
    except (GatedRepoError, HfHubHTTPError, BadRequestError) as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            advice = "take a token that may write there (hf auth login), and check USER/NAME"
            raise RunError("the hub refuses this token", where=repository, value=status, do=advice) from error
        said = " ".join(str(error.server_message or "").split()) or "no reason given"
        raise RunError(f"the hub refuses the push: {said}", where=repository, value=status, do=AGAIN) from error
    except BROKEN as error:
        raise MachineError("the upload broke off", where=repository, value=_first(error), do=AGAIN) from error
    except ValueError as error:
        raise RunError(
            "the hub refuses the files or the card", where=repository, value=str(error), do="mend it"
        ) from error


def _first(error: BaseException) -> str:
    """Return the first cause of an error that others were made of."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
