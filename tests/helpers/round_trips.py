"""Round trips of jobs over hosts that share nothing: packed, unpacked, executed, collected, delivered."""

from __future__ import annotations

import pathlib
import sqlite3
import uuid
from collections.abc import Callable, Collection
from typing import Any

import aggregator


def leave(
    root: pathlib.Path,
    graph: pathlib.Path,
    directory: pathlib.Path,
    quanta: Collection[uuid.UUID] | None,
    execute: Callable[[pathlib.Path], object],
    **options: Any,
) -> pathlib.Path:
    """Pack quanta, execute them in the repository of a node, and return the pack of what they have left.

    Parameters
    ----------
    root, graph
        Repository and predicted graph.
    directory
        Where packs and node go.
    quanta
        Ids of the quanta.
    execute
        Executes what is in the repository of the node.
    **options
        Of `aggregator.collect`.
    """
    directory.mkdir()
    aggregator.pack(root, graph, directory / "job.pack", quanta=quanta)
    aggregator.unpack(directory / "job.pack", directory / "node")
    execute(directory / "node")
    aggregator.collect(directory / "node", directory / "out.pack", **options)
    return directory / "out.pack"


def rows(root: pathlib.Path) -> dict[str, Any]:
    """Return what the database of a repository knows of datasets and files, by id."""
    with sqlite3.connect(root / "gen3.sqlite3") as connection:
        datasets = connection.execute(
            "SELECT d.id, t.name, c.name FROM dataset d JOIN dataset_type t ON t.id = d.dataset_type_id "
            "JOIN collection c ON c.collection_id = d.run_id"
        ).fetchall()
        files = connection.execute(
            "SELECT dataset_id, path, formatter, storage_class, component, file_size "
            "FROM file_datastore_records"
        ).fetchall()
    connection.close()
    return {"datasets": {row[0]: row[1:] for row in datasets}, "files": {row[0]: row[1:] for row in files}}
