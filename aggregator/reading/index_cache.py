"""Side indices of provenance graphs, made at the first search and kept in the user's cache directory."""

import contextlib
import logging
import os
import re
import tempfile
from typing import IO

from aggregator.schemas.graphs import provenance_graph, quantum_index
from aggregator.storage import durable_files, errors, local_files

_log = logging.getLogger(__name__)

_DIRECTORY = "quantum-graph-aggregator"
_KEPT = 32
"""Indices that are kept; those not used for longest go first."""

_NAME = re.compile(r"[0-9a-f]{32}\.index")

_ANNOUNCED = 100_000
"""Quanta from which on making an index takes long enough to be announced."""


def open_index(graph: provenance_graph.ProvenanceGraph) -> quantum_index.Index:
    """Return the index of a graph; made if there is none, kept if that is possible.

    It is found by the graph's fingerprint, so it serves all copies of a graph, wherever they lie, and no
    other graph. If the cache directory can't be written, it lasts as long as this process.

    Raises
    ------
    FormatError
        If the graph's quanta can't be read.
    AggregatorError
        If there is no room for it, not even for temporary files.
    """
    directory = _cache_directory()
    path = None if directory is None else os.path.join(directory, f"{graph.fingerprint}.index")
    if path is not None and (index := _open(path, graph.fingerprint)) is not None:
        return index
    if graph.header.n_quanta >= _ANNOUNCED:
        _log.info("Indexing the %d quanta of %s, once", graph.header.n_quanta, graph.path)
    made = None if path is None else _make(graph, path)
    return _make_temporary(graph) if made is None else made


def _make_temporary(graph: provenance_graph.ProvenanceGraph) -> quantum_index.Index:
    with contextlib.ExitStack() as stack, durable_files.writing(tempfile.gettempdir()):
        stream = stack.enter_context(tempfile.TemporaryFile())
        quantum_index.build(graph, stream)
        stack.pop_all()
    return quantum_index.Index(stream, "temporary index", graph.fingerprint)


def _cache_directory() -> str | None:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, _DIRECTORY)


def _open(path: str, fingerprint: str) -> quantum_index.Index | None:
    try:
        stream = os.fdopen(local_files.open_file(path), "rb")
        index = quantum_index.Index(stream, path, fingerprint)
    except (OSError, local_files.UnusableError, errors.MachineError):
        return None
    except errors.FormatError as exc:
        _log.info("Making the index again: %s", exc)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return index


def _make(graph: provenance_graph.ProvenanceGraph, path: str) -> quantum_index.Index | None:
    """Make an index at its place; return nothing if that can't be written."""
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        temporary = durable_files.temporary_name(path)
        stream: IO[bytes] = open(temporary, "x+b")  # noqa: SIM115  (the index closes it)
    except OSError as exc:
        _log.debug("%s: no index is kept (%s)", directory, exc)
        return None
    try:
        quantum_index.build(graph, stream)
        os.rename(temporary, path)
    except OSError as exc:
        _log.debug("%s: no index is kept (%s)", path, exc)
        _discard(stream, temporary)
        return None
    except BaseException:
        _discard(stream, temporary)
        raise
    _forget_oldest(directory)
    return quantum_index.Index(stream, path, graph.fingerprint)


def _discard(stream: IO[bytes], path: str) -> None:
    with contextlib.suppress(OSError):
        stream.close()
    with contextlib.suppress(OSError):
        os.unlink(path)


def _forget_oldest(directory: str) -> None:
    """Delete what was not used for longest; other processes may be doing the same."""
    with contextlib.suppress(OSError):
        entries = [
            entry for entry in os.scandir(directory) if _NAME.fullmatch(durable_files.final_name(entry.name))
        ]
        entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in entries[_KEPT:]:
            os.unlink(entry.path)
