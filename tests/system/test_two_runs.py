"""Aggregations of different runs into one repository at the same time, on both databases."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers import databases, kills, postgresql_repository, postgresql_server, thinning
from tests.helpers.oracle import compare, reference, runs


@pytest.fixture(scope="module")
def two_runs(
    clean_oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory
) -> list[runs.OracleRun]:
    """Return two executed runs that differ in their names only."""
    workdir = tmp_path_factory.mktemp("second") / "run"
    size: dict[str, Any] = {"visits": 3, "detectors": 2, "patches": 2, "trouble": False}
    return [clean_oracle_run, runs.make_oracle_run(workdir, **size, name="u/oracle/run.2")]


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """Two runs in directories that stand for one storage, as their paths differ, and share one database."""

    database: databases.Database
    cases: list[kills.Case]


Make = Callable[[str], Shared]


@pytest.fixture
def on_sqlite(two_runs: list[runs.OracleRun], tmp_path: pathlib.Path) -> Make:
    """Return a function that makes copies of both runs with one SQLite file."""

    def make(name: str) -> Shared:
        copies = [runs.copy_run(run, tmp_path / name / str(i)) for i, run in enumerate(two_runs)]
        copies[1].database.unlink()
        database = databases.Sqlite(copies[0].database)
        database.configure(copies[1].root)
        return Shared(database, [kills.Case(c, tmp_path / name / f"{i}.qg") for i, c in enumerate(copies)])

    return make


@pytest.fixture
def on_postgresql(
    two_runs: list[runs.OracleRun], postgresql: postgresql_server.Server, tmp_path: pathlib.Path
) -> Iterator[Make]:
    """Return a function that makes copies of both runs with one PostgreSQL database."""
    template = postgresql_repository.load(postgresql, two_runs[0].database)
    made = [template]

    def make(name: str) -> Shared:
        made.append(template.copy())
        found = []
        for number, run in enumerate(two_runs):
            copy = runs.copy_run(run, tmp_path / name / str(number))
            copy.database.unlink()
            made[-1].configure(copy.root)
            found.append(kills.Case(copy, tmp_path / name / f"{number}.qg"))
        return Shared(made[-1], found)

    yield make
    for database in made:
        database.remove()


def rows_of(database: databases.Database) -> dict[str, Any]:
    """Return the content of a database, but for the order in which the runs came into the chain."""
    rows = compare.database_rows(database)
    for chain, links in rows["collection_chain"].items():
        rows["collection_chain"][chain] = sorted(child for _, child in links)
    return rows


def expected_of(make: Make) -> dict[str, Any]:
    """Return the content after the reference has aggregated one run after the other."""
    expected = make("expected")
    for case in expected.cases:
        reference.aggregate(case.run)
    return rows_of(expected.database)


@contextlib.contextmanager
def no_deadlocks(database: databases.Database) -> Iterator[None]:
    """Assert that PostgreSQL does not have to break a deadlock, although that would be survived."""
    if not isinstance(database, databases.Postgresql):
        yield
        return
    before = database.server.log()
    yield
    assert "deadlock detected" not in database.server.log().removeprefix(before)


def finish(*running: Any) -> None:
    complaints = [each.communicate(timeout=120)[1] for each in running]
    assert [each.returncode for each in running] == [0, 0], complaints


@pytest.mark.parametrize(
    ("kind", "n_processes"),
    thinning.thinned(itertools.product(["sqlite", "postgresql"], [1, 2]), [("sqlite", 2), ("postgresql", 1)]),
)
def test_two_runs_at_once(request: pytest.FixtureRequest, kind: str, n_processes: int) -> None:
    """Both end, and the repository is as after one run and then the other."""
    make: Make = request.getfixturevalue(f"on_{kind}")
    found = make("found")
    for case in found.cases:
        # Small batches, so that there are many transactions to meet.
        case.options = ("--ingest-batch-size", "20")
    with (
        no_deadlocks(found.database),
        found.cases[0].start(n_processes) as first,
        found.cases[1].start(n_processes) as second,
    ):
        finish(first, second)
    assert rows_of(found.database) == expected_of(make)


def test_one_of_them_by_the_reference(on_postgresql: Make) -> None:
    """The locks of both tools agree."""
    found = on_postgresql("found")
    run = found.cases[1].run
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_deadlocks(found.database))
        second = stack.enter_context(
            subprocess.Popen(
                reference.command(run.predicted_path, run.root),
                env=reference.environment(),
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        )
        # The reference takes some seconds to start; then they meet.
        condition = "datname = current_database() AND pid <> pg_backend_pid()"
        while not found.database.query(f"SELECT 1 FROM pg_stat_activity WHERE {condition}"):
            assert second.poll() is None
            time.sleep(0.05)
        finish(stack.enter_context(found.cases[0].start(2)), second)
    assert rows_of(found.database) == expected_of(on_postgresql)
