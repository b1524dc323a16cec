"""What has to be known before workers can begin: the division into shards, and what all digests share."""

import dataclasses
import hashlib
import logging
import os

import msgspec
import numpy as np

from aggregator.aggregation import (
    aggregation_request,
    checkpoint_content,
    checkpoints,
    configuration,
    dictionary,
    file_plans,
    graph_copies,
    shards,
)
from aggregator.butler.configuration import locality
from aggregator.butler.configuration import repository_config as butler_config
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import digest, manifest
from aggregator.schemas.graphs import addresses, predicted
from aggregator.storage import fault_points, in_flight, uris
from aggregator.workers.roles.scanning import execution_files, scanner

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Preparation:
    """Everything that coordinator and workers need."""

    graph: predicted.PredictedGraph
    """The predicted graph, open."""

    division: shards.Shards
    """Its quanta in order."""

    setup: messages.Setup
    """What every worker is told."""

    checkpoint: checkpoints.Checkpoint
    """The checkpoint, with a manifest that fits."""

    moved: manifest.Manifest | None
    """The manifest to be written, once nothing can be refused any more, if the repository is in another place
    than the one of the checkpoint, or another one."""


def prepare(given: aggregation_request.Request) -> Preparation:
    """Read the graph's structure, and look whether the checkpoint's content can be used.

    Raises
    ------
    RefusedError
        If the checkpoint belongs to another graph, or the repository's configuration does not say where some
        outputs go.
    FormatError
        If the graph is damaged.
    """
    fault_points.reached("start")
    given.checkpoint.remove_temporary_files()
    request = graph_copies.localized(given)
    graph, held = request.graph, request.checkpoint
    _log.info("Reading %s", graph.path)
    table = graph.address_table()
    identity = _identity(request, table)
    files = file_plans.plan(graph, request.repository, request.config.mock_storage_classes)
    n_requests = request.config.n_requests
    document = checkpoint_content.read_manifest(held, identity.graph, identity.settings, request.config.fresh)
    if document is not None:
        # To parse them takes seconds for a million quanta.
        edges = np.frombuffer(held.layout.read_edges(), dtype=np.int32).reshape(-1, 2)
        division = shards.divide(table, edges, document.shard_size)
    else:
        edges = graph.edges(table)
        division = shards.divide(table, edges)
        # Samples for the dictionary need the memory.
        del table
        with in_flight.Requests(n_requests) as requests:
            edge_bytes = edges.reshape(-1).view(np.uint8).data
            document = _fill_checkpoint(request, given.graph, files, division, edge_bytes, identity, requests)
            # Scanners need not find out again that it takes long.
            n_requests = requests.at_once if requests.at_once > 1 else n_requests
    _log.info("%d quanta in %d shards", len(division.ids), division.n_shards)
    moved = _moved(document, request, identity)
    return Preparation(graph, division, _setup(request, moved or document, n_requests), held, moved)


def _identity(request: aggregation_request.Request, table: addresses.AddressTable) -> digest.Identity:
    """Return what digests belong to, but for the dictionary."""
    return digest.Identity(
        graph=request.graph.identity(table),
        settings=_settings_hash(request.config, request.repository),
        dictionary="",
        repository=locality.describe(request.repository),
    )


def _moved(
    document: manifest.Manifest, request: aggregation_request.Request, identity: digest.Identity
) -> manifest.Manifest | None:
    """Return the manifest as it has to be for the repository as it is now; nothing if it is that already."""
    now = msgspec.structs.replace(identity, dictionary=document.identity.dictionary)
    if document.identity == now:
        return None
    _log.warning(
        "%s: made with %s, which was moved, or is another repository, or has another database. Every file is "
        "looked at again before anything of the checkpoint is used",
        request.checkpoint.layout.manifest,
        document.repository,
    )
    return msgspec.structs.replace(document, identity=now, repository=request.repository.path)


def _fill_checkpoint(
    request: aggregation_request.Request,
    original: predicted.PredictedGraph,
    files: file_plans.FilePlans,
    division: shards.Shards,
    edges: memoryview,
    identity: digest.Identity,
    requests: in_flight.Requests,
) -> manifest.Manifest:
    """Make what all digests of a checkpoint share; the manifest, which makes it valid, comes last."""
    graph, layout = request.graph, request.checkpoint.layout
    packed = files.read_records(graph).pack()
    execution = execution_files.ExecutionFiles(files.types, requests)
    trained = dictionary.train(request.config, graph, division, execution, requests)
    fault_points.reached("dictionary")
    layout.write_records(packed)
    layout.write_dictionary(trained)
    layout.write_edges(edges)
    made = manifest.Manifest(
        version=manifest.VERSION,
        predicted_graph=uris.absolute(original.path),
        graph_copy=graph_copies.fingerprint(original),
        output_run=graph.header.output_run,
        repository=request.repository.path,
        identity=msgspec.structs.replace(identity, dictionary=checkpoint_content.checksum(trained)),
        records=checkpoint_content.checksum(packed),
        edges=checkpoint_content.checksum(edges),
        shard_size=division.size,
        n_quanta=len(division.ids),
        begun=os.stat(layout.edges).st_mtime_ns,
    )
    fault_points.reached("manifest")
    manifest.write(layout.manifest, made)
    return made


def _setup(
    request: aggregation_request.Request, document: manifest.Manifest, n_requests: int | None
) -> messages.Setup:
    config = request.config
    return messages.Setup(
        graph_path=request.graph.path,
        graph_fingerprint=request.graph.fingerprint,
        butler_path=request.butler_path,
        checkpoint=request.checkpoint.layout.directory,
        verify_checkpoint=config.verify_checkpoint,
        identity=document.identity,
        begun=document.begun,
        requests=n_requests,
        zstd_level=config.zstd_level,
        mock_storage_classes=config.mock_storage_classes,
        output_path=request.output,
        incomplete=config.incomplete,
        dry_run=config.dry_run,
        promise_ingest_graph=config.promise_ingest_graph,
        defensive_ingest=config.defensive_ingest,
        ingest_batch_size=config.ingest_batch_size,
        register_dataset_types=config.register_dataset_types,
        update_output_chain=config.update_output_chain,
        ownership=request.checkpoint.ownership,
        protection=request.protection,
        worker_log_dir=configuration.path_text(config.worker_log_dir),
        worker_log_level=config.worker_log_level,
        worker_profile_dir=configuration.path_text(config.worker_profile_dir)
        if config.n_processes > 1
        else None,
    )


def _settings_hash(config: configuration.AggregatorConfig, repository: butler_config.RepositoryConfig) -> str:
    """Return a hash of everything but graph and files that influences the content of digests."""
    settings = (
        (digest.FORMAT_VERSION, scanner.LOGIC_VERSION),
        config.zstd_level,
        (config.zstd_dict_size, config.zstd_dict_n_inputs, config.zstd_dict_input_max_bytes),
        config.mock_storage_classes,
        repository.settings(),
    )
    return hashlib.blake2b(msgspec.json.encode(settings, order="sorted"), digest_size=16).hexdigest()
