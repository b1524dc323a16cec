"""Pointers to ingested graphs, where an execution could not find them by the name of the run."""

from __future__ import annotations

from aggregator.butler.datastores import paths
from aggregator.butler.registry import graph_places, ingested_graphs
from aggregator.graph_ingestion import ingestion_request
from aggregator.schemas.graphs import graph_pointer
from aggregator.storage import durable_files, errors


def write(request: ingestion_request.Request, where: ingested_graphs.Places) -> None:
    """Write, durably, where a graph is, unless it is where the name of its run alone tells.

    Parameters
    ----------
    request
        The request.
    where
        Where the graph is.

    Raises
    ------
    AggregatorError
        If that can't be written.
    """
    obvious = {(each.store.name, each.recorded) for each in _obvious(request)}
    for place in where:
        if (place.store.name, place.recorded) in obvious:
            continue
        files, key = place.store.files, graph_pointer.key(paths.directory_of_run(request.run))
        with durable_files.writing(files.location(key)):
            files.write(key, graph_pointer.encode(place.recorded), overwrite=True, durable=True)


def _obvious(request: ingestion_request.Request) -> ingested_graphs.Places:
    try:
        return graph_places.predicted(request.repository, request.registry, request.run)
    except errors.RefusedError:
        # No datastore has a place for graphs; this one was in a datastore before.
        return ()
