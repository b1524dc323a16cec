"""Opens a checkpoint: locked, identified, and emptied of what does not fit (docs/design.md, Checkpoint)."""

import fcntl
import logging
import os
import shutil
import tempfile
from typing import Self

from schemas import checkpoint, digest, errors, manifest

_log = logging.getLogger(__name__)


class Checkpoint:
    """A checkpoint that this process has locked.

    Parameters
    ----------
    directory
        Where it lies; made if it does not exist, within a directory that does.
    temporary
        Whether to remove it when it is closed.

    Raises
    ------
    RefusedError
        If it can't be written, or another aggregation works on it.
    """

    def __init__(self, directory: str, temporary: bool = False) -> None:
        self.layout = checkpoint.Layout(directory)
        self._temporary = temporary
        self._is_new = not os.path.exists(directory)
        try:
            if self._is_new:
                os.mkdir(directory)
            self.lock = os.open(self.layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise errors.RefusedError(
                f"{directory}: can't write the checkpoint ({exc.strerror}). The directory above must exist; "
                "--checkpoint-dir gives another place, --no-checkpoint keeps none."
            ) from exc
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(self.lock, 32, 0).decode(errors="replace").strip()
            os.close(self.lock)
            raise errors.RefusedError(
                f"{directory}: another aggregation (process {holder or 'unknown'}) or a worker of it is at "
                "work there. Wait until it is gone, or give another --checkpoint-dir."
            ) from exc
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, str(os.getpid()).encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._temporary:
            self.remove()
        os.close(self.lock)

    def clear(self) -> None:
        """Remove everything but the lock."""
        for name in os.listdir(self.layout.directory):
            path = os.path.join(self.layout.directory, name)
            if path != self.layout.lock:
                os.unlink(path)

    def remove(self) -> None:
        """Remove the checkpoint as a whole."""
        try:
            shutil.rmtree(self.layout.directory)
        except OSError as exc:
            _log.warning("%s: can't remove the checkpoint (%s)", self.layout.directory, exc.strerror)

    def undo(self) -> None:
        """Remove the checkpoint if it did not exist before."""
        if self._is_new:
            self.remove()

    def remove_temporary_files(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        for name in os.listdir(self.layout.directory):
            if name.endswith((".tmp", ".part")):
                os.unlink(os.path.join(self.layout.directory, name))


def directory_for(graph_path: str, output: str | None, chosen: str | None) -> str:
    """Return where a checkpoint goes: where one says, else beside the graph, else beside the output."""
    if chosen is not None:
        return os.path.abspath(chosen)
    beside_graph = os.path.abspath(graph_path)
    if os.access(os.path.dirname(beside_graph), os.W_OK) or output is None:
        return f"{beside_graph}.checkpoint"
    return f"{output}.checkpoint"


def temporary_directory() -> str:
    """Return a new directory for a checkpoint that nobody wants to keep."""
    return tempfile.mkdtemp(prefix="aggregation-")


def read_manifest(held: Checkpoint, graph: str, settings: str) -> manifest.Manifest | None:
    """Return the manifest of a checkpoint if what it holds can be used; empty the checkpoint otherwise.

    Parameters
    ----------
    held
        The checkpoint.
    graph
        Identity of the predicted graph.
    settings
        Hash of the settings.

    Raises
    ------
    RefusedError
        If it belongs to another graph.
    """
    layout = held.layout
    if not os.path.exists(layout.manifest):
        held.clear()
        return None
    try:
        found = manifest.read(layout.manifest)
        if found.identity.graph != graph:
            raise errors.RefusedError(
                f"{layout.directory}: is the checkpoint of another graph ({found.predicted_graph}, run "
                f"{found.output_run}). Give --fresh to replace it, or another --checkpoint-dir."
            )
        if found.identity.settings != settings:
            raise errors.FormatError(layout.manifest, "", "made with other settings")
        _check(layout.dictionary, layout.read_dictionary(), found.identity.dictionary)
        _check(layout.records, layout.read_records(), found.records)
        _check(layout.edges, layout.read_edges(), found.edges)
    except errors.FormatError as exc:
        _log.warning("The checkpoint can't be used, everything is scanned again: %s", exc)
        held.clear()
        return None
    return found


def checksum(data: bytes | memoryview) -> str:
    """Return the checksum of a part of a checkpoint; empty for an empty one."""
    return digest.checksum(data).hex() if data else ""


def _check(path: str, data: bytes, expected: str) -> None:
    if checksum(data) != expected:
        raise errors.FormatError(path, "", "damaged (its checksum differs)")
