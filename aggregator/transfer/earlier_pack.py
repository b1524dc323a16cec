"""Packs that are where another is going to be: what can't be made again is not replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from aggregator.schemas import pack_reader, packs
from aggregator.storage import errors, local_files


def check_job(path: str) -> None:
    """Refuse to replace what a job has left by what one needs.

    Raises
    ------
    RefusedError
        If there is such a pack, or one that can't be read.
    """
    if not local_files.exists(path):
        return
    with _opened(path) as earlier:
        if earlier.manifest.kind != "job":
            raise _refusal(path, f"holds what a job of run {earlier.manifest.origin.run!r} has left")


def check_results(path: str, origin: packs.Origin, rows: Iterable[packs.PackedQuantum]) -> None:
    """Refuse to replace a pack by results that lack some of what is in it.

    Whoever has deleted the directory of a job has no other copy.

    Parameters
    ----------
    path
        Where the pack goes.
    origin
        The graph that the results are of.
    rows
        The results.

    Raises
    ------
    RefusedError
        If it can't be read, is what a job needs, or has files of quanta of which the results have none.
    """
    if not local_files.exists(path):
        return
    with _opened(path) as earlier:
        manifest = earlier.manifest
        if manifest.kind != "results":
            raise _refusal(path, "holds what a job needs")
        if manifest.origin.identity != origin.identity:
            raise _refusal(
                path, f"holds what a job of another graph has left, of run {manifest.origin.run!r}"
            )
        known = {row.id for row in rows if row.files or row.status != packs.NOT_ATTEMPTED}
        lost = [row.id for row in earlier.table(packs.QUANTA, packs.PackedQuantum) if row.files]
        if lost := [each for each in lost if each not in known]:
            raise _refusal(path, f"holds what {len(lost)} other quanta have left, such as {lost[0]}")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pack_reader.Pack]:
    """Open a pack; what can't be read may be repaired by others, and stays."""
    try:
        with pack_reader.Pack(path) as earlier:
            yield earlier
    except errors.FormatError as exc:
        raise _refusal(path, f"is a pack that is damaged ({exc})") from exc


def _refusal(path: str, what: str) -> errors.RefusedError:
    return errors.RefusedError(
        f"{path}: {what}, so it is not replaced. Choose another path, or move it away."
    )
