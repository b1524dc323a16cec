"""The ingester: brings accepted outputs into the database (aggregate-and-ingest.md section 3)."""

import logging

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import (
    batch,
    dataset_ids,
    ingested_graphs,
    insertion,
    recorded_graphs,
    registry,
)
from aggregator.schemas import messages, output_kinds, output_paths
from aggregator.schemas.checkpoints import checkpoint, digest, ledger
from aggregator.schemas.graphs import addresses
from aggregator.storage import fault_points
from aggregator.workers import log_levels
from aggregator.workers.roles import given_graph
from aggregator.workers.roles.ingesting import (
    admission,
    closed_quanta,
    dataset_rows,
    foreign_graphs,
    registrations,
    tallies,
)


class Ingester:
    """Ingests digests.

    Parameters
    ----------
    setup
        Where everything is.
    log
        Log of this worker.
    """

    def __init__(self, setup: messages.Setup, log: logging.Logger) -> None:
        self._setup = setup
        self._log = log
        self._layout = checkpoint.Layout(setup.checkpoint)
        with given_graph.open_graph(setup) as graph:
            self._header = graph.header
            self._pipeline = graph.pipeline
        self._run = self._header.output_run
        self._repository = repository = repository_config.load(setup.butler_path)
        self._place = ledger.place(repository.database, repository.namespace)
        self._registry = registry.open_repository(
            repository, writeable=not setup.dry_run, rehearsed=setup.dry_run, warn=log.warning
        )
        self._closed = closed_quanta.ClosedQuanta(setup, self._run, repository, self._registry)
        stores = [(s.records_table, s.name) for s in repository.datastores]
        self._rows = dataset_rows.DatasetRows(self._pipeline, stores, self._registry.dataset_types.rows)
        self._defensive = setup.defensive_ingest
        self._datasets: list[batch.Dataset] = []
        self._files: list[batch.File] = []
        self._lines: list[ledger.Line] = []
        self._n_datasets = 0
        self._ledger: dict[int, ledger.Line] = {}
        # Verdicts of each shard, and the number of its datasets for those that the ledger tells of.
        self._taken: dict[int, bytes] = {}
        self._believed: dict[int, int] = {}
        self._refused: set[str] = set()
        try:
            admission.check(setup, repository, self._registry)
            self._closed.refuse()
            if not setup.dry_run:
                foreign_graphs.refuse(setup, self._run, repository.path, self._registry)
        except BaseException:
            self._registry.close()
            raise
        self._n_connections = self._registry.n_connections

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""
        match request:
            case messages.Begin():
                return self.begin()
            case messages.CommitShard():
                return self.take(request)
            case messages.Flush():
                return self._commit()
            case messages.Confirm():
                return self.confirm()
        raise TypeError(f"not for the ingester: {request!r}")

    def close(self) -> None:
        """Close the database."""
        self._registry.close()

    def begin(self) -> messages.Ready:
        """Make the first changes."""
        if not self._setup.dry_run:
            self._register()
            # Whether it is true is found out before anything relies on it.
            self._ledger = ledger.read(self._layout.ledger, self._place, self._run)
        return messages.Ready()

    def _register(self) -> None:
        setup = self._setup
        registrations.register(
            self._registry,
            self._header,
            self._pipeline,
            dataset_types=setup.register_dataset_types,
            output_chain=setup.update_output_chain,
        )

    def take(self, request: messages.CommitShard) -> messages.Ingested:
        """Add a shard's datasets; write a batch if there are enough."""
        self._taken[request.shard] = request.verdicts
        with digest.Digest(self._layout.digest(request.shard), self._setup.identity, request.shard) as opened:
            self._gather(opened, request.verdicts)
        if self._n_datasets > self._setup.ingest_batch_size:
            return self._commit()
        return messages.Ingested([], 0, 0, [])

    def _gather(self, opened: digest.Digest, verdict: bytes) -> None:
        """Add the datasets of a digest that belong in the database, unless the ledger says that they are."""
        ids = opened.column("dataset.id")
        rows = np.flatnonzero(self._offered(opened, verdict))
        line = ledger.Line(
            repository=self._place,
            run=self._run,
            shard=opened.shard,
            digest=opened.checksum,
            offered=ledger.hash_ids(ids[rows]),
            n_datasets=len(rows),
        )
        self._lines.append(line)
        if self._ledger.get(opened.shard) == line:
            self._believed[opened.shard] = len(rows)
            return
        self._n_datasets += len(rows)
        if not self._setup.dry_run and len(rows):
            self._add(opened, rows, ids)

    def _offered(self, opened: digest.Digest, verdict: bytes) -> npt.NDArray[np.bool_]:
        """Return which datasets of a digest are offered to the database."""
        belonging = dataset_rows.belonging(opened, verdict)
        # All others are for a later ingestion of the graph.
        return belonging & dataset_rows.regular(opened) if self._setup.promise_ingest_graph else belonging

    def _add(self, opened: digest.Digest, rows: npt.NDArray[np.intp], ids: addresses.Ids) -> None:
        added = self._rows.translate(opened, rows, ids)
        self._datasets += added.datasets
        self._files += added.files

    def _commit(self) -> messages.Ingested:
        """Write what was gathered, then look after a lost connection what is left of everything before."""
        lines, n_datasets = self._lines, self._n_datasets
        self._lines, self._n_datasets = [], 0
        if self._setup.dry_run:
            return messages.Ingested(lines, n_datasets, 0, [])
        tally = tallies.Tally()
        self._write(tally)
        if self._registry.n_connections != self._n_connections:
            self._complete(tally)
        # With conflicts, all of the batch is offered again by the next run.
        return tally.reply([] if tally.conflicts else lines, [])

    def _write(self, tally: tallies.Tally) -> None:
        """Write the datasets that were gathered in one transaction, and count them."""
        datasets, files = self._datasets, self._files
        self._datasets, self._files = [], []
        result = self._ingest(datasets, files)
        fault_points.reached("committed")
        # What was there once will be there again: no use in trying without looking.
        self._defensive = self._defensive or result.n_skipped > 0
        self._refused.update(conflict.dataset_id for conflict in result.conflicts)
        self._log.log(
            log_levels.VERBOSE,
            "ingested %d datasets, %d were there already",
            result.n_ingested,
            result.n_skipped,
        )
        tally.n_ingested += result.n_ingested
        tally.n_skipped += result.n_skipped
        tally.conflicts += [messages.Conflict(str(c)) for c in result.conflicts]

    def _ingest(self, datasets: list[batch.Dataset], files: list[batch.File]) -> batch.IngestResult:
        """Commit a batch, unless its quanta are closed by then."""
        for last in (*[False] * (dataset_ids.LOOKS - 1), True):
            offered, graphs = batch.Batch(datasets, files), self._closed.others
            try:
                return self._registry.datasets.ingest(
                    self._run, offered, graphs=graphs, defensive=self._defensive
                )
            except recorded_graphs.UnknownGraphError:
                self._closed.check_again()
            except insertion.UnregisteredError as error:
                if last:
                    raise
                # The server is one that has not seen what was registered.
                self._log.warning("%s Registering again.", error)
                datasets = self._register_again(datasets)
        return self._registry.datasets.ingest(self._run, offered, graphs=graphs, defensive=self._defensive)

    def _register_again(self, datasets: list[batch.Dataset]) -> list[batch.Dataset]:
        """Register everything again; return datasets with the keys that their types have now."""
        self._register()
        self._rows.forget_types()
        types = self._registry.dataset_types.rows({row.name for _, row, _ in datasets})
        return [(dataset_id, types[row.name], values) for dataset_id, row, values in datasets]

    def confirm(self) -> messages.Ingested:
        """Make sure that all datasets are there and no quanta are closed; count what is too much."""
        self._closed.check_again()
        self._check_output()
        if self._setup.dry_run:
            return messages.Ingested([], 0, 0, [])
        tally = tallies.Tally()
        n_offered, present = self._complete(tally)
        # In incomplete mode, what is held now may be accepted again.
        if self._setup.incomplete or len(present) <= n_offered:
            return tally.reply([], [])
        return tally.reply([], self._stale(present))

    def _check_output(self) -> None:
        """Make sure that no graph that is all that is left of another run is going to be replaced.

        It may have been ingested where it lies since the run began.
        """
        path = self._setup.output_path
        if path is not None and output_paths.is_taken(path):
            graphs = ingested_graphs.described(self._repository, self._registry)
            protection = msgspec.structs.replace(
                self._setup.protection, files={**self._setup.protection.files, **graphs}
            )
            output_paths.check_again(path, output_kinds.Kind.GRAPH, protection)

    def _complete(self, tally: tallies.Tally) -> tuple[int, addresses.Ids]:
        """Offer again what was committed and is not in the database.

        Parameters
        ----------
        tally
            Takes the counts of what the ledger knew, of what is there again, and of what can't be.

        Returns
        -------
        n_offered, present
            How many datasets there are by this run's judgement, and all ids of the run, sorted.

        Raises
        ------
        AggregatorError
            If some still are not there after several attempts.
        """
        n_offered, present = 0, addresses.parse_ids([])

        def offer_missing() -> int:
            nonlocal n_offered, present
            self._n_connections = self._registry.n_connections
            present = self._registry.datasets.ids(self._run)
            n_offered, n_missing = self._offer_missing(present, tally)
            tally.n_skipped += sum(self._believed.values())
            self._believed.clear()
            return n_missing

        dataset_ids.complete(offer_missing, self._place, self._run, self._log.warning)
        return n_offered, present

    def _offer_missing(self, present: addresses.Ids, tally: tallies.Tally) -> tuple[int, int]:
        """Commit what is missing; return the numbers of datasets that should be there, and of those."""
        n_offered = n_missing = 0
        again = tallies.Tally(conflicts=tally.conflicts)
        for shard, verdict in self._taken.items():
            with digest.Digest(self._layout.digest(shard), self._setup.identity, shard) as opened:
                ids = opened.column("dataset.id")
                rows = np.flatnonzero(self._offered(opened, verdict))
                n_offered += len(rows)
                rows = self._missing(rows, ids, present)
                if not len(rows):
                    continue
                n_missing += len(rows)
                if shard in self._believed:
                    self._believed[shard] -= len(rows)
                    tally.n_ingested += len(rows)
                else:
                    tally.n_again += len(rows)
                self._add(opened, rows, ids)
            if len(self._datasets) > self._setup.ingest_batch_size:
                self._write(again)
        if self._datasets:
            self._write(again)
        return n_offered - len(self._refused), n_missing

    def _missing(
        self, rows: npt.NDArray[np.intp], ids: addresses.Ids, present: addresses.Ids
    ) -> npt.NDArray[np.intp]:
        """Return those rows of a digest whose datasets are neither in the database nor refused by it."""
        rows = rows[~addresses.are_in(ids[rows], present)]
        kept = [each not in self._refused for each in addresses.hex_digits(ids[rows])]
        return rows[np.flatnonzero(kept)]

    def _stale(self, present: addresses.Ids) -> list[str]:
        """Return the ids of datasets that are in the database against the present judgement."""
        stale = []
        for shard, verdict in self._taken.items():
            with digest.Digest(self._layout.digest(shard), self._setup.identity, shard) as opened:
                ids = opened.column("dataset.id")[~dataset_rows.belonging(opened, verdict)]
                stale += addresses.hex_digits(ids[addresses.are_in(ids, present)])
        return stale
