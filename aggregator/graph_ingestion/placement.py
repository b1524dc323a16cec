"""Bringing the file of a graph to its place in the repository, durably."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

from aggregator.butler.registry import ingested_graphs
from aggregator.schemas import output_kinds, output_paths
from aggregator.schemas.graphs import container
from aggregator.storage import errors, leases, local_files, opening, uris

_log = logging.getLogger(__name__)


def check(mode: str, source: str, where: ingested_graphs.Places, protection: output_paths.Protection) -> None:
    """Refuse a transfer that can't work, before anything is done.

    Raises
    ------
    RefusedError
        If so; says why.
    """
    _check_source(mode, source)
    for place in where:
        output_paths.check(place.file, output_kinds.Kind.GRAPH, protection)
        _check_free(source, place)
    for place in where:
        place.store.files.check_adoption(source, place.recorded, mode)


def _check_source(mode: str, source: str) -> None:
    """Refuse a mode that does not suit where a graph is."""
    if uris.is_remote(source):
        if mode not in ("auto", "copy", "move"):
            raise errors.RefusedError(f"{source}: can't be linked; copy or move it instead.")
        return
    directory = os.path.dirname(os.path.realpath(source))
    if mode == "move" and not local_files.is_writeable(directory):
        raise errors.RefusedError(f"{source}: can't be moved, {directory} is not writeable; copy it instead.")


def _check_free(source: str, place: ingested_graphs.Place) -> None:
    """Refuse to replace another graph, which may be all that is left of the files that it holds.

    The database has not recorded it. But it may have before a backup was put back, and so may that of another
    repository with the same datastore.
    """
    target = place.file
    if place.is_there and not _is_same(source, target):
        raise errors.RefusedError(
            f"{target}: is there already, and is another graph than {source}. The database does not know it: "
            "its ingestion was interrupted, or the database is older than the datastore, or another one. It "
            "may be all that is left of logs and metadata, so it is not replaced. Go on with it by giving "
            "--output-run instead of a graph; or, if all these files are there, move it away."
        )


@contextlib.contextmanager
def locked(place: ingested_graphs.Place) -> Iterator[leases.Claim | None]:
    """Keep other processes from ingesting the same graph; yield what shows whether that still holds.

    Parameters
    ----------
    place
        Where the graph is, or goes. The graph itself is not locked, since graphs are not written.

    Raises
    ------
    InUseError
        If one is at it.
    AggregatorError
        If that can't be done.
    """
    files, key = place.address
    with contextlib.ExitStack() as stack:
        with _explained(place.file):
            advice = "This graph is being ingested; try again when that has finished."
            claim = stack.enter_context(files.lock(key, advice))
        yield claim


def put(
    source: str,
    place: ingested_graphs.Place,
    mode: str,
    tick: Callable[[], None],
    protection: output_paths.Protection,
) -> None:
    """Bring a file to its place, where it appears complete or not at all.

    What is moved stays where it was, too, until `finish_move`, wherever the file system allows that.

    Parameters
    ----------
    source
        The file.
    place
        Where it goes; only a copy of it that is there is replaced.
    mode
        How: one of `transfers.MODES`, but not "direct".
    tick
        Called now and then; what it raises ends the work.
    protection
        What must stay as it is.

    Raises
    ------
    AggregatorError
        If it can't be done; nothing has changed then.
    """

    def look() -> None:
        # Somebody may have put something there.
        output_paths.check_again(place.file, output_kinds.Kind.GRAPH, protection)
        with errors.after_changes():
            _check_free(source, place)

    files, key = place.address
    if not files.has_links and place.is_there and _is_copy(source, place.file):
        return
    with _explained(place.file), opening.local_copy(source) as path:
        files.adopt(path, key, mode if path == source else "copy", tick, look)


def make_durable(place: ingested_graphs.Place) -> None:
    """Make sure that a graph, and the way to it, outlive a loss of power.

    Raises
    ------
    AggregatorError
        If it is missing, or the system reports an error.
    """
    files, key = place.address
    with _explained(place.file):
        files.make_durable(key)


def origin(place: ingested_graphs.Place) -> str | None:
    """Return where a graph was before it was moved to its place, if that is known."""
    files, key = place.address
    return files.origin(key)


def finish_move(source: str, target: str) -> bool:
    """Remove a graph that was moved, if it is still there; return whether it was.

    Raises
    ------
    AggregatorError
        If it can't be removed.
    """
    if uris.is_remote(source):
        return _finish_remote_move(source, target)
    real = os.path.realpath(source)
    if not local_files.exists(real) or real == os.path.realpath(target):
        return False
    with _explained(real):
        if not _is_same(real, target):
            _log.warning("%s: stays, since it is not the graph that was ingested", real)
            return False
        os.unlink(real)
        if os.path.islink(source):
            os.unlink(source)
    return True


def _finish_remote_move(source: str, target: str) -> bool:
    files, key = opening.locate(source)
    if not files.is_there(key) or opening.is_same(source, target):
        return False
    if not _is_copy(source, target):
        _log.warning("%s: stays, since it is not the graph that was ingested", source)
        return False
    if failures := files.delete_many([key]).failures:
        raise errors.AggregatorError(f"{failures[0]}: can't be removed. Remove it.")
    return True


def _is_same(path: str, other: str) -> bool:
    return opening.is_same(path, other) or _is_copy(path, other)


def _is_copy(path: str, other: str) -> bool:
    try:
        with container.Container(path) as first, container.Container(other) as second:
            return first.fingerprint == second.fingerprint
    except errors.MachineError:
        # Nobody knows.
        raise
    except errors.AggregatorError:
        return False


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise errors.of_system(OSError(exc.errno, exc.strerror or str(exc), path)) from exc
