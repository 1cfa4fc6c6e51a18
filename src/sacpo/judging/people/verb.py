"""`label` as `sacpo.api` has it."""

from __future__ import annotations

from pathlib import Path

from sacpo.data.answers import BASELINE
from sacpo.errors import DataError


def label(
    answers: str | Path,
    *,
    annotator: str,
    store: str | Path | None = None,
    baseline: str | Path | None = None,
    alone: bool = False,
    criterion: str = "helpfulness",
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
) -> dict[str, int | Path]:
    """Let a person label answers on a local page, blind and in random order, until it is interrupted (Ctrl-C).

    Args:
        answers: Answers to label, or a folder of `judge`.
        annotator: Who labels.
        store: Where verdicts are kept (SQLite); a folder of `judge` by language models has its own.
        baseline: Answers to compare with; without them each is labelled alone.
        alone: Of a folder of `judge`: label each answer alone.
        criterion: What is judged; alone: harmlessness, safety or refusal.
        host: A name of this machine.
        port: 0: any free one.
        seed: Of the order of questions and answers.

    Returns:
        The progress: `total`, `done` and `skipped`; and the `store`.

    Raises:
        DataError: The answers cannot be read, or nothing says where labels are kept.
        MachineError: The port cannot be had.
    """
    from sacpo.judging.llm.files import JUDGING
    from sacpo.judging.llm.store import STORE
    from sacpo.judging.people import serve

    folder = Path(answers)
    if (folder / JUDGING).is_file():  # the same items and store as the judges'
        pairwise = baseline is None and not alone and (folder / BASELINE).is_file()
        baseline = folder / BASELINE if pairwise else baseline
        store = store or folder / STORE
    if store is None:
        raise DataError("nothing says where to keep the labels", where="--store", do="give a file's name")
    place, others = Path(store), None if baseline is None else Path(baseline)
    done = serve(folder, others, place, annotator=annotator, criterion=criterion, host=host, port=port, seed=seed)
    return {**done, "store": place}
