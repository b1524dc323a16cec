"""A fail-over to a server that lags behind, or a restored backup, while a graph is ingested."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.butler.registry import ingested_datasets
from aggregator.storage import fault_points

import aggregator
from tests.helpers import databases, graph_ingestion_case, kills, thinning
from tests.helpers.oracle import runs

Case = graph_ingestion_case.Case


@contextlib.contextmanager
def backup(case: Case, directory: pathlib.Path) -> Iterator[Callable[[], None]]:
    """Make a backup of the database; give a function that makes it the database, whoever is using that."""
    if case.run.postgresql is None:
        path = directory / "backup.sqlite3"
        copy_sqlite(case.run.database, path)
        yield lambda: copy_sqlite(path, case.run.database)
        return
    copy = case.run.postgresql.copy()
    replaced = f"{case.run.postgresql.name}_replaced"
    yield lambda: exchange(case.run.postgresql, copy, replaced)
    copy.server.drop_database(replaced)


def copy_sqlite(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy the content of a database into a file that stays the same one."""
    opened = contextlib.closing(sqlite3.connect(source)), contextlib.closing(sqlite3.connect(target))
    with opened[0] as reader, opened[1] as writer:
        reader.backup(writer)


def exchange(database: databases.Postgresql | None, copy: databases.Postgresql, replaced: str) -> None:
    """Give the name of a database to its copy, and end all connections."""
    assert database is not None
    server = database.server
    server.execute(
        "postgres",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'",
        f"ALTER DATABASE {database.name} RENAME TO {replaced}",
        f"ALTER DATABASE {copy.name} RENAME TO {database.name}",
    )


@pytest.fixture
def case(small_template: Case, tmp_path: pathlib.Path) -> Iterator[Case]:
    copy = small_template.copy(tmp_path / "case")
    yield copy
    runs.remove_database(copy.run)


@pytest.fixture
def undisturbed(small_template: Case, tmp_path: pathlib.Path) -> Any:
    copy = small_template.copy(tmp_path / "undisturbed")
    copy.finish("--batch-size", "20")
    content = copy.content()
    runs.remove_database(copy.run)
    return content


@pytest.mark.ordering("O1", "B4", "I2")
@pytest.mark.parametrize("point", ["graph-ingested:1", "committed:1", "committed:3", "deleted:2"])
def test_what_was_lost_is_ingested_again(
    case: Case, undisturbed: Any, tmp_path: pathlib.Path, point: str
) -> None:
    """Files of earlier batches are deleted then, and nothing but the graph has their content."""
    marker = tmp_path / "marker"
    with backup(case, tmp_path) as restore:
        with case.start("--batch-size", "20", stop_at=point, marker=marker) as running:
            kills.wait_for(marker, running)
            restore()
            marker.write_text("")
            _, complaints = running.communicate(timeout=120)
        assert running.returncode == 0, complaints
        assert ("offered again" in complaints) is not point.startswith("graph")
        assert case.content() == undisturbed


@pytest.mark.ordering("O1")
def test_files_of_a_batch_that_was_lost_stay_until_it_is_there(case: Case, tmp_path: pathlib.Path) -> None:
    """Killed when the lost batch has been noticed, the database and its files still agree."""
    marker = tmp_path / "marker"
    before = {path for path in case.originals() if path.exists()}
    with backup(case, tmp_path) as restore:
        with case.start("--batch-size", "1000", stop_at="committed:1", marker=marker) as running:
            kills.wait_for(marker, running)
            restore()
            kills.kill_group(running.pid)
            running.communicate(timeout=120)
        assert {path for path in case.originals() if path.exists()} == before
        case.finish()


@pytest.mark.ordering("I5")
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", ["placed:1", "graph-ingested:1", "committed:2", "cleaned:1"])
def test_moved_graph_stays_where_it_was_until_the_end(case: Case, tmp_path: pathlib.Path, point: str) -> None:
    marker = tmp_path / "marker"
    with case.start("--batch-size", "20", stop_at=point, marker=marker) as running:
        kills.wait_for(marker, running)
        assert case.graph.exists()
        marker.write_text("")
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert not case.graph.exists()


@pytest.mark.ordering("O3")
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
def test_file_that_can_not_be_deleted_is_named(case: Case) -> None:
    """A directory in its place can't be unlinked, not even by root."""
    path = next(path for path in case.originals() if path.exists())
    path.unlink()
    path.mkdir()
    (path / "keep").touch()
    with case.start() as running:
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 1
    assert str(path) in complaints
    assert (path / "keep").exists()


def aggregate(case: Case, output: pathlib.Path, **options: Any) -> Any:
    """Aggregate the run of a case again."""
    config = aggregator.AggregatorConfig(output_path=str(output), mock_storage_classes=True, **options)
    return aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), config)


