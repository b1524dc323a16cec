"""Datasets of a repository: which there are, and how they get in and out.

Implements butler-repository.md sections 7 and 8.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.registry import (
    batch,
    collection_rows,
    dataset_files,
    dataset_ids,
    forgetting,
    insertion,
    recorded_graphs,
    tables,
)
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import addresses


class Datasets:
    """The datasets of one repository; each method is a transaction of its own.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry
        self._db = registry.db

    def ingest(
        self,
        run: str,
        offered: batch.Batch,
        *,
        graphs: frozenset[str] = frozenset(),
        backed: bool = False,
        defensive: bool = False,
        replaced: Collection[str] = (),
        records_tables: Collection[str] = (),
    ) -> batch.IngestResult:
        """Write datasets and their files, all rows in one transaction or none.

        Datasets that are in the run already are skipped, with their files. Those that contradict the
        repository are left out and reported; the others are committed.

        Parameters
        ----------
        run
            RUN collection, registered already.
        offered
            The datasets and their files.
        graphs
            Ids of the provenance graphs that the run may hold; none if that is to be the first.
        backed
            Whether these graphs back the datasets, so that the run has to hold them.
        defensive
            Whether to look for existing rows first. Without it plain inserts are tried first, which saves
            a quarter to a third of the time as long as everything is new.
        replaced
            Ids of datasets of the run that go in the same transaction; nothing can be left out then.
        records_tables
            Tables of the file records of these.

        Raises
        ------
        UnknownGraphError
            Raised if the run holds another provenance graph; nothing is written then.
        UnrecordedGraphError
            Raised if it does not hold a graph that backs the datasets; nothing is written then.
        UnregisteredError
            Raised if the run does not exist, or a dataset type has another key; nothing is written then.
        AggregatorError
            Raised if the database fails; nothing is written then.
        """
        insertion.check(offered)
        if not offered.datasets:
            return batch.IngestResult(0, 0, ())
        where = insertion.Destination(run, graphs, backed)
        if replaced:
            return self._db.write(
                lambda connection: insertion.replace(
                    self._tables, connection, where, offered, replaced, records_tables
                ),
                attempts=database.ATTEMPTS,
            )
        if not defensive:
            try:
                return self._db.write(
                    lambda connection: insertion.insert(self._tables, connection, where, offered)
                )
            except database.ConstraintError:
                pass  # The careful way finds out what exists.
        return self._db.write(
            lambda connection: insertion.insert_missing(self._tables, connection, where, offered),
            attempts=database.ATTEMPTS,
        )

    def rehearse(self, run: str, offered: batch.Batch) -> batch.IngestResult:
        """Return what would come of a batch if it were ingested; nothing is written.

        Parameters
        ----------
        run
            RUN collection; it need not exist.
        offered
            The datasets and their files.
        """
        # As a writer, since it takes temporary tables.
        return self._db.write(lambda connection: insertion.rehearse(self._tables, connection, run, offered))

    def forget(
        self,
        run: str,
        ids: Iterable[str],
        kept: Mapping[str, Collection[str]],
        is_changed: forgetting.Judgement | None = None,
    ) -> int:
        """Take datasets out of a run while their files stay, all rows in one transaction or none.

        Parameters
        ----------
        run
            RUN collection; datasets that are not in it are left alone.
        ids
            Ids of the datasets, 32 hexadecimal digits each.
        kept
            By name of each table of file records: paths whose datasets are left alone, too.
        is_changed
            Asked about all other datasets with a recorded size; those whose files are changed are left alone.

        Returns
        -------
        count
            Number of datasets that were there, and are not any more.

        Raises
        ------
        AggregatorError
            If the run does not exist, or the database fails; nothing is deleted then.
        """
        given = list(ids)
        if not given:
            return 0
        return self._db.write(
            lambda connection: forgetting.forget(self._tables, connection, run, given, kept, is_changed)
        )

    def has_any(self, run: str) -> bool:
        """Return whether a run holds anything."""
        return self._db.read(lambda connection: dataset_ids.has_any(self._tables, connection, run))

    def graphs(self, run: str) -> frozenset[str]:
        """Return the ids of the provenance graphs that a run holds; none if there is no such run."""

        def look(connection: sqlalchemy.Connection) -> frozenset[str]:
            row = collection_rows.CollectionRows(self._tables, connection).find(run)
            return frozenset() if row is None else recorded_graphs.ids(self._tables, connection, row.id)

        return self._db.read(look)

    def files(self, dataset_type: str, datastore: str, records_table: str) -> Iterator[tuple[str, str, int]]:
        """Iterate over the files of all datasets of a type in a datastore (see `Database.rows`).

        Parameters
        ----------
        dataset_type
            Name of the dataset type; there need not be one.
        datastore
            Name of the datastore.
        records_table
            The datastore's table of file records.

        Returns
        -------
        files
            RUN collection, path and size of each file, oldest dataset first. Paths are relative to the
            datastore's root, absolute, or URIs; sizes are in bytes, negative if unknown.
        """
        query = dataset_files.of_type(self._tables, dataset_type, datastore, records_table)
        for run, path, size in self._db.rows(query):
            yield run, path, datastore_records.UNKNOWN_SIZE if size is None else size

    def ids(self, run: str) -> addresses.Ids:
        """Return the ids of all datasets in a run, sorted, shape (n,); they take 16 bytes of memory each."""
        return self._db.read(lambda connection: dataset_ids.of_run(self._tables, connection, run))

    def backed_ids(self, run: str, records_table: str, path: str) -> addresses.Ids:
        """Return those datasets of a run whose file record has a given path; otherwise like `ids`."""
        return self._db.read(
            lambda connection: dataset_ids.backed_by(self._tables, connection, run, records_table, path)
        )

    def some_backed_ids(self, ids: Collection[str], records_table: str, path: str) -> set[str]:
        """Return those of some ids whose datasets have a file record with a given path."""
        return self._db.write(
            lambda connection: dataset_ids.some_backed_by(self._tables, connection, ids, records_table, path)
        )
