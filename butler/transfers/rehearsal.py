"""What would come of a bundle: counts, and all that stands in the way, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import additions, batch, collection_rows, registry
from aggregator.butler.transfers import (
    account,
    contest,
    destination,
    file_placement,
    renamed_paths,
    repository_target,
    transfer_policies,
)
from aggregator.schemas import bundle
from aggregator.storage import local_files, uris


class Rehearsal:
    """Takes a bundle and writes nothing but numbers (transfer.md sections 7.4 and 7.8).

    Parameters
    ----------
    config
        Configuration of the repository; of one that is going to be made, that which it will have.
    target
        Its database; nothing if the repository is going to be made. It has to be open for writing, since
        comparisons take temporary tables.
    policy
        What happens where both contradict each other.
    done
        Where things are counted, and conflicts are noted.
    tick
        Called now and then; what it raises ends the work.
    """

    def __init__(
        self,
        config: repository_config.RepositoryConfig,
        target: registry.Registry | None,
        policy: transfer_policies.Policies,
        done: account.Account,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._target, self._policy = config, target, policy
        self._done, self._tick = done, tick
        self._to: destination.Destination
        self._collections = {} if target is None else target.holdings.collections()
        self._names: set[str] = set(self._collections)
        self._chains: dict[str, tuple[str, ...]] = {}
        self._going: set[str] = set()

    def begin(self, head: bundle.Head) -> None:
        """Check that the dimensions fit."""
        self._to = destination.Destination(
            head, self._config, self._target, self._policy, self._done, self._tick
        )

    def take(self, batch: bundle.Batch) -> None:
        """Compare a batch with the destination."""
        self._tick()
        match batch:
            case bundle.DatasetTypes():
                self._to.look_up(batch.rows)
                self._done.conflicts += self._to.type_conflicts(batch.rows)
                self._done.dataset_types_added += sum(row.name not in self._to.kinds for row in batch.rows)
            case bundle.Collections():
                self._take_collections(batch.rows)
            case bundle.DimensionRecords():
                self._take_records(batch)
            case bundle.Datasets():
                self._take_datasets(batch)
            case bundle.Associations():
                self._take_associations(batch)
            case bundle.Chain():
                self._take_chain(batch)
            case bundle.Graph():
                self._to.placement.add_graph(batch)

    def finish(self) -> None:
        """Do nothing: all is compared."""

    def _take_collections(self, rows: Sequence[bundle.Collection]) -> None:
        for row in rows:
            there = self._collections.get(row.name)
            if there is None:
                self._done.collections_added += 1
            elif there.type is not collection_rows.CollectionType[row.type]:
                text = f"{row.name}: is a {there.type.name} collection there, and not a {row.type} collection"
                self._done.add_conflict("C7", text)
            elif row.doc and there.doc and row.doc != there.doc:
                self._done.note(f"Collection {row.name}: keeps its own description")
        self._names.update(row.name for row in rows)

    def _take_records(self, records: bundle.DimensionRecords) -> None:
        self._to.check_records(records)
        if self._target is None:
            self._done.records_added += len(records.rows)
            return
        comparison = self._target.additions.compare_records(records.element, records.rows)
        self._done.records_added += len(comparison.new)
        self._done.records_present += comparison.n_present
        self._done.records_differing += len(comparison.differing)
        for key, column in comparison.differing:
            text = f"{records.element} {', '.join(map(str, key))}: has another {column} there"
            if self._policy.on_dimension_conflict == "fail":
                self._done.add_conflict("C6", text)
            else:
                self._done.note(f"Kept as it is: {text}")

    def _take_datasets(self, datasets: bundle.Datasets) -> None:
        ids = [row.id for row in datasets.rows]
        names = [store.name for store in self._config.datastores]
        presence = additions.Presence({}, frozenset())
        if self._target is not None:
            presence = self._target.additions.presence(ids, names)
        unknown = renamed_paths.concerned(datasets) if self._policy.moves else []
        planned = self._to.placement.plan(datasets.files, {record.path: "" for record in unknown})
        lacking = [e for e in planned if (e.store.name, e.record.dataset_id) not in presence.recorded]
        left_out, gone = self._look_for_files(datasets.run, lacking)
        verdict = self._compare(datasets, presence)
        left_out |= verdict.left_out.keys() | {each.dataset_id or "" for each in verdict.conflicts}
        lacking = [each for each in lacking if each.record.dataset_id not in left_out]
        if verdict.replacing and self._target is not None:
            going = sorted(verdict.replacing.values())
            stores = [(store.name, store.records_table) for store in self._config.datastores]
            records = self._target.additions.file_records(going, stores)
            lacking = contest.set_aside(lacking, verdict.replacing, records)
        if self._policy.moves:
            self._compare_files(lacking)
        self._count(datasets, presence, left_out)
        self._tell(datasets, presence, left_out, gone, {each.dataset_id for each in verdict.conflicts})
        if self._policy.moves:
            files = {(e.store.name, e.key): self._to.placement.size(e) for e in lacking}
            self._done.files_brought += len(files)
            self._done.bytes_brought += sum(files.values())

    def _look_for_files(
        self, run: str, planned: Sequence[file_placement.Planned]
    ) -> tuple[set[str], set[str]]:
        """Note files that are gone; return the ids of datasets that are left out for that, and of all."""
        without = self._to.placement.absent(planned)
        if self._policy.missing == "fail":
            for dataset_id, location in without.items():
                self._done.add_conflict("F1", f"{location}: is not there (run {run})", dataset_id)
        if without:
            self._done.note("Files of some datasets are recorded, and not there")
        return set() if self._policy.missing == "register" else set(without), set(without)

    def _compare(self, datasets: bundle.Datasets, presence: additions.Presence) -> contest.Verdict:
        """Note datasets that contradict the repository; return what becomes of them."""
        if self._target is None or (datasets.run not in self._collections and not presence.runs):
            return contest.Verdict({}, {}, ())
        for row in datasets.rows:
            if row.id in presence.runs and row.dataset_type not in self._to.kinds:
                text = f"{row.dataset_type} with id {row.id}: the repository has another dataset with this id"
                self._done.add_conflict("C2", text, row.id)
        found = self._target.datasets.rehearse(datasets.run, self._to.offered(datasets.rows, []))
        # Dimension records come along.
        some = [each for each in found.conflicts if each.kind is not batch.ConflictKind.DIMENSION]
        verdict = contest.judge(datasets, some, self._policy.on_conflict, self._target.additions)
        self._done.replaced_ids.update(verdict.left_out)
        self._done.conflicts += verdict.conflicts
        self._done.datasets_replaced += len(verdict.replacing)
        self._going.update(verdict.replacing.values())
        return verdict

    def _compare_files(self, lacking: Sequence[file_placement.Planned]) -> None:
        """Note files in whose places there are others."""
        known = {(each.store.name, each.path): each for each in lacking if each.path}
        planned = list(known.values())
        root = self._config.datastores[0].root
        taken: list[file_placement.Planned] = []
        if self._target is not None or uris.is_remote(root) or local_files.is_directory(root):
            there = self._to.placement.in_place(planned)
            taken = [each for each, is_there in zip(planned, there, strict=True) if is_there]
        found = self._to.placement.own_conflicts(planned)
        if taken:
            found |= self._to.placement.conflicts(taken, {each.record.dataset_id for each in lacking})
        for conflict in found.values():
            if conflict.kind != "C12" or not self._policy.overwrite_orphans:
                self._done.conflicts.append(conflict)

    def _tell(
        self,
        datasets: bundle.Datasets,
        presence: additions.Presence,
        left_out: set[str],
        gone: set[str],
        conflicting: set[str | None],
    ) -> None:
        """Tell what becomes of each dataset, by run and type."""
        with_record = {record.dataset_id for record in datasets.files}
        for row in datasets.rows:
            if row.id in conflicting:
                fate = "conflicting"
            elif row.id in presence.runs:
                fate = "present"
            else:
                fate = "left out" if row.id in left_out else "added"
            self._done.meet(datasets.run, row.dataset_type, fate)
            if row.id not in with_record:
                self._done.meet(datasets.run, row.dataset_type, "without record")
            if row.id in gone:
                self._done.meet(datasets.run, row.dataset_type, "without file")

    def _count(self, datasets: bundle.Datasets, presence: additions.Presence, left_out: set[str]) -> None:
        numbers: dict[str, int] = {}
        for row in datasets.rows:
            if row.id in presence.runs:
                self._done.datasets_present += 1
            elif row.id in left_out:
                self._done.datasets_skipped += 1
            else:
                numbers[row.dataset_type] = numbers.get(row.dataset_type, 0) + 1
        for name, number in numbers.items():
            self._done.count(datasets.run, name, number)
            self._done.datasets_added += number
        self._done.count_without_file(datasets)

    def _take_associations(self, associations: bundle.Associations) -> None:
        rows = [row for row in associations.rows if row.dataset_id not in self._done.replaced_ids]
        for name, some in repository_target.by_type(rows).items():
            kind = self._to.kinds.get(name)
            if self._target is None or kind is None:
                self._done.associations_added += len(some)
                continue
            comparison = self._target.additions.compare_members(
                associations.collection,
                kind,
                some,
                newest=self._policy.on_tag_conflict == transfer_policies.NEWEST,
            )
            # A dataset that goes leaves its place to others.
            staying = [pair for pair in comparison.contradicted if pair[1] not in self._going]
            self._done.conflicts += repository_target.association_conflicts(
                associations, staying, self._policy
            )
            self._done.associations_added += len(some) - comparison.n_present - len(staying)
            self._done.associations_skipped += len(staying)
            self._done.associations_present += comparison.n_present

    def _take_chain(self, chain: bundle.Chain) -> None:
        self._chains[chain.name] = chain.children
        missing = [name for name in chain.children if name not in self._names]
        if missing:
            self._done.note(
                f"Chain {chain.name}: leaves out {', '.join(missing)}, which are neither selected nor there"
            )
        present = [name for name in self._flat(chain.children) if name in self._collections]
        if self._target is None or chain.name not in self._collections or not present:
            return
        is_kept = self._policy.chains == "keep" and self._target.collections.children(chain.name)
        if not is_kept and chain.name in self._target.collections.members(present):
            text = f"{chain.name}: would contain itself, through {', '.join(present)}"
            self._done.add_conflict("C8", text)

    def _flat(self, names: Sequence[str]) -> list[str]:
        """Return collections with all that the bundle has in them: it may have chains that are new."""
        flat = dict.fromkeys(names)
        for name in names:
            if name in self._chains and name not in self._collections:
                flat |= dict.fromkeys(self._flat(self._chains[name]))
        return list(flat)
