"""A repository as the consumer of a bundle (transfer.md sections 7.3, 7.4 and 7.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import additions, batch, registry
from aggregator.butler.transfers import (
    account,
    arrival,
    contest,
    departure,
    destination,
    file_placement,
    renamed_paths,
    transfer_policies,
)
from aggregator.schemas import bundle
from aggregator.storage import errors, fault_points

Committed = Callable[[bundle.Datasets, Sequence[file_placement.Planned]], None]
"""Is told of datasets whose rows are committed, with their files."""


Listed = Callable[[str, Sequence[file_placement.Planned]], list[file_placement.Planned]]
"""Takes files of datasets of a RUN collection that another system has to bring; returns what it can't."""


class RepositoryTarget:
    """Takes a bundle into a repository; what is there already is left alone, so it can be taken again.

    Parameters
    ----------
    config
        Configuration of the repository.
    target
        Its database, open for writing.
    policy
        What happens where both contradict each other.
    done
        Where things are counted.
    tick
        Called now and then; what it raises ends the work.
    committed
        Told of datasets as soon as their rows are committed, also of those that were there.
    listed
        Told of files that another system has to bring.
    """

    def __init__(
        self,
        config: repository_config.RepositoryConfig,
        target: registry.Registry,
        policy: transfer_policies.Policies,
        done: account.Account,
        tick: Callable[[], None] = lambda: None,
        committed: Committed | None = None,
        listed: Listed | None = None,
    ) -> None:
        self._config, self._target, self._policy = config, target, policy
        self._done, self._tick, self._committed, self._listed = done, tick, committed, listed
        self._to: destination.Destination
        self._arrival: arrival.Arrival
        self._paths: renamed_paths.RenamedPaths
        self._graphs: dict[str, str] = {}

    def begin(self, head: bundle.Head) -> None:
        """Check that the dimensions fit."""
        self._to = destination.Destination(
            head, self._config, self._target, self._policy, self._done, self._tick
        )
        self._paths = renamed_paths.RenamedPaths(self._config, self._target)
        self._arrival = arrival.Arrival(head, self._to.placement)

    def take(self, batch: bundle.Batch) -> None:
        """Write a batch: its files, then its rows in one transaction."""
        self._tick()
        match batch:
            case bundle.DatasetTypes():
                self._register(batch.rows)
            case bundle.Collections():
                self._done.collections_added += self._target.additions.register(batch.rows)
            case bundle.DimensionRecords():
                self._add_records(batch)
            case bundle.Graph():
                self._take_graph(batch)
            case bundle.Datasets():
                self._add_datasets(batch)
            case bundle.Associations():
                self._associate(batch)
            case bundle.Chain():
                self._link(batch)
        fault_points.reached(f"taken-{type(batch).__name__}")

    def finish(self) -> None:
        """Do nothing: each batch is complete."""

    def _register(self, rows: Sequence[bundle.DatasetType]) -> None:
        self._to.look_up(rows)
        self._raise(self._to.type_conflicts(rows))
        new = [self._to.definition(row) for row in rows if row.name not in self._to.kinds]
        self._to.kinds |= self._target.dataset_types.register_all(new)
        self._done.dataset_types_added += len(new)

    def _raise(self, conflicts: Sequence[account.Conflict]) -> None:
        """Give up if something is in the way that was not there when everything was checked."""
        self._done.conflicts += conflicts
        if conflicts:
            raise errors.AggregatorError(
                f"{self._config.path}: {conflicts[0].kind}: {conflicts[0].text}. What was done before is "
                "kept; run the same command again, which checks everything first."
            )

    def _add_records(self, records: bundle.DimensionRecords) -> None:
        self._to.check_records(records)
        comparison = self._target.additions.add_records(records)
        self._done.records_added += len(comparison.new)
        self._done.records_present += comparison.n_present
        self._done.records_differing += len(comparison.differing)

    def _take_graph(self, graph: bundle.Graph) -> None:
        if graph.dataset_id is not None:
            self._graphs[graph.run] = graph.dataset_id
        self._to.placement.add_graph(graph)
        self._paths.add_graph(graph)

    def _add_datasets(self, datasets: bundle.Datasets) -> None:
        ids = [row.id for row in datasets.rows]
        presence = self._target.additions.presence(ids, [store.name for store in self._config.datastores])
        self._done.count_without_file(datasets)
        paths = self._paths.of(datasets, self._to.kinds) if self._policy.moves else {}
        planned = self._to.placement.plan(datasets.files, paths)
        datasets, planned = self._without_missing(datasets, planned, presence)
        verdict = self._judge(datasets, presence)
        wanted = [row for row in datasets.rows if row.id not in verdict.left_out]
        planned = [each for each in planned if each.record.dataset_id not in verdict.left_out]
        going = self._files_of(verdict.replacing.values())
        planned = contest.set_aside(planned, verdict.replacing, going) if going else planned
        lacking = self._lacking(planned, presence)
        if self._policy.files == transfer_policies.MANIFEST:
            # What was made just for this can't wait for others.
            planned = lacking = self._listed(datasets.run, lacking) if self._listed is not None else []
        self._to.placement.bring(lacking)
        fault_points.reached("placed")
        run, graphs = datasets.run, self._to.graphs(datasets.run, wanted, self._graphs)
        offered = self._to.offered(
            wanted, [each for each in planned if each.record.dataset_id not in presence.runs]
        )
        result = self._target.datasets.ingest(
            run,
            offered,
            graphs=graphs,
            defensive=bool(presence.runs),
            replaced=list(verdict.replacing.values()),
            records_tables={store.records_table for store in self._config.datastores},
        )
        self._raise(contest.judge(datasets, result.conflicts, "fail", self._target.additions).conflicts)
        self._repair(lacking, presence)
        self._count(datasets.run, wanted, presence, result)
        self._done.datasets_skipped += len(verdict.left_out)
        self._done.datasets_replaced += len(verdict.replacing)
        fault_points.reached("committed")
        if going:
            departure.Departure(self._config, self._target).discard(going)
        if self._committed is not None:
            self._let_go(datasets, planned, lacking)

    def _let_go(
        self,
        datasets: bundle.Datasets,
        planned: Sequence[file_placement.Planned],
        brought: Sequence[file_placement.Planned],
    ) -> None:
        """Tell which files are here for good: what is recorded may be gone, or another's, all the same."""
        assert self._committed is not None
        complete, staying = self._arrival.complete(datasets, planned, brought)
        self._committed(datasets, complete)
        self._done.datasets_staying += len(staying)

    def _without_missing(
        self,
        datasets: bundle.Datasets,
        planned: list[file_placement.Planned],
        presence: additions.Presence,
    ) -> tuple[bundle.Datasets, list[file_placement.Planned]]:
        """Leave out what has no file, as the policy says."""
        if self._policy.missing == "fail" and self._policy.moves:
            # Who brings them notices.
            return datasets, planned
        without = self._to.placement.absent(self._lacking(planned, presence))
        if without and self._policy.missing == "fail":
            dataset_id, location = next(iter(without.items()))
            self._raise([account.Conflict("F1", f"{location}: is not there", dataset_id)])
        planned = [each for each in planned if each.record.dataset_id not in without]
        if self._policy.missing == "register" or not without:
            return datasets, planned
        self._done.datasets_skipped += len(without)
        rows = [row for row in datasets.rows if row.id not in without]
        return bundle.Datasets(datasets.run, rows, datasets.files, datasets.is_renamed), planned

    def _judge(self, datasets: bundle.Datasets, presence: additions.Presence) -> contest.Verdict:
        """Return what becomes of datasets that the repository contradicts, as the policy says."""
        if self._policy.on_conflict == "fail" and not presence.runs:
            return contest.Verdict({}, {}, ())
        found = self._target.datasets.rehearse(datasets.run, self._to.offered(datasets.rows, []))
        verdict = contest.judge(datasets, found.conflicts, self._policy.on_conflict, self._target.additions)
        self._raise(verdict.conflicts)
        self._done.replaced_ids.update(verdict.left_out)
        return verdict

    def _files_of(self, ids: Iterable[str]) -> list[bundle.FileRecord]:
        stores = [(store.name, store.records_table) for store in self._config.datastores]
        return self._target.additions.file_records(sorted(ids), stores)

    def _lacking(
        self, planned: Sequence[file_placement.Planned], presence: additions.Presence
    ) -> list[file_placement.Planned]:
        """Return the files that have to be brought: of new datasets, and of those without a file."""
        lacking: list[file_placement.Planned] = []
        recorded: list[file_placement.Planned] = []
        for each in planned:
            is_recorded = (each.store.name, each.record.dataset_id) in presence.recorded
            (recorded if is_recorded else lacking).append(each)
        if self._policy.verify_files and self._policy.moves and recorded:
            there = self._to.placement.in_place(recorded)
            lacking += [each for each, is_there in zip(recorded, there, strict=True) if not is_there]
        return lacking

    def _repair(self, lacking: Sequence[file_placement.Planned], presence: additions.Presence) -> None:
        """Record files of datasets that were there without any."""
        repaired = [each for each in lacking if each.record.dataset_id in presence.runs]
        self._target.additions.record_files([each.row for each in repaired])
        self._done.datasets_repaired += len({each.record.dataset_id for each in repaired})

    def _count(
        self,
        run: str,
        rows: Sequence[bundle.Dataset],
        presence: additions.Presence,
        result: batch.IngestResult,
    ) -> None:
        self._done.datasets_added += result.n_ingested
        self._done.datasets_present += result.n_skipped
        numbers: dict[str, int] = {}
        for row in rows:
            if row.id not in presence.runs:
                numbers[row.dataset_type] = numbers.get(row.dataset_type, 0) + 1
        for name, number in numbers.items():
            self._done.count(run, name, number)

    def _associate(self, associations: bundle.Associations) -> None:
        presence = self._target.additions.presence([row.dataset_id for row in associations.rows], ())
        # Datasets may have been left out.
        rows = [row for row in associations.rows if row.dataset_id in presence.runs]
        self._done.associations_skipped += len(associations.rows) - len(rows)
        for name, some in by_type(rows).items():
            comparison = self._target.additions.associate(
                associations.collection,
                self._to.kinds[name],
                some,
                newest=self._policy.on_tag_conflict == transfer_policies.NEWEST,
            )
            self._raise(association_conflicts(associations, comparison.contradicted, self._policy))
            self._done.associations_added += len(comparison.new) + len(comparison.replacing)
            self._done.associations_present += comparison.n_present
            self._done.associations_skipped += len(comparison.contradicted)

    def _link(self, chain: bundle.Chain) -> None:
        missing = self._target.additions.link(
            chain.name, chain.children, additions.ChainRule(self._policy.chains)
        )
        self._done.chains_changed += 1
        if missing:
            self._done.note(
                f"Chain {chain.name}: left out {', '.join(missing)}, which are neither selected nor there"
            )


def by_type(rows: Sequence[bundle.Association]) -> dict[str, list[bundle.Association]]:
    """Return members by dataset type."""
    types: dict[str, list[bundle.Association]] = {}
    for row in rows:
        types.setdefault(row.dataset_type, []).append(row)
    return types


def association_conflicts(
    associations: bundle.Associations,
    contradicted: Sequence[tuple[bundle.Association, str]],
    policy: transfer_policies.Policies,
) -> list[account.Conflict]:
    """Return what stands in the way of tags and certifications (C9, C10)."""
    conflicts = []
    for member, other in contradicted:
        if member.timespan is None and policy.on_tag_conflict == "fail":
            text = f"{associations.collection}: holds dataset {other} in place of {member.dataset_id}"
            conflicts.append(account.Conflict("C9", text, member.dataset_id, other))
        elif member.timespan is not None and policy.on_certification_conflict == "fail":
            name = associations.collection
            text = f"{name}: dataset {other} is valid at some of the time of {member.dataset_id}"
            conflicts.append(account.Conflict("C10", text, member.dataset_id, other))
    return conflicts
