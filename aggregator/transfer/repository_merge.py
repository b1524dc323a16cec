"""The function `merge`: repositories go into another one, under other names and ids if need be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from aggregator import repository_files
from aggregator.butler.transfers import dataset_selection, manifest_writer, renaming, renewal
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, bundle, output_paths
from aggregator.storage import errors
from aggregator.transfer import claims, merge_config, repository_subset, transfer_report


def merge(
    sources: Sequence[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    chosen: dataset_selection.Selection,
    config: merge_config.MergeConfig | None = None,
    *,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> transfer_report.TransferReport:
    """Bring datasets of several repositories into one, under other names and ids if that is wanted.

    What is there already is left alone: the same call again goes on where it was interrupted. New ids depend
    on nothing but names (and the salt), so that what was merged once is known the next time.

    Parameters
    ----------
    sources
        Repositories that they come from, in this order: the first one to claim a data ID has it.
    destination
        Repository that they go to; it is made, like the first source, if it does not exist.
    chosen
        Which datasets, of each source.
    config
        How; by default names and ids stay.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it from another thread, or from `on_progress`.
    outputs
        Files that the caller is going to write: refused if they would replace what must stay.

    Returns
    -------
    report
        What was done, of all sources together.

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
    argument_types.check(merge, locals())
    options = config or merge_config.MergeConfig()
    options.check()
    paths = [os.fspath(source) for source in sources]
    if not paths:
        raise errors.RefusedError("Name a repository to merge.")
    with interruption.Interruption(cancellation) as stopping:
        run = _Merges(paths, os.fspath(destination), chosen, options, stopping, on_progress)
        try:
            run.check(outputs)
            run.transfer()
        except errors.AggregatorError as exc:
            exc.summary = run.report
            raise
        return transfer_report.combined(run.reports)


class _Merges:
    """All that one call does.

    Parameters
    ----------
    paths, destination, chosen, options, on_progress
        As for `merge`.
    stopping
        Tells whether to stop.
    """

    def __init__(
        self,
        paths: Sequence[str],
        destination: str,
        chosen: dataset_selection.Selection,
        options: merge_config.MergeConfig,
        stopping: interruption.Interruption,
        on_progress: progress.Callback | None,
    ) -> None:
        self._paths, self._destination, self._chosen = paths, destination, chosen
        self._options, self._stopping, self._on_progress = options, stopping, on_progress
        self.reports: list[transfer_report.TransferReport] = []
        """What was done of each source."""

    @property
    def report(self) -> transfer_report.TransferReport | None:
        """What was done of all sources; nothing if none was looked at."""
        return transfer_report.combined(self.reports) if self.reports else None

    def check(self, outputs: Sequence[output_paths.Output]) -> None:
        """Look whether anything stands in the way of any source; bring one that is alone."""
        claimed = claims.Claims()
        with contextlib.ExitStack() as stack:
            merges = [stack.enter_context(self._opened(path)) for path in self._paths]
            output_paths.check_all(outputs, repository_files.joined(each.protection for each in merges))
            for each in merges:
                each.choose(self._chosen)
                each.claims = claimed
                claimed.add_runs(each.runs())
            for each in merges:
                with self._shown(each):
                    each.rehearse()
                    if len(merges) == 1 and not self._options.dry_run:
                        each.transfer()

    def transfer(self) -> None:
        """Bring several sources, each compared again with what those before it have brought."""
        if len(self._paths) == 1 or self._options.dry_run:
            return
        self.reports.clear()
        with contextlib.ExitStack() as stack:
            manifest: manifest_writer.ManifestWriter | None = None
            for number, path in enumerate(self._paths):
                with self._opened(path) as each, self._shown(each):
                    each.choose(self._chosen)
                    with errors.after_changes() if number else contextlib.nullcontext():
                        each.rehearse()
                    if manifest is None and self._options.manifest_path is not None:
                        manifest = stack.enter_context(each.make_manifest(", ".join(self._paths)))
                    each.manifest = manifest
                    each.transfer()

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[_Merge]:
        with contextlib.ExitStack() as stack:
            yield _Merge(path, self._destination, self._options, self._stopping, stack)

    @contextlib.contextmanager
    def _shown(self, merging: _Merge) -> Iterator[None]:
        """Show the progress of one source, and let errors tell what was done."""
        self.reports.append(merging.report)
        merging.show(self._on_progress)
        try:
            with errors.explained():
                yield
        finally:
            merging.sum_up()


class _Merge(repository_subset.Subset):
    """The merge of one source; parameters as for `repository_subset.Subset`."""

    claims: claims.Claims | None = None
    """What is claimed by the runs of all sources; nothing if that was compared before."""

    def __init__(
        self,
        source: str,
        destination: str,
        options: merge_config.MergeConfig,
        stopping: interruption.Interruption,
        stack: contextlib.ExitStack,
    ) -> None:
        super().__init__(source, destination, options, stopping, stack)
        if self._is_same:
            raise errors.RefusedError(
                f"{self._to.path}: both have one database. Use subset to add locations."
            )
        self._merge_options = options

    def _wishes(self) -> renewal.Wishes:
        options = self._merge_options
        return renewal.Wishes(
            names=renaming.Renaming(options.rename),
            renews_ids=options.ids == "renew",
            salt=options.salt,
            cuts_graphs=options.graphs == "slice",
        )

    def runs(self) -> list[str]:
        """Return the runs that datasets go to, one for each run that they are in."""
        if self._rewritten.renewed is not None:
            return list(self._rewritten.renewed.new_runs().values())
        for batch in self.producer.batches():
            if isinstance(batch, bundle.Collections):
                return [row.name for row in batch.rows if row.type == "RUN"]
        return []

    def _batches(self, counted: str) -> Iterator[bundle.Batch]:
        for batch in super()._batches(counted):
            if counted == "checked" and self.claims is not None and isinstance(batch, bundle.Datasets):
                self.expected.conflicts += self.claims.take(batch, self._merge_options.on_conflict)
            yield batch

    def _graphs_of(self, graph: bundle.Graph) -> set[str]:
        others = super()._graphs_of(graph)
        if self.claims is not None and graph.dataset_id is not None:
            others |= self.claims.graphs(graph.run, graph.dataset_id)
        return others

    def sum_up(self) -> None:
        """Complete the report."""
        super().sum_up()
        if self._rewritten.renewed is not None:
            self.report.done.old_ids = dict(self._rewritten.renewed.formatters)
