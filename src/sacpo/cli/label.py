"""`sacpo label` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sacpo.errors import DataError


def label(
    answers: Annotated[Path, typer.Argument(help="Answers to label, or a folder of 'judge'.", show_default=False)],
    annotator: Annotated[str, typer.Option("--annotator", help="Who labels.", show_default=False)],
    store: Annotated[
        Path | None, typer.Option("--store", help="Where verdicts are kept (SQLite); a folder of 'judge': its store.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="Answers to compare with; without them each is labelled alone.")
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="A folder of 'judge': label each answer alone.")] = False,
    criterion: Annotated[
        str, typer.Option("--criterion", help="What is judged; alone: harmlessness, safety or refusal.")
    ] = "helpfulness",
    host: Annotated[str, typer.Option("--host", help="A name of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of the order of questions and answers.")] = 0,
) -> None:
    """Label answers by hand on a local page, blind and in random order."""
    from sacpo.data.answers import BASELINE
    from sacpo.judging.llm.files import JUDGING
    from sacpo.judging.llm.store import STORE
    from sacpo.judging.people import serve

    if (answers / JUDGING).is_file():  # the same items and store as the judges'
        pairwise = baseline is None and not alone and (answers / BASELINE).is_file()
        baseline = answers / BASELINE if pairwise else baseline
        store = store or answers / STORE
    if store is None:
        raise DataError("nothing says where to keep the labels", where="--store", do="give a file's name")
    done = serve(
        answers,
        baseline,
        store,
        annotator=annotator,
        criterion=criterion,
        host=host,
        port=port,
        seed=seed,
    )
    print(f"{done['done']} of {done['total']} labelled in {store}")
