"""The function `subset`: a part of a repository goes to another one (transfer.md section 7)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from aggregator import repository_files
from aggregator.butler import creation
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.butler.transfers import (
    account,
    dataset_selection,
    departure,
    manifest_writer,
    nesting,
    new_repository,
    rehearsal,
    renaming,
    renewal,
    repository_source,
    repository_target,
    transfer_policies,
)
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, bundle, output_kinds, output_paths
from aggregator.schemas.graphs import addresses
from aggregator.storage import durable_files, errors, fault_points
from aggregator.transfer import (
    graph_lineage,
    rewritten_files,
    source_repository,
    transfer_config,
    transfer_report,
)
from aggregator.workers.engines import memory


def subset(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    chosen: dataset_selection.Selection,
    config: transfer_config.TransferConfig | None = None,
    *,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> transfer_report.TransferReport:
    """Bring datasets of a repository, and all that they need, into another one.

    What is there already is left alone: the same call again goes on where it was interrupted, and brings what
    is new.

    Parameters
    ----------
    source
        Repository that they come from: its directory, its configuration file, or its alias.
    destination
        Repository that they go to; it is made if it does not exist.
    chosen
        Which datasets.
    config
        How; by default files are linked or copied, and nothing that is there is changed.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it from another thread, or from `on_progress`.
    outputs
        Files that the caller is going to write: refused if they would replace what must stay.

    Returns
    -------
    report
        What was done.

    Raises
    ------
    RefusedError
        If it can't be carried out, or something stands in the way; nothing has been changed.
    Interrupted
        If a signal or the cancellation asked to stop; calling again goes on.
    AggregatorError
        If something fails; calling again goes on.

    Errors after the checks have `summary`, the `TransferReport` of what was done until then.
    """
    argument_types.check(subset, locals())
    options = config or transfer_config.TransferConfig()
    options.check()
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(interruption.Interruption(cancellation))
        run = Subset(os.fspath(source), os.fspath(destination), options, stopping, stack)
        output_paths.check_all(outputs, run.protection)
        with _explained(run):
            run.choose(chosen)
            run.show(on_progress)
            run.rehearse()
            if not options.dry_run:
                run.transfer()
    return run.report


@contextlib.contextmanager
def _explained(run: Subset) -> Iterator[None]:
    """Let errors tell what was done until then."""
    try:
        with errors.explained():
            yield
    except errors.AggregatorError as exc:
        run.sum_up()
        exc.summary = run.report
        raise
    run.sum_up()


class Subset:
    """One transfer.

    Parameters
    ----------
    source, destination
        The repositories.
    options
        The options.
    stopping
        Tells whether to stop.
    stack
        Closes what is opened.
    """

    def __init__(
        self,
        source: str,
        destination: str,
        options: transfer_config.TransferConfig,
        stopping: interruption.Interruption,
        stack: contextlib.ExitStack,
    ) -> None:
        self._began = time.monotonic()
        self._options, self._stopping, self._stack = options, stopping, stack
        self._display = stack.enter_context(contextlib.ExitStack())
        given = stack.enter_context(source_repository.opened(source, destination, stopping.check))
        self._from, self._settings = given.config, given.settings
        self._destination = destination
        self._is_new = not new_repository.exists(destination)
        self._to = (
            new_repository.expected(destination, self._from, options.database)
            if self._is_new
            else repository_config.load(destination)
        )
        self._is_same = not self._is_new and self._from.database == self._to.database
        if self._is_same and self._from.datastores == self._to.datastores:
            raise errors.RefusedError(f"{self._to.path}: both repositories are the same. Give another one.")
        nesting.check(self._from, self._to)
        self.protection = repository_files.joined(map(repository_files.protection, (self._from, self._to)))
        self._check_paths()
        is_move = options.files == transfer_policies.MOVE
        if is_move and self._is_same:
            raise errors.RefusedError(
                f"{self._to.path}: both repositories have one database, which may have one record for each "
                "dataset only. Copy the files instead."
            )
        if is_move and self._settings is not None:
            raise errors.RefusedError(
                f"{self._from.path}: files of an export stay where they are. Copy them, and remove it "
                "when all is well."
            )
        if is_move:
            self._from.check_writeable()
        self._source = stack.enter_context(registry.open_repository(self._from, writeable=is_move))
        self._departure = departure.Departure(self._from, self._source) if is_move else None
        self._target: registry.Registry | None = None
        if not self._is_new:
            self._to.check_writeable()
            self._target = stack.enter_context(registry.open_repository(self._to, writeable=True))
        self.report = transfer_report.TransferReport(
            self._from.path, self._to.path, options.files, options.dry_run
        )
        self._rewritten = rewritten_files.RewrittenFiles(self._from, self._source, options, self._tick, stack)
        self.manifest: manifest_writer.ManifestWriter | None = None
        """Takes what another system has to bring, if several transfers have one manifest."""
        self.producer: bundle.Producer
        self.expected = account.Account()
        self._shown: progress.Progress | None = None

    def _check_paths(self) -> None:
        """Refuse to write lists or logs where something of a repository is."""
        kinds = output_kinds.Kind
        paths = [
            (self._options.conflicts_path, kinds.CONFLICTS),
            (self._options.manifest_path, kinds.TRANSFER_MANIFEST),
        ]
        repository_files.check_logs(self.protection)
        for path, kind in paths:
            if path is not None:
                output_paths.check(os.fspath(path), kind, self.protection)

    def choose(self, chosen: dataset_selection.Selection) -> None:
        """Find out what is selected."""
        options = self._options
        extent = repository_source.Extent(
            options.registry == "full", options.all_dataset_types, options.trust
        )
        chosen = self._with_lineage(chosen)
        producer = repository_source.RepositorySource(self._from, self._source, chosen, extent, self._tick)
        self.producer = self._rewritten.produce(producer, self._wishes(), self._target)
        self.report.selected = producer.n_datasets
        for name in producer.choice.unsuited:
            self.report.done.note(f"Dataset type {name}: left out, it lacks dimensions of the expression")

    def _wishes(self) -> renewal.Wishes:
        """Return what shall become of names and ids."""
        return renewal.Wishes(
            names=renaming.Renaming(()), renews_ids=False, cuts_graphs=self._options.graphs == "slice"
        )

    def _with_lineage(self, chosen: dataset_selection.Selection) -> dataset_selection.Selection:
        """Return a selection with the lineage that is asked for."""
        options = self._options
        if not options.lineage and options.registry != "full":
            return chosen
        choice = dataset_selection.choose(self._source, chosen)
        if choice.datasets.is_everything(self._source):
            return chosen
        ids, possible, rows = (
            choice.datasets.ids(self._source),
            list(chosen.possible_ids),
            list(chosen.rows_only),
        )
        if options.lineage:
            request = graph_lineage.Request.parse(options.lineage)
            for some in graph_lineage.walk(self._from, self._source, ids, request):
                possible += addresses.hex_digits(some)
        if options.registry == "full":
            start = np.concatenate([ids, addresses.parse_ids(possible)])
            for some in graph_lineage.walk(
                self._from, self._source, start, graph_lineage.Request(is_up=True)
            ):
                rows += addresses.hex_digits(some)
        return dataclasses.replace(chosen, possible_ids=possible, rows_only=rows)

    def show(self, callback: progress.Callback | None) -> None:
        """Show progress from now on."""
        options = self._options
        totals = {"checked": self.report.selected}
        if not options.dry_run:
            totals["transferred"] = self.report.selected
        self._shown = self._display.enter_context(
            progress.Progress(
                totals,
                self._began,
                options.log_status_interval,
                options.interactive_status,
                callback,
                self.report,
                lambda: {"all": memory.resident(os.getpid())},
            )
        )

    def _tick(self) -> None:
        self._stopping.check()
        if self._shown is not None:
            self._shown.beat(lambda: f"memory {memory.resident(os.getpid()) / 1e6:.0f} MB")

    def _batches(self, counted: str) -> Iterator[bundle.Batch]:
        """Iterate over the bundle, and show how far it is."""
        assert self._shown is not None
        for batch in self.producer.batches():
            if self._is_same and not isinstance(batch, bundle.DatasetTypes | bundle.Datasets | bundle.Graph):
                # Rows that both share.
                continue
            if counted == "checked" and isinstance(batch, bundle.Graph) and batch.dataset_id is not None:
                self.expected.conflicts += self._rewritten.compare(batch, self._graphs_of(batch))
            yield batch
            if isinstance(batch, bundle.Datasets):
                self._shown.advance(counted, len(batch.rows))

    def _graphs_of(self, graph: bundle.Graph) -> set[str]:
        """Return the ids of the graphs that the run of a graph has already."""
        return set() if self._target is None else set(self._target.datasets.graphs(graph.run))

    def rehearse(self) -> None:
        """Find out all that stands in the way, and refuse if something does."""
        assert self._shown is not None
        self._shown.phase("checking")
        self._rewritten.aim(self._to, self._target, account.Account())
        found = self.expected = account.Account(notes=list(self.report.done.notes))
        consumer = rehearsal.Rehearsal(self._to, self._target, self._options, found, self._tick)
        bundle.transfer(self.producer, consumer, self._batches("checked"))
        fault_points.reached("checked")
        if self._options.dry_run or found.conflicts:
            self.report.done = found
            self.report.bytes_free = new_repository.bytes_free(self._to)
        else:
            self.report.done.notes = found.notes
        if found.conflicts:
            self._write_conflicts(found.conflicts)
            lines = "\n".join(f"  {line}" for line in found.conflict_lines())
            raise errors.RefusedError(
                f"{self._to.path}: {len(found.conflicts)} contradictions, so nothing was "
                f"transferred:\n{lines}\nSolve them, choose something else, or say what is to happen with "
                "them (see --help)."
            )

    def _write_conflicts(self, conflicts: Sequence[account.Conflict]) -> None:
        if self._options.conflicts_path is not None:
            lines = (msgspec.json.encode(each) + b"\n" for each in conflicts)
            durable_files.write_atomically(os.fspath(self._options.conflicts_path), lines)

    def transfer(self) -> None:
        """Write everything."""
        assert self._shown is not None
        if self._target is None:
            self._shown.phase("creating")
            self._create()
        assert self._target is not None
        with errors.after_changes():
            self._rewritten.begin(self._to)
            self._rewritten.aim(self._to, self._target, self.expected)
            self._shown.phase("transferring")
            with contextlib.ExitStack() as stack:
                manifest = self.manifest
                if manifest is None and self._options.manifest_path is not None:
                    manifest = stack.enter_context(self.make_manifest(self._from.path))
                consumer = repository_target.RepositoryTarget(
                    self._to,
                    self._target,
                    self._options,
                    self.report.done,
                    self._tick,
                    self._departure.take if self._departure is not None else None,
                    manifest.add if manifest is not None else None,
                )
                bundle.transfer(self.producer, consumer, self._batches("transferred"))
                if self._departure is not None:
                    self._departure.finish()

    def make_manifest(self, sources: str) -> manifest_writer.ManifestWriter:
        """Return what writes a manifest of files from some sources."""
        path = os.path.abspath(os.fspath(self._options.manifest_path or ""))
        return manifest_writer.ManifestWriter(path, sources, self._to.path, self._options.manifest_format)

    def _create(self) -> None:
        try:
            creation.create_repository(
                self._destination,
                database_url=self._options.database,
                namespace=self._options.namespace,
                dimension_config=self._source.dimension_config,
                settings=self._settings
                if self._settings is not None
                else new_repository.settings(self._from),
            )
        except errors.RefusedError as exc:
            if new_repository.exists(self._destination):
                # Another process was faster; what it has made can be used.
                raise exc.as_failure() from exc
            raise
        with errors.after_changes():
            self._to = repository_config.load(self._destination)
            self._target = self._stack.enter_context(registry.open_repository(self._to, writeable=True))

    def sum_up(self) -> None:
        """Complete the report, and show no progress any more."""
        self._display.close()
        self.report.elapsed = time.monotonic() - self._began
        self.report.peak = memory.peak(os.getpid())
        if self._shown is not None:
            self.report.phases = dict(self._shown.seconds)
