"""Databases of the sample run, and what is to be ingested into them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from aggregator.butler.registry import batch, registry

from tests.helpers import databases

RUN = "u/sample/run1"
NEW = f"0190{0:027x}"
"""Ids of new datasets, but for the last digit."""

CHAIN = "u/sample"
INPUTS = ["in/all"]
STORE = ("file_datastore_records", "FileDatastore@<butlerRoot>")
FORMATTER = "lsst.daf.butler.formatters.json.JsonFormatter"


def register_outputs(opened: registry.Registry, after: databases.Database) -> None:
    """Register what the aggregation of the sample registers, in the reference's order."""
    definitions: dict[int, list[str]] = {}
    for key, name in after.query("SELECT * FROM dimension_graph_definition"):
        definitions.setdefault(key, []).append(name)
    types = "SELECT name, storage_class, dimensions_key FROM dataset_type WHERE id > 2 ORDER BY id"
    for name, storage_class, key in after.query(types):
        opened.dataset_types.register(name, storage_class, definitions.get(key, []))
    opened.collections.register_run(RUN)
    opened.collections.update_output_chain(CHAIN, RUN, INPUTS)


def outputs(opened: registry.Registry, after: databases.Database) -> batch.Batch:
    """Return all that the reference has ingested into the sample's output run."""
    datasets: list[batch.Dataset] = []
    join = "dataset d JOIN dataset_type t ON t.id = d.dataset_type_id"
    names = f"SELECT DISTINCT t.name FROM {join} WHERE run_id = 3"
    for (name,) in after.query(names):
        row = opened.dataset_types.row(name)
        columns = ", ".join(("dataset_id", *row.required))
        condition = f"collection_id = 3 AND dataset_type_id = {row.id}"
        for dataset_id, *values in after.query(f"SELECT {columns} FROM {row.tag_table} WHERE {condition}"):
            datasets.append((dataset_id, row, tuple(values)))
    columns = "dataset_id, path, formatter, storage_class"
    files = after.query(f"SELECT {columns} FROM file_datastore_records WHERE path LIKE '{RUN}/%'")
    return batch.Batch(datasets[::-1], [(*STORE, *file, None) for file in files])


def ids(database: databases.Database, run: str) -> set[str]:
    """Return the ids of a run's datasets."""
    join = "dataset d JOIN collection c ON c.collection_id = d.run_id"
    return {found for (found,) in database.query(f"SELECT d.id FROM {join} WHERE c.name = '{run}'")}


def make(row: Any, values: tuple[batch.Value, ...], dataset_id: str) -> tuple[batch.Dataset, batch.File]:
    """Make a dataset and its file."""
    path = f"{row.name}/{dataset_id}.json"
    return (dataset_id, row, values), (*STORE, dataset_id, path, FORMATTER, row.storage_class, None)


def join(*pairs: tuple[batch.Dataset, batch.File]) -> batch.Batch:
    """Make a batch of datasets with their files."""
    return batch.Batch([dataset for dataset, _ in pairs], [file for _, file in pairs])


def add_visits(database: databases.Database, n: int) -> range:
    """Add visits to the sample; return their numbers."""
    numbers = range(1000, 1000 + n)
    others = ", ".join(column for column in database.columns("visit") if column not in ("id", "name"))
    select = f"SELECT v, 'v' || v, {others} FROM visit, n WHERE id = 101"
    recursion = f"SELECT {numbers[0]} UNION ALL SELECT v + 1 FROM n WHERE v < {numbers[-1]}"
    database.execute(f"WITH RECURSIVE n(v) AS ({recursion}) INSERT INTO visit (id, name, {others}) {select}")
    return numbers


@dataclasses.dataclass(frozen=True)
class Target:
    """A copy of the sample's database in which everything is registered, and what to ingest."""

    database: databases.Database
    after: databases.Database
    registry: registry.Registry
    offered: batch.Batch

    def image(self, dataset_id: str, detector: int, visit: int) -> tuple[batch.Dataset, batch.File]:
        """Make a ``clean_image`` and its file."""
        return make(
            self.registry.dataset_types.row("clean_image"), ("SampleCam", detector, visit), dataset_id
        )


@contextlib.contextmanager
def open_target(before: databases.Database, after: databases.Database) -> Iterator[Target]:
    """Register everything in the sample."""
    with before.open() as opened:
        register_outputs(opened, after)
        yield Target(before, after, opened, outputs(opened, after))
