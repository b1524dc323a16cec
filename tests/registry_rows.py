"""Databases of the sample run, and what is to be ingested into them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from butler import batch, registry

RUN = "u/sample/run1"
NEW = f"0190{0:027x}"
"""Ids of new datasets, but for the last digit."""

CHAIN = "u/sample"
INPUTS = ["in/all"]
STORE = ("file_datastore_records", "FileDatastore@<butlerRoot>")
FORMATTER = "lsst.daf.butler.formatters.json.JsonFormatter"


def open_file(path: pathlib.Path, **options: Any) -> registry.Registry:
    """Open a SQLite file for writing, unless told otherwise."""
    return registry.open_registry(f"sqlite:///{path}", None, **{"writeable": True, **options})


def query(path: pathlib.Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a SQLite file without any code of ours."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def execute(path: pathlib.Path, *statements: str) -> None:
    """Change a SQLite file without any code of ours."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for sql in statements:
            connection.execute(sql)


def schema(path: pathlib.Path) -> dict[str, str]:
    """Return the definitions of all tables and indices by name."""
    return dict(query(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def content(path: pathlib.Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the sorted rows of all tables, without the dates of ingest."""
    found = {}
    for (table,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        columns = "id, dataset_type_id, run_id" if table == "dataset" else "*"
        found[table] = sorted(query(path, f'SELECT {columns} FROM "{table}"'), key=repr)
    return found


def register_outputs(opened: registry.Registry, after: pathlib.Path) -> None:
    """Register what the aggregation of the sample registers, in the reference's order."""
    definitions: dict[int, list[str]] = {}
    for key, name in query(after, "SELECT * FROM dimension_graph_definition"):
        definitions.setdefault(key, []).append(name)
    types = "SELECT name, storage_class, dimensions_key FROM dataset_type WHERE id > 2 ORDER BY id"
    for name, storage_class, key in query(after, types):
        opened.register_dataset_type(name, storage_class, definitions.get(key, []))
    opened.register_run(RUN)
    opened.update_output_chain(CHAIN, RUN, INPUTS)


def outputs(opened: registry.Registry, after: pathlib.Path) -> batch.Batch:
    """Return all that the reference has ingested into the sample's output run."""
    datasets: list[batch.Dataset] = []
    join = "dataset d JOIN dataset_type t ON t.id = d.dataset_type_id"
    names = f"SELECT DISTINCT t.name FROM {join} WHERE run_id = 3"
    for (name,) in query(after, names):
        row = opened.dataset_type(name)
        columns = ", ".join(("dataset_id", *row.required))
        condition = f"collection_id = 3 AND dataset_type_id = {row.id}"
        for dataset_id, *values in query(after, f"SELECT {columns} FROM {row.tag_table} WHERE {condition}"):
            datasets.append((dataset_id, row, tuple(values)))
    columns = "dataset_id, path, formatter, storage_class"
    files = query(after, f"SELECT {columns} FROM file_datastore_records WHERE path LIKE '{RUN}/%'")
    return batch.Batch(datasets[::-1], [(*STORE, *file, None) for file in files])


def make(row: Any, values: tuple[batch.Value, ...], dataset_id: str) -> tuple[batch.Dataset, batch.File]:
    """Make a dataset and its file."""
    path = f"{row.name}/{dataset_id}.json"
    return (dataset_id, row, values), (*STORE, dataset_id, path, FORMATTER, row.storage_class, None)


def join(*pairs: tuple[batch.Dataset, batch.File]) -> batch.Batch:
    """Make a batch of datasets with their files."""
    return batch.Batch([dataset for dataset, _ in pairs], [file for _, file in pairs])


@dataclasses.dataclass(frozen=True)
class Target:
    """A copy of the sample's database in which everything is registered, and what to ingest."""

    path: pathlib.Path
    after: pathlib.Path
    registry: registry.Registry
    offered: batch.Batch

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(query(self.path, f"SELECT count(*) FROM {table}")[0][0])

    def image(self, dataset_id: str, detector: int, visit: int) -> tuple[batch.Dataset, batch.File]:
        """Make a ``clean_image`` and its file."""
        return make(self.registry.dataset_type("clean_image"), ("SampleCam", detector, visit), dataset_id)


@contextlib.contextmanager
def open_target(root: pathlib.Path) -> Iterator[Target]:
    """Register everything in the unpacked sample."""
    path, after = root / "repo" / "gen3.sqlite3", root / "after_aggregate.sqlite3"
    with open_file(path) as opened:
        register_outputs(opened, after)
        yield Target(path, after, opened, outputs(opened, after))
