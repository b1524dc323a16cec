"""The database of a quantum-backed butler: records of the files that its quantum reads and writes.

It is kept in memory. If it is to be a file as well, that has the tables of a repository that are about files,
and which datasets were read and written: shipped from a worker node it tells all that a quantum has to tell.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy
from aggregator.butler import accesses
from aggregator.butler.databases import database, sqlite
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import definitions, file_records
from aggregator.schemas import datastore_records
from aggregator.schemas.execution import quantum_provenance
from aggregator.storage import durable_files, errors, local_files

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
"""Datasets in one statement."""

_TABLE: Final = "qga_provenance"
"""Table of which datasets were read and written; the reference ignores it."""

_CLOSED: Final = "closed"
_DATASTORE: Final = "datastore in "
"""Kinds of its rows besides the sets of datasets: the latter begins the kind of names of datastores, and ends
with the table of their records."""

Row = tuple[str, datastore_records.FileRecord]
"""Name of the datastore, and record."""


class PrivateDatabase:
    """Records of files of one quantum: in memory, and also in a SQLite file if there is to be one.

    Nobody else uses the file as long as it is open.

    Parameters
    ----------
    filename
        The file, which is made; nothing for memory alone.
    dimensions
        Dimensions of the repository.
    datastores
        Table of the file records of each datastore, by its name.

    Raises
    ------
    RefusedError
        If there is a file of that name already.
    """

    def __init__(
        self, filename: str | None, dimensions: universe.Universe, datastores: Mapping[str, str]
    ) -> None:
        self._rows: dict[uuid.UUID, list[Row]] = {}
        self._file = None if filename is None else _File(filename, dimensions, datastores)
        self._is_closed = False

    def close(self) -> None:
        """Close it; a file is complete then."""
        if not self._is_closed and self._file is not None:
            self._file.close()
        self._is_closed = True

    def rows(self, ids: Iterable[uuid.UUID]) -> list[Row]:
        """Return the records of datasets.

        Raises
        ------
        AggregatorError
            If it is closed.
        """
        if self._is_closed:
            raise errors.AggregatorError(
                "The butler is closed: it neither reads nor writes datasets any more."
            )
        return [row for dataset_id in ids for row in self._rows.get(dataset_id, ())]

    def insert(self, rows: Collection[Row]) -> None:
        """Add records, all or none."""
        if self._file is not None:
            self._file.insert(rows)
        for row in rows:
            self._rows.setdefault(row[1].dataset_id, []).append(row)

    def delete(self, ids: Collection[uuid.UUID]) -> None:
        """Remove the records of datasets, all or none."""
        if self._file is not None:
            self._file.delete(ids)
        for dataset_id in ids:
            self._rows.pop(dataset_id, None)

    def add(self, kind: str, ids: Collection[uuid.UUID]) -> None:
        """Note datasets that come into a set (see `accesses.Journal`)."""
        if self._file is not None:
            self._file.note(True, kind, [dataset_id.hex for dataset_id in ids])

    def remove(self, kind: str, ids: Collection[uuid.UUID]) -> None:
        """Note datasets that leave a set."""
        if self._file is not None:
            self._file.note(False, kind, [dataset_id.hex for dataset_id in ids])


class _File:
    """The SQLite file."""

    def __init__(self, filename: str, dimensions: universe.Universe, datastores: Mapping[str, str]) -> None:
        self._filename = filename
        self._pending: list[tuple[bool, str, str]] = []
        if local_files.is_taken(filename):
            raise errors.RefusedError(f"{filename}: is there already; give another name, or remove it.")
        self._db = sqlite.Sqlite(
            filename, writeable=True, create=True, busy_timeout_ms=sqlite.BUSY_TIMEOUT_MS
        )
        for name, table in datastores.items():
            self.note(True, _DATASTORE + table, [name])
        self._tables = _Tables(self._db, dimensions, datastores)
        self._db.write(self._tables.create)

    def close(self) -> None:
        self.note(True, _CLOSED, [""])
        try:
            self._write(lambda _: None)
        finally:
            self._db.close()
        with durable_files.writing(self._filename):
            durable_files.sync_directory(os.path.dirname(self._filename) or os.curdir)

    def insert(self, rows: Collection[Row]) -> None:
        self._write(lambda connection: self._tables.insert(connection, rows))

    def delete(self, ids: Collection[uuid.UUID]) -> None:
        self._write(lambda connection: self._tables.delete(connection, ids))

    def note(self, is_in: bool, kind: str, keys: Iterable[str]) -> None:
        # Written with the next record, or at the end: a transaction would take longer than the look.
        self._pending += [(is_in, kind, key) for key in keys]

    def _write(self, work: Callable[[sqlalchemy.Connection], object]) -> None:
        def whole(connection: sqlalchemy.Connection) -> None:
            self._tables.note(connection, self._pending)
            work(connection)

        self._db.write(whole)
        self._pending.clear()


class _Tables(definitions.Definitions):
    """The tables, which are those of a repository but for the last."""

    def __init__(
        self, db: database.Database, dimensions: universe.Universe, datastores: Mapping[str, str]
    ) -> None:
        super().__init__(db, dimensions)
        self.datastores = datastores
        self.opaque = self.define("opaque_meta", [definitions.text("table_name", primary_key=True)])
        self.location = self.define(
            "dataset_location",
            [definitions.text("datastore_name", primary_key=True), self.uuid("dataset_id", primary_key=True)],
        )
        self.define(
            "dataset_location_trash",
            [self.uuid("dataset_id", primary_key=True), definitions.text("datastore_name", primary_key=True)],
        )
        self.records = {name: file_records.table(self, name) for name in set(datastores.values())}
        self.provenance = self.define(
            _TABLE,
            [definitions.text("kind", primary_key=True), definitions.text("dataset_id", primary_key=True)],
        )

    def create(self, connection: sqlalchemy.Connection) -> None:
        self.metadata.create_all(connection, checkfirst=False)
        connection.execute(self.opaque.insert(), [{"table_name": name} for name in self.records])

    def note(self, connection: sqlalchemy.Connection, changes: Iterable[tuple[bool, str, str]]) -> None:
        table = self.provenance
        for is_in, kind, key in changes:
            if is_in:
                connection.execute(self.db.insert_or_ignore(table), {"kind": kind, "dataset_id": key})
            else:
                connection.execute(table.delete().where(table.c.kind == kind, table.c.dataset_id == key))

    def rows(self, connection: sqlalchemy.Connection, ids: Collection[uuid.UUID]) -> Iterator[Row]:
        for digits in _portions(ids):
            for datastore, name in self.datastores.items():
                table, location = self.records[name], self.location
                query = (
                    table.select()
                    .join(location, location.c.dataset_id == table.c.dataset_id)
                    .where(table.c.dataset_id.in_(digits), location.c.datastore_name == datastore)
                )
                for values in connection.execute(query):
                    yield datastore, _record(name, values)

    def insert(self, connection: sqlalchemy.Connection, rows: Collection[Row]) -> None:
        locations = dict.fromkeys((datastore, record.dataset_id.hex) for datastore, record in rows)
        self.db.insert_rows(connection, self.location, ("datastore_name", "dataset_id"), list(locations))
        for name, table in self.records.items():
            values = [_values(record) for _, record in rows if record.table == name]
            self.db.insert_rows(connection, table, file_records.COLUMNS, values)

    def delete(self, connection: sqlalchemy.Connection, ids: Collection[uuid.UUID]) -> None:
        for digits in _portions(ids):
            for table in (self.location, *self.records.values()):
                connection.execute(table.delete().where(table.c.dataset_id.in_(digits)))


def _portions(ids: Collection[uuid.UUID]) -> Iterator[list[str]]:
    digits = sorted({dataset_id.hex for dataset_id in ids})
    for start in range(0, len(digits), _AT_ONCE):
        yield digits[start : start + _AT_ONCE]


def _values(record: datastore_records.FileRecord) -> tuple[Any, ...]:
    columns = {"dataset_id": record.dataset_id.hex, **datastore_records.columns(record)}
    return tuple(columns[name] for name in file_records.COLUMNS)


def _record(table: str, values: Iterable[Any]) -> datastore_records.FileRecord:
    columns = dict(zip(file_records.COLUMNS, values, strict=True))
    component, size = columns["component"], columns["file_size"]
    return datastore_records.FileRecord(
        dataset_id=uuid.UUID(columns["dataset_id"]),
        path=columns["path"],
        formatter=columns["formatter"],
        storage_class=columns["storage_class"],
        component=None if component == datastore_records.NO_COMPONENT else component,
        checksum=columns["checksum"],
        file_size=datastore_records.UNKNOWN_SIZE if size is None else size,
        table=table,
    )


def read(filename: str, dimensions: universe.Universe) -> quantum_provenance.QuantumProvenance:
    """Return what the database file of a quantum-backed butler tells, wherever it was made.

    Parameters
    ----------
    filename
        The file.
    dimensions
        Dimensions of the repository.

    Raises
    ------
    RefusedError
        If there is no such file, or it is another kind of file.
    FormatError
        If it is damaged.
    """
    with contextlib.closing(
        sqlite.Sqlite(filename, writeable=False, busy_timeout_ms=sqlite.BUSY_TIMEOUT_MS)
    ) as db:
        try:
            return db.read(lambda connection: _read(db, connection, filename, dimensions))
        except (ValueError, LookupError) as exc:
            raise errors.FormatError(filename, "", f"is damaged ({exc})") from exc


def _read(
    db: database.Database, connection: sqlalchemy.Connection, filename: str, dimensions: universe.Universe
) -> quantum_provenance.QuantumProvenance:
    if not sqlalchemy.inspect(connection).has_table(_TABLE):
        raise errors.RefusedError(f"{filename}: is not the database of a quantum-backed butler.")
    keys: dict[str, list[str]] = {}
    for kind, key in connection.execute(sqlalchemy.text(f"SELECT kind, dataset_id FROM {_TABLE}")):
        keys.setdefault(kind, []).append(key)
    if _CLOSED not in keys:
        _log.warning(
            "%s: the process that wrote it has ended before the butler was closed. What it says of outputs "
            "is true; which inputs were there may be incomplete.",
            filename,
        )
    sets = {kind: frozenset(map(uuid.UUID, keys.get(kind, ()))) for kind in quantum_provenance.SETS}
    datastores = {
        name: kind.removeprefix(_DATASTORE)
        for kind, names in keys.items()
        if kind.startswith(_DATASTORE)
        for name in names
    }
    # Records of inputs are in the same tables.
    rows = list(_Tables(db, dimensions, datastores).rows(connection, sets[accesses.ACTUAL_OUTPUTS]))
    return quantum_provenance.QuantumProvenance(**sets, datastore_records=by_datastore(datastores, rows))


def by_datastore(
    names: Iterable[str], rows: Iterable[Row]
) -> dict[str, frozenset[datastore_records.FileRecord]]:
    """Return records by datastore, each of some datastores with those that it has."""
    records: dict[str, set[datastore_records.FileRecord]] = {name: set() for name in names}
    for name, record in rows:
        records[name].add(record)
    return {name: frozenset(each) for name, each in records.items()}
