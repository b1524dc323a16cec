"""Files of datasets as the database knows them (butler-repository.md sections 3 and 8)."""

import sqlalchemy
from aggregator.butler.registry import batch, tables


def of_type(
    registry: tables.Tables,
    connection: sqlalchemy.Connection,
    dataset_type: str,
    datastore: str,
    records_table: str,
) -> list[tuple[str, str, int]]:
    """Return the files of all datasets of a type in a datastore.

    Parameters
    ----------
    registry
        The repository's tables.
    connection
        Connection in a transaction.
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
    query = (
        sqlalchemy.select(run.c.name, records.c.path, records.c.file_size)
        .select_from(dataset)
        .join(kind, kind.c.id == dataset.c.dataset_type_id)
        .join(run, run.c.collection_id == dataset.c.run_id)
        .join(location, location.c.dataset_id == dataset.c.id)
        .join(records, records.c.dataset_id == dataset.c.id)
        .where(kind.c.name == dataset_type, location.c.datastore_name == datastore)
        .order_by(dataset.c.ingest_date, dataset.c.id)
    )
    return [
        (row.name, row.path, batch.UNKNOWN_SIZE if row.file_size is None else row.file_size)
        for row in connection.execute(query)
    ]
