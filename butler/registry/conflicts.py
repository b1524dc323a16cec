"""What of a batch is in the repository already, and what contradicts it.

The batch is laid into temporary tables and joined with the repository's, inside the transaction that is
going to write, so no statement grows with the batch. Each statement sees what was committed before it began,
so that rows of another process may come in between two of them, and look like half of a dataset.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy
from aggregator.butler.registry import associations, batch, definitions, tables


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """The batch, sorted out."""

    new: batch.Batch
    """What can be inserted."""

    n_skipped: int
    """Datasets that are in the run already."""

    conflicts: tuple[batch.Conflict, ...]
    """Datasets that can't be inserted, sorted by id."""

    @property
    def result(self) -> batch.IngestResult:
        """What comes of the batch if what is new is inserted."""
        return batch.IngestResult(len(self.new.datasets), self.n_skipped, self.conflicts)


def examine(
    registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int, offered: batch.Batch
) -> Findings:
    """Compare a batch with the repository.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a writing transaction.
    run_id
        Key of the RUN collection that the batch belongs to.
    offered
        The batch.
    """
    suspects: set[str] = set()
    while True:
        examination = _Examination(registry, connection, run_id, offered)
        examination.compare_tags()
        examination.compare_records()
        examination.compare_with_each_other()
        # What was half there in one look is there as a whole in the next, or it contradicts the batch indeed.
        if examination.conflicts.keys() <= suspects:
            return examination.findings()
        suspects = set(examination.conflicts)


