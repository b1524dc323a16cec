"""What earlier runs left in a checkpoint: whether it belongs to this graph, and is undamaged."""

import logging
from collections.abc import Iterable

import xxhash

from aggregator.aggregation import checkpoints
from aggregator.schemas.checkpoints import digest, manifest
from aggregator.storage import errors, local_files

_log = logging.getLogger(__name__)


def read_manifest(
    held: checkpoints.Checkpoint, graph: str, settings: str, fresh: bool
) -> manifest.Manifest | None:
    """Return the manifest of a checkpoint if what it holds can be used; set that aside otherwise.

    Parameters
    ----------
    held
        The checkpoint.
    graph
        Identity of the predicted graph.
    settings
        Hash of the settings.
    fresh
        Whether nothing of it is wanted.

    Raises
    ------
    RefusedError
        If it belongs to another graph.
    """
    layout = held.layout
    if not local_files.exists(layout.manifest):
        held.clear()
        return None
    if fresh:
        held.set_aside()
        return None
    try:
        kept = manifest.read(layout.manifest)
        if kept.identity.graph != graph:
            raise errors.RefusedError(
                f"{layout.directory}: is the checkpoint of another graph ({kept.predicted_graph}, run "
                f"{kept.output_run}). Give --fresh to replace it, or another --checkpoint-dir."
            )
        if kept.identity.settings != settings:
            raise errors.FormatError(layout.manifest, "", "made with other settings, or by another version")
        _check(layout.dictionary, layout.read_dictionary(), kept.identity.dictionary)
        _check(layout.records, layout.read_records(), kept.records)
        _compare(layout.edges, checksum_of(layout.read_edges()), kept.edges)
    except errors.FormatError as exc:
        _log.warning("The checkpoint can't be used, everything is scanned again: %s", exc)
        held.set_aside()
        return None
    return kept


def peek(held: checkpoints.Checkpoint) -> manifest.Manifest | None:
    """Return the manifest of a checkpoint, whatever it belongs to; nothing if none can be read."""
    try:
        return manifest.read(held.layout.manifest) if local_files.exists(held.layout.manifest) else None
    except errors.FormatError:
        return None


def checksum(data: bytes | memoryview) -> str:
    """Return the checksum of a part of a checkpoint; empty for an empty one."""
    return digest.checksum(data).hex() if data else ""


def checksum_of(pieces: Iterable[bytes]) -> str:
    """Return the checksum of a part that comes in pieces."""
    sum_of_pieces, is_empty = xxhash.xxh3_128(), True
    for piece in pieces:
        sum_of_pieces.update(piece)
        is_empty = False
    return "" if is_empty else sum_of_pieces.hexdigest()


def _check(path: str, data: bytes, expected: str) -> None:
    _compare(path, checksum(data), expected)


def _compare(path: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise errors.FormatError(path, "", "damaged (its checksum differs)")