@pytest.mark.ordering("G6")
@pytest.mark.parametrize("dry_run", [False, True])
def test_files_that_went_into_a_forgotten_graph_are_not_missing(
    case: Case, undisturbed: Any, tmp_path: pathlib.Path, dry_run: bool
) -> None:
    """The database is put back as it was before its ingestion: no graph may tell that all quanta failed."""
    output = tmp_path / "again.qg"
    with backup(case, tmp_path) as restore:
        case.finish()
        restore()
        before = case.content()
        with pytest.raises(aggregator.RefusedError, match=r"does not know.* ingest-graph \S+ --output-run"):
            aggregate(case, output, dry_run=dry_run)
        assert not output.exists()
        assert case.content() == before
        case.finish("--output-run", case.run.run, given=False)
        assert case.content() == undisturbed


@pytest.mark.ordering("G6")
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
def test_files_go_into_a_graph_that_another_database_knows(
    case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same datastore, and the other one's ingestion comes while this one aggregates."""
    output, gone = tmp_path / "again.qg", []

    def reached(name: str) -> None:
        if name == "assembly":
            case.target.parent.mkdir()
            case.target.write_bytes(case.graph.read_bytes())
            gone.extend(path for path in case.originals() if path.exists())
            gone[-1].unlink()

    monkeypatch.setattr(fault_points, "reached", reached)
    with pytest.raises(aggregator.AggregatorError, match="No graph is written") as caught:
        aggregate(case, output, checkpoint_dir=str(tmp_path / "checkpoint"))
    assert caught.value.exit_code == 1
    assert not output.exists()


@pytest.mark.ordering("I6", "W5")
@pytest.mark.parametrize(
    "transfer", thinning.thinned(["move", "copy", "symlink", "hardlink"], ["move", "symlink"])
)
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
def test_graph_that_is_all_that_is_left_is_not_replaced(
    case: Case, tmp_path: pathlib.Path, transfer: str
) -> None:
    """Another graph of the run, which was made before, does not come into its place."""
    other = tmp_path / "other.qg"
    aggregate(case, other, zstd_level=9)
    with backup(case, tmp_path) as restore:
        case.finish()
        held = case.target.read_bytes()
        restore()
        before = case.content()
        with pytest.raises(aggregator.RefusedError, match="is another graph than"):
            aggregator.ingest_graph(case.run.root, other, transfer=transfer)
        assert other.exists()
        assert case.content() == before
        assert case.target.read_bytes() == held


@pytest.mark.ordering("I6", "W4")
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
def test_graph_that_comes_meanwhile_is_not_replaced(
    case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.qg"
    aggregate(case, other, zstd_level=9)

    def reached(name: str) -> None:
        if name == "placing":
            case.target.write_bytes(other.read_bytes())

    monkeypatch.setattr(fault_points, "reached", reached)
    with pytest.raises(aggregator.AggregatorError, match="is another graph than") as caught:
        case.ingest()
    assert caught.value.exit_code == 1
    assert case.target.read_bytes() == other.read_bytes()
    assert case.graph.exists()


@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
def test_graph_that_was_lost_is_explained(case: Case, tmp_path: pathlib.Path) -> None:
    """A datastore is put back as it was before, and nobody says just that there is no such file."""
    shutil.copy2(case.graph, tmp_path / "copy.qg")
    case.finish()
    case.target.rename(tmp_path / "away.qg")
    asked: list[Any] = [
        lambda: case.ingest(given=False),
        lambda: aggregator.ingest_graph(case.run.root, tmp_path / "copy.qg"),
        lambda: aggregator.Provenance(str(case.run.root)),
        lambda: aggregate(case, tmp_path / "again.qg"),
    ]
    for ask in asked:
        with pytest.raises(aggregator.AggregatorError, match="put the graph back"):
            ask()
    (tmp_path / "away.qg").rename(case.target)
    assert case.ingest(given=False).n_present == len(case.originals())


@pytest.mark.ordering("I1")
@pytest.mark.parametrize("way_on", ["aggregate", "delete"])
def test_outputs_that_the_database_lacks(case: Case, tmp_path: pathlib.Path, way_on: str) -> None:
    """Ingested, the graph would keep them out for good; unless somebody has deleted them with their files."""
    outputs = [entry["outputs"] for entry in case.run.manifest["quanta"]]
    regular = [each for some in outputs for name, ds in some.items() if name[0] != "_" for each in ds]
    dataset_id, path = next((i.replace("-", ""), p) for i, p in regular if (case.run.root / p).exists())
    with case.run.tables.open() as opened:
        assert opened.datasets.forget(case.run.run, [dataset_id], {"file_datastore_records": []}) == 1
    before = case.content()
    with pytest.raises(aggregator.RefusedError, match="lacks 1 of the datasets") as caught:
        case.ingest()
    assert path in str(caught.value)
    assert case.content() == before
    if way_on == "aggregate":
        assert aggregate(case, case.graph).n_ingested == 1
    else:
        (case.run.root / path).unlink()
    assert case.ingest().n_ingested == len(case.originals())


@pytest.mark.ordering("O1")
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
def test_files_are_left_alone_as_long_as_the_database_lacks_their_batch(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dataset of a batch stands for all of them; without it nothing is deleted."""
    before = {path for path in case.originals() if path.exists()}
    monkeypatch.setattr(ingested_datasets.Datasets, "some_backed_ids", lambda *_: set())
    aggregator.ingest_graph(case.run.root, case.graph)
    assert {path for path in case.originals() if path.exists()} == before
