"""A copy of an aggregated run, whose graph is ingested in processes that may be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import aggregator
from tests.helpers import databases, kills
from tests.helpers.oracle import compare, runs


@dataclasses.dataclass(slots=True)
class Case:
    """An aggregated run."""

    run: runs.OracleRun
    """The run."""

    graph: pathlib.Path
    """Its provenance graph, outside of the repository."""

    def copy(self, directory: pathlib.Path) -> Case:
        """Return a copy in a new directory."""
        directory.mkdir(parents=True, exist_ok=True)
        graph = directory / "provenance.qg"
        shutil.copy2(self.graph, graph)
        return Case(runs.copy_run(self.run, directory / "repo"), graph)

    @property
    def target(self) -> pathlib.Path:
        """Where the graph goes in the repository."""
        name = self.run.run.replace("/", "_").replace(".", "_")
        return self.run.root / self.run.run / "run_provenance" / f"run_provenance_{name}.qg"

    def ingest(self, given: bool = True, **options: Any) -> Any:
        """Ingest the graph in this process."""
        if not given:
            options.setdefault("output_run", self.run.run)
        return aggregator.ingest_graph(self.run.root, self.graph if given else None, **options)

    def start(
        self, *options: str, given: bool = True, stop_at: str = "", marker: pathlib.Path | None = None
    ) -> Any:
        """Start the ingestion in a session of its own, with the graph or else as the options say."""
        return kills.start(self._arguments(options, given), stop_at, marker)

    def finish(self, *options: str, given: bool = True) -> None:
        """Ingest to the end in this process, by the command."""
        kills.finish_here(self._arguments(options, given))

    def _arguments(self, options: Sequence[str], given: bool) -> list[str]:
        return ["ingest-graph", str(self.run.root), *([str(self.graph)] if given else []), *options]

    def rows(self) -> dict[str, Any]:
        """Return the database; the graph's id, which is another one each time, is called "graph"."""
        with self._settled() as tables:
            found = compare.database_rows(tables)
        [graph] = [i for i, row in found["dataset"].items() if row["type"] == "run_provenance"] or [""]
        return {table: _renamed(content, graph) for table, content in found.items()}

    @contextlib.contextmanager
    def _settled(self) -> Iterator[databases.Database]:
        """Give the database without what a killed process has not committed.

        SQLite rolls that back at the next access, if it may write. Here a copy is written to, since the
        process that comes next has to manage with what was left.
        """
        if self.run.postgresql is not None:
            yield self.run.postgresql
            return
        with tempfile.TemporaryDirectory() as directory:
            for path in self.run.root.glob(f"{self.run.database.name}*"):
                shutil.copy(path, directory)
            copy = databases.Sqlite(pathlib.Path(directory) / self.run.database.name)
            copy.execute("UPDATE dataset SET id = id WHERE 0")
            yield copy

    def files(self) -> dict[str, int]:
        """Return the sizes of all files of the run, and of the directories that are in no other's place."""
        base = self.run.root / self.run.run
        found = {str(p.relative_to(base)): p.stat().st_size if p.is_file() else -1 for p in base.rglob("*")}
        return dict(sorted(found.items()))

    def content(self) -> Any:
        """Return everything that has to be the same in the end."""
        others = sorted(path.name for path in self.graph.parent.iterdir())
        return self.rows(), self.files(), [name for name in others if not name.startswith("marker")]

    def originals(self) -> list[pathlib.Path]:
        """Return the paths that metadata, logs and configs had."""
        entries = self.run.manifest["quanta"] + self.run.manifest["init"]
        connections = ("_metadata", "_log", "_config")
        found = [path for e in entries for c in connections for _, path in e["outputs"].get(c, ())]
        return [self.run.root / path for path in found]


def keeps_attributes(directory: pathlib.Path) -> bool:
    """Return whether the file system keeps extended attributes, which tell where a graph was."""
    path = directory / "marker-attribute"
    path.touch()
    try:
        os.setxattr(path, "user.test", b"1")
    except OSError:
        return False
    return True


def _renamed(content: Any, graph: str) -> Any:
    if not graph or not isinstance(content, dict | set):
        return content

    def rename(key: Any) -> Any:
        if isinstance(key, tuple):
            return tuple("graph" if part == graph else part for part in key)
        return "graph" if key == graph else key

    if isinstance(content, set):
        return {rename(key) for key in content}
    return {rename(key): value for key, value in content.items()}


def without_differences(rows: dict[str, Any], empty: list[str]) -> dict[str, Any]:
    """Return what the reference's ingestion leaves as ours leaves it, given the logs that hold nothing."""
    types = {name: row["storage_class"] for name, row in rows["dataset_type"].items()}
    datasets = {i: row for i, row in rows["dataset"].items() if i not in empty}
    records = {
        key: {**row, "storage_class": types[datasets[key[0]]["type"]]}
        if row["formatter"].endswith(".ProvenanceFormatter")
        else row
        for key, row in rows["file_datastore_records"].items()
        if key[0] not in empty
    }
    return {
        **rows,
        "dataset": datasets,
        "dataset_tags": {k: v for k, v in rows["dataset_tags"].items() if k[0] not in empty},
        "dataset_location": {row for row in rows["dataset_location"] if row[1] not in empty},
        "file_datastore_records": records,
    }


def aggregate(run: runs.OracleRun, directory: pathlib.Path) -> Case:
    """Return a copy of a run, aggregated."""
    case = Case(runs.copy_run(run, directory / "repo"), directory / "provenance.qg")
    config = aggregator.AggregatorConfig(output_path=str(case.graph), mock_storage_classes=True)
    aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), config)
    return case
