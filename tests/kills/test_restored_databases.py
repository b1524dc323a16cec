"""A fail-over to a server that lags behind, or a restored backup, while a graph is ingested."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers import databases, graph_ingestion_case, kills
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
        assert ("ingested again" in complaints) is not point.startswith("graph")
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
            running.communicate(timeout=10)
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
