"""Copies of predicted graphs that are not on this host: nearly all of one is read, so it is fetched once."""

import dataclasses
import hashlib
import logging
import os

from aggregator.aggregation import aggregation_request, checkpoint_content
from aggregator.schemas.checkpoints import checkpoint
from aggregator.schemas.graphs import predicted
from aggregator.storage import durable_files, errors, fault_points, random_access, uris

_log = logging.getLogger(__name__)


def localized(request: aggregation_request.Request) -> aggregation_request.Request:
    """Return a request whose graph is a file of this host: as it was given, or a copy in the checkpoint.

    Raises
    ------
    RefusedError
        If the object is another one than that which the checkpoint was made with.
    AggregatorError
        If it can't be fetched.
    """
    name = fingerprint(request.graph)
    if not name:
        return request
    held, file = request.checkpoint, request.graph.file
    kept = checkpoint_content.peek(held)
    if (
        kept is not None
        and kept.predicted_graph == request.graph.path
        and kept.graph_copy != name
        and not request.config.fresh
    ):
        raise errors.RefusedError(
            f"{request.graph.path}: is another object than the one that {held.layout.directory} was made "
            "with. Put that back, or give --fresh to begin with this one, or another --checkpoint-dir."
        )
    _remove_others(held.layout, {name} if kept is None else {name, kept.graph_copy})
    path = held.layout.graph_copy(name)
    if not os.path.exists(path) or os.path.getsize(path) != file.size:
        _log.info("Fetching %s, %.0f MB", request.graph.path, file.size / 1e6)
        durable_files.write_atomically(path, random_access.pieces(file))
    fault_points.reached("fetched")
    graph = request.open_things.enter_context(predicted.PredictedGraph(path))
    return dataclasses.replace(request, graph=graph)


def fingerprint(graph: predicted.PredictedGraph) -> str:
    """Return what tells the object of a remote graph from others; empty for a file of this host."""
    if not uris.is_remote(graph.path):
        return ""
    return hashlib.blake2b(graph.path.encode() + b"\0" + graph.file.tag, digest_size=16).hexdigest()


def _remove_others(layout: checkpoint.Layout, names: set[str]) -> None:
    copies = {layout.graph_copy(name) for name in names if name}
    for entry in os.scandir(layout.directory):
        if checkpoint.is_graph_copy(entry.name) and entry.path not in copies:
            with durable_files.writing(entry.path):
                os.unlink(entry.path)
