"""`push`: what the user says, what would be sent, and the sending; `sacpo.api` offers it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def push(
    place: str | Path,
    repository: str,
    *,
    public: bool = False,
    dry_run: bool = False,
    data: bool = False,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    base: str | None = None,
    benchmarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Push a run's chosen model, a model's folder or a folder of data to the hub, and say what was sent.

    The token is the hub client's: HF_TOKEN, or what `hf auth login` stored. A push that broke off goes on with the same
    call: files that have arrived are not sent again, and the repository changes in one commit at the end.

    Args:
        place: The folder of a run, of a model, or of data.
        repository: USER/NAME.
        public: Whether everybody may see it.
        dry_run: Return the files and the card; contact nobody.
        data: Whether the folder holds data.
        license: The hub's identifier of the licence; by default the card names none, and `said` tells so.
        license_name: With "other".
        license_link: With "other".
        base: Hub id of the model that was trained, where recipe or adapter name a folder.
        benchmarks: METRIC=USER/DATA:TASK, figures that are results of the hub's benchmarks.

    Returns:
        repository, kind, private, files (path: bytes), left, card, said, and address unless it was a dry run.

    Raises:
        UserError: There is nothing that could be pushed, a name is not valid, or the hub refuses it.
    """
    from sacpo.hub.gather import Wish, gather, gather_data
    from sacpo.hub.names import benchmark_task, check_license

    fields = check_license(license, license_name, license_link)
    wish = Wish(repository, public, fields, base, [benchmark_task(text) for text in benchmarks])
    found = gather_data(Path(place), wish) if data else gather(Path(place), wish)
    said: dict[str, Any] = {
        "repository": found.repository,
        "kind": found.kind,
        "private": found.private,
        "files": found.sizes(),
        "left": list(found.left),
        "card": found.card,
        "said": list(found.said),
    }
    if not dry_run:
        from sacpo.hub.upload import upload

        said["address"] = upload(found)
    return said
