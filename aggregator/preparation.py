"""What has to be known and checked before any worker starts."""

import dataclasses
import hashlib
import logging
import os
import shutil
from typing import Self

import msgspec

from aggregator import configuration, dictionary, shards
from butler import config as butler_config
from butler import datastore, records, registry, universe
from schemas import checkpoint, container, digest, errors, messages, predicted
from workers import catalog

_log = logging.getLogger(__name__)

RUN_PROVENANCE = "run_provenance"
"""Dataset type whose presence says that the run's graph has been ingested."""


@dataclasses.dataclass(frozen=True, slots=True)
class Preparation:
    """A request that was checked, and everything that the workers need."""

    graph: predicted.PredictedGraph
    """The predicted graph, open."""

    division: shards.Shards
    """Its quanta in order."""

    setup: messages.Setup
    """What every worker is told."""

    layout: checkpoint.Layout
    """The checkpoint."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.graph.close()


def prepare(predicted_path: str, butler_path: str, config: configuration.AggregatorConfig) -> Preparation:
    """Check a request, and make what workers need.

    Raises
    ------
    RefusedError
        If it can't be carried out.
    """
    configuration.check(config)
    graph = predicted.PredictedGraph(predicted_path)
    try:
        return _prepare(graph, butler_path, config)
    except BaseException:
        graph.close()
        raise


def _prepare(
    graph: predicted.PredictedGraph, butler_path: str, config: configuration.AggregatorConfig
) -> Preparation:
    _check_logs(graph)
    repository = butler_config.load(butler_path)
    _check_run(graph, repository, config.dry_run)
    output = _check_output(config)
    layout = checkpoint.Layout(_checkpoint_directory(graph.path, output))
    _log.info("Reading %s", graph.path)
    table = graph.address_table()
    division = shards.divide(table, graph.edges(table))
    _log.info("%d quanta in %d shards", len(division.ids), division.n_shards)
    clear(layout)
    os.makedirs(layout.directory, exist_ok=True)
    types = _extract_records(graph, repository, config, layout)
    trained = dictionary.train(config, graph, division, types)
    layout.write_dictionary(trained)
    identity = digest.Identity(
        graph=graph.identity(table),
        settings=_settings_hash(config, repository),
        dictionary=digest.checksum(trained).hex() if trained else "",
    )
    setup = messages.Setup(
        graph_path=graph.path,
        butler_path=butler_path,
        checkpoint=layout.directory,
        identity=identity,
        zstd_level=config.zstd_level,
        mock_storage_classes=config.mock_storage_classes,
        output_path=output,
        dry_run=config.dry_run,
        promise_ingest_graph=config.promise_ingest_graph,
        defensive_ingest=config.defensive_ingest,
        ingest_batch_size=config.ingest_batch_size,
        register_dataset_types=config.register_dataset_types,
        update_output_chain=config.update_output_chain,
        worker_log_dir=config.worker_log_dir,
        worker_log_level=config.worker_log_level,
        worker_profile_dir=config.worker_profile_dir if config.n_processes > 1 else None,
    )
    return Preparation(graph, division, setup, layout)


def clear(layout: checkpoint.Layout) -> None:
    """Remove a checkpoint."""
    shutil.rmtree(layout.directory, ignore_errors=True)


def _check_logs(graph: predicted.PredictedGraph) -> None:
    silent = [task.label for task in graph.pipeline.tasks if task.log_type is None]
    if silent:
        raise errors.RefusedError(
            f"{graph.path}: task {', '.join(silent)} has no log output, but what happened to a quantum is "
            "read from its log. Build the graph with saveLogOutput enabled for it."
        )


def _check_run(
    graph: predicted.PredictedGraph, repository: butler_config.RepositoryConfig, dry_run: bool
) -> None:
    run = graph.header.output_run
    if not run:
        raise errors.RefusedError(f"{graph.path}: names no output run")
    with registry.open_registry(repository.database, repository.namespace, writeable=not dry_run) as opened:
        if opened.has_dataset_of_type(run, RUN_PROVENANCE):
            raise errors.RefusedError(
                f"{repository.path}: run {run!r} holds its provenance graph already. Logs and metadata are "
                "in there, not in files of their own; aggregation would take them for missing."
            )


def _check_output(config: configuration.AggregatorConfig) -> str | None:
    """Return where the graph goes, absolute; nothing if none is written."""
    if config.output_path is None:
        return None
    if config.incomplete:
        _log.warning("No graph is written in incomplete mode; the output path has no effect")
        return None
    path = os.path.abspath(container.graph_path(config.output_path))
    directory = os.path.dirname(path)
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
        raise errors.RefusedError(f"{directory}: can't write there; the output's directory must exist")
    if os.path.isdir(path):
        raise errors.RefusedError(f"{path}: is a directory, the output must be a file")
    return path


def _checkpoint_directory(graph_path: str, output: str | None) -> str:
    """Return where digests go: beside the graph if one can write there, else beside the output."""
    beside_graph = os.path.dirname(os.path.abspath(graph_path))
    if os.access(beside_graph, os.W_OK):
        return os.path.abspath(graph_path) + ".checkpoint"
    if output is not None:
        return output + ".checkpoint"
    raise errors.RefusedError(f"{beside_graph}: can't write the checkpoint there")


def _extract_records(
    graph: predicted.PredictedGraph,
    repository: butler_config.RepositoryConfig,
    config: configuration.AggregatorConfig,
    layout: checkpoint.Layout,
) -> catalog.Catalog:
    """Store the record attributes that file templates name; return the graph's dataset types."""
    graph_universe = universe.Universe.from_config(graph.pipeline.universe)
    store = datastore.Datastore(repository, graph_universe, config.mock_storage_classes)
    instruments = [None, *(str(row[0]) for _, row in graph.dimension_rows({"instrument"}))]
    needed: dict[str, set[str]] = {}
    for kind in graph.pipeline.dataset_types:
        group = graph_universe.group(kind.dimensions)
        for instrument in instruments:
            if instrument is not None and "instrument" not in group.names:
                continue
            try:
                request = (kind.name, kind.storage_class, group, instrument)
                for element, attributes in store.needed_attributes([request]).items():
                    needed.setdefault(element, set()).update(attributes)
            except errors.RefusedError as exc:
                # Inputs need no path here, and outputs none as long as nothing of the type was made.
                _log.debug("%s", exc)
    table = records.RecordTable.build(graph_universe, needed, graph.dimension_rows(set(needed)))
    layout.write_records(table.pack())
    store.set_records(table)
    return catalog.Catalog(graph.pipeline, graph_universe, store)


def _settings_hash(config: configuration.AggregatorConfig, repository: butler_config.RepositoryConfig) -> str:
    """Return a hash of everything but the graph and the files that influences the content of digests."""
    settings = (
        digest.FORMAT_VERSION,
        config.zstd_level,
        config.mock_storage_classes,
        repository.settings(),
    )
    return hashlib.blake2b(msgspec.json.encode(settings, order="sorted"), digest_size=16).hexdigest()
