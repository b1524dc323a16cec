"""Files of datasets as the database knows them (butler-repository.md sections 3 and 8)."""

from typing import Any

import sqlalchemy
from aggregator.butler.registry import tables


def of_type(
    registry: tables.Tables, dataset_type: str, datastore: str, records_table: str
) -> sqlalchemy.Select[*tuple[Any, ...]]:
    """Make the query for run, path and size of the files of all datasets of a type, oldest dataset first.

    Parameters
    ----------
    registry
        The repository's tables.
    dataset_type
        Name of the dataset type; there need not be one.
    datastore
        Name of the datastore.
    records_table
        The datastore's table of file records.
    """
    dataset, kind, run, location = (
        registry.dataset, registry.dataset_type, registry.collection, registry.location,
    )  # fmt: skip
    records = sqlalchemy.table(
        records_table,
        sqlalchemy.column("dataset_id", registry.db.uuid_type),
        sqlalchemy.column("path", sqlalchemy.Text()),
        sqlalchemy.column("file_size", sqlalchemy.BigInteger()),
        schema=registry.db.namespace,
    )
    return (
        sqlalchemy.select(run.c.name, records.c.path, records.c.file_size)
        .select_from(dataset)
        .join(kind, kind.c.id == dataset.c.dataset_type_id)
        .join(run, run.c.collection_id == dataset.c.run_id)
        .join(location, location.c.dataset_id == dataset.c.id)
        .join(records, records.c.dataset_id == dataset.c.id)
        .where(kind.c.name == dataset_type, location.c.datastore_name == datastore)
        .order_by(dataset.c.ingest_date, dataset.c.id)
    )
