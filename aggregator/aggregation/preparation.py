"""What has to be known before workers can begin: the division into shards, and what all digests share."""

import contextlib
import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

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
from aggregator.butler.configuration import locality, sqlite_urls
from aggregator.butler.configuration import repository_config as butler_config
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import checkpoint, digest, manifest
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

    butler_path: str
    """The repository's configuration, as other hosts know it."""

    checkpoint: checkpoints.Checkpoint
    """The checkpoint, with a manifest that fits."""

    moved: manifest.Manifest | None
    """The manifest to be written, once nothing can be refused any more, if the repository is in another place
    than the one of the checkpoint, or another one."""


def prepare(given: aggregation_request.Request, server_identity: str = "") -> Preparation:
    """Read the graph's structure, and look whether the checkpoint's content can be used.

    Parameters
    ----------
    given
        The request.
    server_identity
        Which database it is (`server`); empty if it was not asked.

    Raises
    ------
    RefusedError
        If the checkpoint belongs to another graph, the repository's configuration does not say where some
        outputs go, or there are no records of jobs where they should be.
    FormatError
        If the graph is damaged.
    """
    fault_points.reached("start")
    told = _job_records(given)
    given.checkpoint.remove_temporary_files()
    request = graph_copies.localized(given)
    graph, held = request.graph, request.checkpoint
    _log.info("Reading %s", graph.path)
    table = graph.address_table()
    identity = _identity(request, table)
    files = file_plans.plan(graph, request.repository, request.config.mock_storage_classes)
    n_requests = request.config.n_requests
    document = checkpoint_content.read_manifest(held, identity.graph, identity.settings, request.config.fresh)
    if document is None:
        # They are read from there again, so as not to be in memory twice. To parse them takes seconds for a
        # million quanta.
        held.layout.write_edges(edges.data.cast("B") for edges in graph.edge_pieces(table) if len(edges))
    size = None if document is None else document.shard_size
    division = shards.divide(table, _edges(held.layout), size)
    del table
    if document is None:
        with in_flight.Requests(n_requests) as requests:
            document = _fill_checkpoint(request, given.graph, files, division, identity, requests)
            # Scanners need not find out again that it takes long.
            n_requests = requests.at_once if requests.at_once > 1 else n_requests
    _log.info("%d quanta in %d shards", len(division.ids), division.n_shards)
    moved = _moved(document, request, identity, server_identity)
    setup = _setup(request, (moved or document).identity, document.begun, n_requests)
    if told is not None:
        setup = msgspec.structs.replace(setup, stories=told(division.ids))
    return Preparation(graph, division, setup, request.repository.path, held, moved)


def _job_records(request: aggregation_request.Request) -> Callable[[addresses.Ids], bytes] | None:
    """Read records of jobs, if there are any; return what gives packed stories, given the ids of quanta."""
    config = request.config
    if not config.job_records:
        return None
    # It knows all batch systems, which takes a tenth of what is imported, and few runs have such records.
    from aggregator.aggregation import job_stories

    # In the end, the last event counts as well if it was cut off.
    logs = request.logs if config.incomplete else None
    files = job_stories.read([os.fspath(path) for path in config.job_records], logs)
    return lambda ids: job_stories.resolve(files, ids, config.incomplete).pack()


def _edges(layout: checkpoint.Layout) -> Iterator[npt.NDArray[np.int32]]:
    """Yield the edges that are in a checkpoint, in pieces, shape (n, 2)."""
    for piece in layout.read_edges():
        yield np.frombuffer(piece, dtype=np.int32).reshape(-1, 2)


def rehearse(request: aggregation_request.Request) -> None:
    """Look, before there is anything to aggregate, whether a repository will take what a graph leads to.

    Raises
    ------
    RefusedError
        If it will not.
    AggregatorError
        If the database can't be reached.
    """
    # They load the libraries of databases, which no coordinator has to spend time on.
    from aggregator.butler.registry import registry
    from aggregator.workers.roles.ingesting import admission, closed_quanta

    setup, repository = _setup(request, digest.Identity("", "", ""), 0, None), request.repository
    source = registry.open_repository(repository, writeable=True)
    try:
        admission.check(setup, repository, source)
        closed_quanta.ClosedQuanta(
            setup, request.graph.header.output_run, repository, source
        ).refuse_recorded()
    finally:
        source.close()


def _identity(request: aggregation_request.Request, table: addresses.AddressTable) -> digest.Identity:
    """Return what digests belong to, but for the dictionary."""
    return digest.Identity(
        graph=request.graph.identity(table),
        settings=_settings_hash(request.config, request.repository),
        dictionary="",
        repository=locality.describe(request.repository),
    )


def server(repository: butler_config.RepositoryConfig) -> str:
    """Return what the server of a repository's database says which one it is; nothing if that is a file."""
    if sqlite_urls.path(repository.database) is not None:
        return ""
    # As above, for a repository in a file.
    from aggregator.butler.databases import connections

    with contextlib.closing(
        connections.connect(repository.database, repository.namespace, writeable=False)
    ) as database:
        return database.identity()


def _moved(
    document: manifest.Manifest,
    request: aggregation_request.Request,
    identity: digest.Identity,
    server_identity: str,
) -> manifest.Manifest | None:
    """Return the manifest as it has to be for the repository as it is now; nothing if it is that already."""
    asked = server_identity or document.server
    # Only what was exchanged has its server in the hash: it need not be asked to scan.
    places = (identity.repository, locality.describe(request.repository, asked))
    is_exchanged = document.server not in ("", asked)
    is_there = document.identity.repository in places and not is_exchanged
    place = document.identity.repository if is_there else places[is_exchanged]
    now = msgspec.structs.replace(identity, dictionary=document.identity.dictionary, repository=place)
    if document.identity == now:
        return None if document.server == asked else msgspec.structs.replace(document, server=asked)
    _log.warning(
        "%s: made with %s, which was moved, or is another repository, or has another database. Every file is "
        "looked at again before anything of the checkpoint is used",
        request.checkpoint.layout.manifest,
        document.repository,
    )
    return msgspec.structs.replace(document, identity=now, repository=request.repository.path, server=asked)


def _fill_checkpoint(
    request: aggregation_request.Request,
    original: predicted.PredictedGraph,
    files: file_plans.FilePlans,
    division: shards.Shards,
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
    layout.write_dictionary(trained.data)
    made = manifest.Manifest(
        version=manifest.VERSION,
        predicted_graph=uris.absolute(original.path),
        graph_copy=graph_copies.fingerprint(original),
        output_run=graph.header.output_run,
        repository=request.repository.path,
        identity=msgspec.structs.replace(identity, dictionary=checkpoint_content.checksum(trained.data)),
        records=checkpoint_content.checksum(packed),
        edges=checkpoint_content.checksum_of(layout.read_edges()),
        shard_size=division.size,
        n_quanta=len(division.ids),
        begun=os.stat(layout.edges).st_mtime_ns,
        trained_share=trained.share,
    )
    fault_points.reached("manifest")
    manifest.write(layout.manifest, made)
    return made


def _setup(
    request: aggregation_request.Request, identity: digest.Identity, begun: int, n_requests: int | None
) -> messages.Setup:
    config = request.config
    return messages.Setup(
        graph_path=request.graph.path,
        graph_fingerprint=request.graph.fingerprint,
        butler_path=request.butler_path,
        checkpoint=request.checkpoint.layout.directory,
        verify_checkpoint=config.verify_checkpoint,
        identity=identity,
        begun=begun,
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
