"""Quanta that an ingested provenance graph holds: their metadata is in there, no longer in files."""

from __future__ import annotations

import logging
import uuid
from typing import Final

from aggregator.butler import artifacts, dataset_refs
from aggregator.butler.datastores import paths
from aggregator.butler.registry import ingested_graphs, run_provenance
from aggregator.execution import graph_context
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors

_log = logging.getLogger(__name__)

_NO_ID: Final = uuid.UUID(int=0)
"""For a path that depends on the id of the graph's dataset: only the database knows that, and a pointer."""


def refuse(context: graph_context.GraphContext, *, is_whole: bool) -> None:
    """Refuse to execute quanta that a provenance graph of the repository holds.

    All of them would run again, and replace what the database and that graph tell of. A graph in its place
    counts though the database does not know it: its ingestion has begun, or the database is older than the
    files.

    Parameters
    ----------
    context
        Graph and repository.
    is_whole
        Whether a whole run begins, or what is as rare: then the database is asked. Of jobs of a few quanta,
        thousands may begin at a time; they ask it only if files leave open whether there is such a graph.

    Raises
    ------
    RefusedError
        If there is such a graph.
    AggregatorError
        If a graph is there that can't be read, or nobody can tell.
    """
    is_open = False
    for place in ingested_graphs.pointed(context.config, context.graph.header.output_run):
        if place is not None and place.is_there:
            _check(context, place.file)
        else:
            is_open = True
    for path in _predicted(context):
        _check(context, path)
    if is_whole or is_open or not _has_configuration(context):
        _ask(context, is_open)


def _check(context: graph_context.GraphContext, path: str) -> None:
    if not ingested_graphs.shares_quanta(path, context.graph.address_table().ids):
        return
    raise errors.RefusedError(
        f"{path}: is the provenance graph of run {context.graph.header.output_run!r}, and holds these "
        "quanta. Their metadata is in there, no longer in files of its own, so that all of them would run "
        "again and replace what the database has. To try again what has failed, build a graph without the "
        "others (aggregator build --skip-existing-in)."
    )


def _predicted(context: graph_context.GraphContext) -> list[str]:
    """Return the graphs that are in the place of the run's."""
    kind = dataset_refs.DatasetType(
        run_provenance.DATASET_TYPE, context.dimensions.group(()), run_provenance.STORAGE_CLASS
    )
    data_id = dataset_refs.DataId.make(kind.dimensions, {})
    ref = dataset_refs.DatasetRef(kind, data_id, context.graph.header.output_run, _NO_ID)
    return [each.store.location(each.key) for each in _files(context, ref) if each.store.is_there(each.key)]


def _has_configuration(context: graph_context.GraphContext) -> bool:
    """Return whether the first configuration of the run has a file: a graph would have taken its place."""
    for block in context.init_blocks:
        for ref in context.init_quantum(block).outputs.get(pipeline.CONFIG_CONNECTION, ()):
            return any(each.store.is_there(each.key) for each in _files(context, ref))
    return False


def _files(context: graph_context.GraphContext, ref: dataset_refs.DatasetRef) -> list[artifacts.Artifact]:
    try:
        groups = context.files.predicted(ref, ref.datasetType.storage_class)
    except errors.RefusedError:
        # There is no place for it.
        return []
    return [artifact for group in groups for artifact in group]


def _ask(context: graph_context.GraphContext, is_open: bool) -> None:
    """Ask the database for the graph that the run holds."""
    # Jobs of a few quanta rarely need it.
    from aggregator.butler.registry import registry as registries

    run = context.graph.header.output_run
    try:
        with registries.open_repository(context.config, writeable=False) as source:
            if not source.datasets.graphs(run):
                return
            where = ingested_graphs.places(context.config, source).get(run, ())
    except errors.AggregatorError as exc:
        if is_open or (not _has_configuration(context) and _has_files(context)):
            raise errors.AggregatorError(
                f"Run {run!r} has files, but no configuration: whether a provenance graph has taken its "
                f"place, and that of metadata, only the database can tell, and it can't be asked. {exc}"
            ) from exc
        _log.warning("Whether run %r has a provenance graph already, the database can't tell: %s", run, exc)
        return
    _check(context, ingested_graphs.file_of(context.config, run, where))


def _has_files(context: graph_context.GraphContext) -> bool:
    """Return whether anything was written to the run."""
    prefix = f"{paths.directory_of_run(context.graph.header.output_run)}/"
    return any(
        not key.rpartition("/")[2].startswith(".")
        for store in context.config.datastores
        for key, _ in store.files.list(prefix)
    )
