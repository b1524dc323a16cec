"""What has to be known and checked before any worker starts."""

import contextlib
import dataclasses
import hashlib
import logging
import os
from typing import Self

import msgspec

from aggregator import checkpoints, configuration, dictionary, shards
from butler import config as butler_config
from butler import datastore, records, registry, universe
from schemas import checkpoint, container, digest, errors, manifest, messages, predicted
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

    checkpoint: checkpoints.Checkpoint
    """The checkpoint, locked."""

    open_things: contextlib.ExitStack
    """Closes graph and checkpoint."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open_things.close()


def prepare(predicted_path: str, butler_path: str, config: configuration.AggregatorConfig) -> Preparation:
    """Check a request, and make what workers need.

    Raises
    ------
    RefusedError
        If it can't be carried out.
    """
    configuration.check(config)
    with contextlib.ExitStack() as open_things:
        graph = open_things.enter_context(predicted.PredictedGraph(predicted_path))
        prepared = _prepare(graph, butler_path, config, open_things)
        return dataclasses.replace(prepared, open_things=open_things.pop_all())


def _prepare(
    graph: predicted.PredictedGraph,
    butler_path: str,
    config: configuration.AggregatorConfig,
    open_things: contextlib.ExitStack,
) -> Preparation:
    _check_logs(graph)
    repository = butler_config.load(butler_path)
    _check_run(graph, repository, config.dry_run)
    output = _check_output(config)
    held = open_things.enter_context(_open_checkpoint(graph, config, output))
    _log.info("Reading %s", graph.path)
    table = graph.address_table()
    edges = graph.edges(table)
    identity = digest.Identity(graph.identity(table), _settings_hash(config, repository), "")
    if config.fresh:
        held.clear()
    held.remove_temporary_files()
    found = checkpoints.read_manifest(held, identity.graph, identity.settings)
    division = shards.divide(table, edges, found.shard_size if found is not None else None)
    if found is None:
        found = _fill_checkpoint(held.layout, graph, repository, config, division, identity)
    _log.info("%d quanta in %d shards", len(division.ids), division.n_shards)
    setup = _setup(graph, butler_path, config, held.layout, found.identity, output)
    return Preparation(graph, division, setup, held, open_things)


def _open_checkpoint(
    graph: predicted.PredictedGraph, config: configuration.AggregatorConfig, output: str | None
) -> checkpoints.Checkpoint:
    if not config.checkpoint:
        return checkpoints.Checkpoint(checkpoints.temporary_directory(), temporary=True)
    return checkpoints.Checkpoint(checkpoints.directory_for(graph.path, output, config.checkpoint_dir))


def _fill_checkpoint(
    layout: checkpoint.Layout,
    graph: predicted.PredictedGraph,
    repository: butler_config.RepositoryConfig,
    config: configuration.AggregatorConfig,
    division: shards.Shards,
    identity: digest.Identity,
) -> manifest.Manifest:
    """Make what all digests of a checkpoint share; the manifest, which makes it valid, comes last."""
    types, table = _extract_records(graph, repository, config)
    packed = table.pack()
    trained = dictionary.train(config, graph, division, types)
    layout.write_records(packed)
    layout.write_dictionary(trained)
    made = manifest.Manifest(
        version=manifest.VERSION,
        predicted_graph=os.path.abspath(graph.path),
        output_run=graph.header.output_run,
        identity=msgspec.structs.replace(identity, dictionary=checkpoints.checksum(trained)),
        records=checkpoints.checksum(packed),
        shard_size=division.size,
        n_quanta=len(division.ids),
    )
    manifest.write(layout.manifest, made)
    return made


def _setup(
    graph: predicted.PredictedGraph,
    butler_path: str,
    config: configuration.AggregatorConfig,
    layout: checkpoint.Layout,
    identity: digest.Identity,
    output: str | None,
) -> messages.Setup:
    return messages.Setup(
        graph_path=graph.path,
        butler_path=butler_path,
        checkpoint=layout.directory,
        verify_checkpoint=config.verify_checkpoint,
        identity=identity,
        zstd_level=config.zstd_level,
        mock_storage_classes=config.mock_storage_classes,
        output_path=output,
        incomplete=config.incomplete,
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


def _extract_records(
    graph: predicted.PredictedGraph,
    repository: butler_config.RepositoryConfig,
    config: configuration.AggregatorConfig,
) -> tuple[catalog.Catalog, records.RecordTable]:
    """Return the graph's dataset types, and the record attributes that their file templates name."""
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
    store.set_records(table)
    return catalog.Catalog(graph.pipeline, graph_universe, store), table


def _settings_hash(config: configuration.AggregatorConfig, repository: butler_config.RepositoryConfig) -> str:
    """Return a hash of everything but the graph and the files that influences the content of digests."""
    settings = (
        digest.FORMAT_VERSION,
        config.zstd_level,
        (config.zstd_dict_size, config.zstd_dict_n_inputs, config.zstd_dict_input_max_bytes),
        config.mock_storage_classes,
        repository.settings(),
    )
    return hashlib.blake2b(msgspec.json.encode(settings, order="sorted"), digest_size=16).hexdigest()
