"""Everything in a repository's database, in a form in which two databases of one kind can be compared."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

from tests.helpers import databases

Rows = dict[str, Any]

KNOWN = {
    "collection",
    "collection_chain",
    "run",
    "dataset",
    "dataset_type",
    "dimension_graph_key",
    "dimension_graph_definition",
    "dataset_location",
    "dataset_location_trash",
    "opaque_meta",
}


class _Database:
    """A database, with the names behind its surrogate keys."""

    def __init__(self, source: databases.Database) -> None:
        self.source = source
        self.all = source.query
        self.tables = source.tables()
        self.collections = dict(self.all("SELECT collection_id, name FROM collection"))
        self.types = dict(self.all("SELECT id, name FROM dataset_type"))
        self.groups: dict[int, tuple[str, ...]] = {0: ()}
        self.groups.update((key, ()) for (key,) in self.all("SELECT id FROM dimension_graph_key"))
        for key, name in self.all("SELECT * FROM dimension_graph_definition ORDER BY dimension_name"):
            self.groups[key] = (*self.groups[key], name)

    def mappings(self, table: str) -> list[dict[str, Any]]:
        names = self.source.columns(table)
        return [dict(zip(names, row, strict=True)) for row in self.all(f'SELECT * FROM "{table}"')]

    def general_name(self, table: str) -> str:
        """Return the name of a table with its dimensions in place of their surrogate key."""
        for prefix in ("dataset_tags_", "dataset_calibs_"):
            if table.startswith(prefix):
                dimensions = ",".join(self.groups[int(table.removeprefix(prefix))])
                return f"{prefix}({dimensions})"
        return table

    def collection_rows(self) -> Rows:
        rows = self.mappings("collection_chain")
        chains: dict[str, list[tuple[int, str]]] = {}
        for row in sorted(rows, key=lambda row: (row["parent"], row["position"])):
            child = (row["position"], self.collections[row["child"]])
            chains.setdefault(self.collections[row["parent"]], []).append(child)
        runs = {self.collections[row.pop("collection_id")]: row for row in self.mappings("run")}
        collections = {row["name"]: (row["type"], row["doc"]) for row in self.mappings("collection")}
        return {"collection": collections, "collection_chain": chains, "run": runs}

    def type_rows(self) -> Rows:
        types = {}
        for row in self.mappings("dataset_type"):
            calibrations = row["calibration_association_table"]
            types[row["name"]] = {
                "storage_class": row["storage_class"],
                "dimensions": self.groups[row["dimensions_key"]],
                "tags": self.general_name(row["tag_association_table"]),
                "calibrations": calibrations and self.general_name(calibrations),
            }
        return {"dataset_type": types, "dimension_graph": set(self.groups.values())}

    def dataset_rows(self) -> Rows:
        datasets, tags = {}, {}
        for row in self.mappings("dataset"):
            kind, run = self.types[row["dataset_type_id"]], self.collections[row["run_id"]]
            dated = isinstance(row["ingest_date"], int) and row["ingest_date"] > 1_500_000_000 * 10**9
            datasets[_id(row["id"])] = {"type": kind, "run": run, "has_ingest_date": dated}
        for table in self.tables:
            if not table.startswith("dataset_tags_"):
                continue
            for row in self.mappings(table):
                key = (_id(row.pop("dataset_id")), self.collections[row.pop("collection_id")])
                assert key not in tags, f"{key} is tagged twice"
                kind = self.types[row.pop("dataset_type_id")]
                tags[key] = {"table": self.general_name(table), "type": kind, "data_id": row}
        return {"dataset": datasets, "dataset_tags": tags}

    def summary_rows(self) -> Rows:
        result = {}
        for table in self.tables:
            if table.startswith("collection_summary_"):
                rows = self.mappings(table)
                for row in rows:
                    row["collection_id"] = self.collections[row["collection_id"]]
                    if "dataset_type_id" in row:
                        row["dataset_type_id"] = self.types[row["dataset_type_id"]]
                result[table] = {tuple(row.values()) for row in rows}
        return result

    def datastore_rows(self) -> Rows:
        result: Rows = {"opaque_meta": {name for (name,) in self.all("SELECT table_name FROM opaque_meta")}}
        for table in ("dataset_location", "dataset_location_trash"):
            result[table] = {(row["datastore_name"], _id(row["dataset_id"])) for row in self.mappings(table)}
        for table in sorted(result["opaque_meta"] & set(self.tables)):
            rows = self.mappings(table)
            result[table] = {(_id(row.pop("dataset_id")), row.pop("component")): row for row in rows}
        return result

    def other_rows(self, done: set[str]) -> Rows:
        """Return the rows of the tables that nobody should have touched."""
        others = [
            t for t in self.tables if t not in done | KNOWN and not t.startswith(("dataset_tags_", "sqlite_"))
        ]
        return {table: set(self.all(f'SELECT * FROM "{table}"')) for table in others}

    def schema(self) -> Rows:
        """Return columns, keys, constraints and indices of all tables, without the names of the latter."""
        described = _describe_sqlite if isinstance(self.source, databases.Sqlite) else _describe_postgresql
        return {self.general_name(table): described(self, table) for table in self.tables}


def _describe_sqlite(database: _Database, table: str) -> Rows:
    fields = 'name, type, "notnull", dflt_value, pk'
    columns = database.all(f'SELECT {fields} FROM pragma_table_info("{table}")')
    fields = 'id, "table", "from", "to", on_update, on_delete'
    keys: dict[int, list[tuple[Any, ...]]] = {}
    for key, target, *rest in database.all(f'SELECT {fields} FROM pragma_foreign_key_list("{table}")'):
        keys.setdefault(key, []).append((database.general_name(target), *rest))
    indices = set()
    for name, unique in database.all(f'SELECT name, "unique" FROM pragma_index_list("{table}")'):
        parts = database.all(f'SELECT name FROM pragma_index_info("{name}")')
        indices.add((unique, tuple(part for (part,) in parts)))
    return {
        "columns": columns,
        "foreign_keys": {tuple(sorted(key)) for key in keys.values()},
        "indices": indices,
    }


def _describe_postgresql(database: _Database, table: str) -> Rows:
    fields = "column_name, data_type, character_maximum_length, is_nullable, column_default"
    where = f"table_schema = current_schema() AND table_name = '{table}'"
    columns = f"SELECT {fields} FROM information_schema.columns WHERE {where} ORDER BY ordinal_position"
    constraints = f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{table}'::regclass"
    indices = (
        "SELECT indisunique, substring(pg_get_indexdef(indexrelid) from 'USING.*') FROM pg_index "
        f"WHERE indrelid = '{table}'::regclass"
    )
    sequences = f"SELECT 1 FROM pg_sequences WHERE sequencename LIKE '{table}_seq_%'"
    return {
        "columns": database.all(columns),
        "constraints": set(database.all(constraints)),
        "indices": set(database.all(indices)),
        "sequences": len(database.all(sequences)),
    }


def rows(source: pathlib.Path | databases.Database) -> Rows:
    """Return all tables and the schema of a database, with names instead of surrogate keys.

    Parameters
    ----------
    source
        The database, a SQLite file, or a repository with a ``gen3.sqlite3``.

    Returns
    -------
    rows
        Content by table (all tags tables together as ``dataset_tags``), and ``schema``.  Ingest dates are
        left out, but must be there.
    """
    if isinstance(source, pathlib.Path):
        source = databases.Sqlite(source / "gen3.sqlite3" if source.is_dir() else source)
    with source.reading() as connected:
        database = _Database(connected)
        result = {
            **database.collection_rows(),
            **database.type_rows(),
            **database.dataset_rows(),
            **database.summary_rows(),
            **database.datastore_rows(),
        }
        result.update(database.other_rows(set(result)))
        result["schema"] = database.schema()
    return result


def _id(text: str) -> str:
    return str(uuid.UUID(hex=text))
