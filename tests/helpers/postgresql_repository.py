"""Repositories in PostgreSQL databases: what a SQLite file holds, in tables made by the reference."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import tempfile
from typing import Any

import lsst.pipe.base.tests.mocks  # noqa: F401  (makes the reference accept mock storage classes)
import psycopg.sql
from lsst.daf.butler import Butler, Config, DatasetType
from psycopg.types.range import Int8Range

from tests.helpers import databases, postgresql_server

NAMESPACE = "ns1"
"""Schema of the tables, unless a test wants another one."""

UNBOUNDED = (0, 4102444800000000000)
"""Begin and end of an unbounded timespan in SQLite."""


def make(server: postgresql_server.Server, namespace: str = NAMESPACE) -> databases.Postgresql:
    """Make an empty repository's database with the reference."""
    place = databases.Postgresql(server, server.create_database(), namespace)
    config = Config()
    config["registry", "db"] = place.url
    config["registry", "namespace"] = namespace
    with tempfile.TemporaryDirectory() as root:
        Butler.makeRepo(root, config=config)
    return place


def load(
    server: postgresql_server.Server, path: pathlib.Path, namespace: str = NAMESPACE
) -> databases.Postgresql:
    """Make a database with the content of a repository's SQLite file.

    Parameters
    ----------
    server
        Where to make it.
    path
        The file; its universe has to be the reference's default.
    namespace
        Schema for the tables.
    """
    place = make(server, namespace)
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source:
        source.row_factory = sqlite3.Row
        _register_dataset_types(place, source)
        with server.connect(place.name, namespace) as target:
            # Without checks of foreign keys the order of tables does not matter.
            target.execute("SET session_replication_role = replica")
            for table, columns in _columns(target, namespace).items():
                _copy_rows(source, target, table, columns)
            _advance_sequences(target, namespace)
    return place


def _register_dataset_types(place: databases.Postgresql, source: sqlite3.Connection) -> None:
    """Make the tables that dataset types need, in the order in which that was done before."""
    groups: dict[int, list[str]] = {}
    for key, name in source.execute("SELECT * FROM dimension_graph_definition"):
        groups.setdefault(key, []).append(name)
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        (root / "butler.yaml").write_text(
            "{datastore: {cls: lsst.daf.butler.datastores.fileDatastore.FileDatastore, root: <butlerRoot>},"
            " registry: {}}"
        )
        place.configure(root)
        with Butler.from_config(str(root), writeable=True) as butler:
            for row in source.execute("SELECT * FROM dataset_type ORDER BY id"):
                dimensions = butler.dimensions.conform(groups.get(row["dimensions_key"], []))
                is_calibration = row["calibration_association_table"] is not None
                kind = DatasetType(
                    row["name"], dimensions, row["storage_class"], isCalibration=is_calibration
                )
                butler.registry.registerDatasetType(kind)


def _columns(target: psycopg.Connection[Any], namespace: str) -> dict[str, dict[str, str]]:
    """Return the types of all columns by table."""
    tables: dict[str, dict[str, str]] = {}
    query = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = %s ORDER BY table_name, ordinal_position"
    )
    for table, column, kind in target.execute(query, (namespace,)):
        tables.setdefault(table, {})[column] = kind
    return tables


def _copy_rows(
    source: sqlite3.Connection, target: psycopg.Connection[Any], table: str, columns: dict[str, str]
) -> None:
    rows = [
        [_convert(row, column, kind) for column, kind in columns.items()]
        for row in source.execute(f'SELECT * FROM "{table}"')
    ]
    target.execute(psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier(table)))
    insert = psycopg.sql.SQL("INSERT INTO {} VALUES ({})").format(
        psycopg.sql.Identifier(table),
        psycopg.sql.SQL(", ").join([psycopg.sql.Placeholder()] * len(columns)),
    )
    with target.cursor() as cursor:
        cursor.executemany(insert, rows)


def _convert(row: sqlite3.Row, column: str, kind: str) -> Any:
    if kind == "int8range":
        begin, end = row[f"{column}_begin"], row[f"{column}_end"]
        if begin is None:
            return None
        bounds = zip((begin, end), UNBOUNDED, strict=True)
        return Int8Range(*(None if value == limit else value for value, limit in bounds))
    if kind == "boolean" and row[column] is not None:
        return bool(row[column])
    return row[column]


def _advance_sequences(target: psycopg.Connection[Any], namespace: str) -> None:
    query = "SELECT sequencename FROM pg_sequences WHERE schemaname = %s"
    for (sequence,) in target.execute(query, (namespace,)).fetchall():
        table, _, column = sequence.partition("_seq_")
        target.execute(
            psycopg.sql.SQL("SELECT setval({}, (SELECT max({}) FROM {}))").format(
                psycopg.sql.Literal(sequence),
                psycopg.sql.Identifier(column),
                psycopg.sql.Identifier(table),
            )
        )