class _Examination:
    """Sorts the datasets of a batch into new, skipped and conflicting ones."""

    def __init__(
        self, registry: tables.Tables, connection: sqlalchemy.Connection, run_id: int, offered: batch.Batch
    ) -> None:
        self.registry = registry
        self.connection = connection
        self.run_id = run_id
        self.offered = offered
        self.existing: set[str] = set()
        self.conflicts: dict[str, batch.Conflict] = {}
        self.twice: list[batch.Conflict] = []
        self.datasets: dict[str, batch.Dataset] = {}
        for dataset in offered.datasets:
            first = self.datasets.setdefault(dataset[0], dataset)
            if first != dataset:
                reason = f"the same batch has a {first[1].name} with this id"
                self.twice.append(batch.conflict(dataset, batch.ConflictKind.ID, reason))

    def add(
        self, dataset_id: str, kind: batch.ConflictKind, reason: str, other_id: str | None = None
    ) -> None:
        """Note a conflict, unless a more basic one is known."""
        if dataset_id not in self.conflicts:
            dataset = self.datasets[dataset_id]
            self.conflicts[dataset_id] = batch.conflict(dataset, kind, reason, other_id)

    def compare_tags(self) -> None:
        """Find datasets that exist, data IDs that are taken, and dimension records that are missing."""
        groups: dict[str, list[tuple[Any, ...]]] = {}
        required: dict[str, tuple[str, ...]] = {}
        for dataset_id, dataset_type, values in self.datasets.values():
            required[dataset_type.tag_table] = dataset_type.required
            groups.setdefault(dataset_type.tag_table, []).append((dataset_id, dataset_type.id, *values))
        for name, rows in groups.items():
            tags = associations.tags(self.registry, name, required[name])
            columns = [
                sqlalchemy.Column("dataset_id", self.registry.db.uuid_type),
                definitions.integer("dataset_type_id"),
                *(self.registry.key_column(dimension, dimension) for dimension in required[name]),
            ]
            with self.registry.db.staged(self.connection, columns, rows) as stage:
                self._find_ids(stage, tags, required[name])
                self._find_data_ids(stage, tags, required[name])
                for dimension in required[name]:
                    if self.registry.universe.has_table(dimension):
                        self._find_missing_records(stage, dimension)

    def _find_ids(self, stage: sqlalchemy.Table, tags: sqlalchemy.Table, required: Sequence[str]) -> None:
        dataset, dataset_type = self.registry.dataset, self.registry.dataset_type
        collection = self.registry.collection
        query = (
            sqlalchemy.select(
                stage.c.dataset_id,
                dataset_type.c.name,
                collection.c.name,
                (dataset_type.c.id == stage.c.dataset_type_id) & (dataset.c.run_id == self.run_id),
                sqlalchemy.and_(sqlalchemy.true(), *(tags.c[name] == stage.c[name] for name in required)),
            )
            .join(dataset, dataset.c.id == stage.c.dataset_id)
            .join(dataset_type, dataset_type.c.id == dataset.c.dataset_type_id)
            .join(collection, collection.c.collection_id == dataset.c.run_id)
            .outerjoin(
                tags, (tags.c.dataset_id == stage.c.dataset_id) & (tags.c.collection_id == self.run_id)
            )
        )
        for dataset_id, type_name, run, same, same_data_id in self.connection.execute(query):
            if same and same_data_id:
                self.existing.add(dataset_id)
            else:
                what = f"another data ID in run {run}" if same else f"run {run}"
                reason = f"the repository has a {type_name} with this id, of {what}"
                self.add(dataset_id, batch.ConflictKind.ID, reason)

    def _find_data_ids(
        self, stage: sqlalchemy.Table, tags: sqlalchemy.Table, required: Sequence[str]
    ) -> None:
        query = sqlalchemy.select(stage.c.dataset_id, tags.c.dataset_id).join(
            tags,
            sqlalchemy.and_(
                tags.c.dataset_type_id == stage.c.dataset_type_id,
                tags.c.collection_id == self.run_id,
                *(tags.c[name] == stage.c[name] for name in required),
                tags.c.dataset_id != stage.c.dataset_id,
            ),
        )
        for dataset_id, other_id in self.connection.execute(query):
            reason = f"the run has this data ID under id {other_id}"
            self.add(dataset_id, batch.ConflictKind.DATA_ID, reason, other_id)

    def _find_missing_records(self, stage: sqlalchemy.Table, dimension: str) -> None:
        table, keys = self.registry.dimension(dimension), self.registry.universe.required(dimension)
        match = [stage.c[key] == column for key, column in zip(keys, table.primary_key.columns, strict=True)]
        query = (
            sqlalchemy.select(stage.c.dataset_id, *(stage.c[key] for key in keys))
            .outerjoin(table, sqlalchemy.and_(*match))
            .where(table.c[self.registry.universe.primary_key(dimension)].is_(None))
        )
        for dataset_id, *values in self.connection.execute(query):
            data_id = ", ".join(f"{key}={value!r}" for key, value in zip(keys, values, strict=True))
            reason = f"there is no {dimension} record for {data_id}"
            self.add(dataset_id, batch.ConflictKind.DIMENSION, reason)

    def compare_records(self) -> None:
        """Find file records that a deleted dataset has left behind; nothing else can have this id."""
        groups: dict[str, list[tuple[str]]] = {}
        for name, _, dataset_id, *_ in self.offered.files:
            if dataset_id not in self.existing:
                groups.setdefault(name, []).append((dataset_id,))
        for name, rows in groups.items():
            column = sqlalchemy.Column("dataset_id", self.registry.db.uuid_type)
            records = self.registry.records(name)
            with self.registry.db.staged(self.connection, [column], rows) as stage:
                query = sqlalchemy.select(stage.c.dataset_id).join(
                    records, records.c.dataset_id == stage.c.dataset_id
                )
                for (dataset_id,) in self.connection.execute(query):
                    reason = f"table {name} has a file record for this id, though there is no such dataset"
                    self.add(dataset_id, batch.ConflictKind.RECORD, reason)

    def compare_with_each_other(self) -> None:
        """Find data IDs that occur more than once among the datasets that are new."""
        seen: dict[tuple[Any, ...], str] = {}
        for dataset_id in self._new_ids():
            _, dataset_type, values = self.datasets[dataset_id]
            first = seen.setdefault((dataset_type.id, *values), dataset_id)
            if first != dataset_id:
                reason = f"the same batch has this data ID under id {first}"
                self.add(dataset_id, batch.ConflictKind.DATA_ID, reason, first)

    def _new_ids(self) -> Iterable[str]:
        return sorted(self.datasets.keys() - self.existing - self.conflicts.keys())

    def findings(self) -> Findings:
        """Sum up."""
        new = {dataset_id: self.datasets[dataset_id] for dataset_id in self._new_ids()}
        files = {(file[0], file[1], file[2], file[6]): file for file in self.offered.files if file[2] in new}
        conflicts = sorted([*self.conflicts.values(), *self.twice], key=lambda finding: finding.dataset_id)
        return Findings(
            dataclasses.replace(self.offered, datasets=list(new.values()), files=list(files.values())),
            len(self.offered.datasets) - len(new) - len(conflicts),
            tuple(conflicts),
        )
