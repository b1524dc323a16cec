"""Runs of which all quanta failed before they wrote an output: aggregated, repaired, and aggregated again."""

from __future__ import annotations

import itertools
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers import databases, kills, postgresql_server, small_runs, thinning
from tests.helpers.oracle import damage

EXCEPTION = {"type_name": "builtins.ValueError", "message": "Nothing works today.", "metadata": {}}


@pytest.fixture(params=["sqlite", "postgresql"])
def run(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[tuple[small_runs.SmallRun, databases.Database]]:
    """Return a run in which everything has succeeded, and its database."""
    if request.param == "sqlite":
        made = small_runs.make(tmp_path / "run")
        yield made, databases.Sqlite(made.root / "gen3.sqlite3")
        return
    server: postgresql_server.Server = request.getfixturevalue("postgresql")
    database = databases.Postgresql(server, server.create_database(), "butler")
    yield small_runs.make(tmp_path / "run", database=database.url, namespace="butler"), database
    database.remove()


def undisturbed(run: small_runs.SmallRun, database: databases.Database) -> Any:
    """Aggregate a copy of a run once."""
    copy = small_runs.copy(run, run.root.parent / "copy")
    if isinstance(database, databases.Postgresql):
        database = database.copy()
        database.configure(copy.root)
    else:
        database = databases.Sqlite(copy.root / "gen3.sqlite3")
    copy.aggregate()
    result = database.content(), kills.graph_content(copy.output)
    if isinstance(database, databases.Postgresql):
        database.remove()
    return result


def fail(run: small_runs.SmallRun, with_logs: bool) -> pathlib.Path:
    """Let all quanta have failed before their first output, or log; return the files as they were."""
    saved = run.root / "saved"
    shutil.copytree(run.run_directory, saved)
    for path in filter(pathlib.Path.is_file, run.files("*")):
        kind = path.relative_to(run.run_directory).parts[0]
        if kind.endswith("_log") and with_logs:
            damage.as_stream(path, {"exception": EXCEPTION, "metadata": {}})
        elif not kind.endswith(("_config", "_schema", "packages")):
            path.unlink()
    return saved


@pytest.mark.ordering("D5", "B2")
@pytest.mark.parametrize(
    ("n_processes", "with_logs"),
    thinning.thinned(itertools.product([1, 2], [False, True]), [(1, False), (2, True)]),
)
def test_all_failed_then_repaired(
    run: tuple[small_runs.SmallRun, databases.Database], n_processes: int, with_logs: bool
) -> None:
    made, database = run
    expected = undisturbed(made, database)
    saved = fail(made, with_logs)
    failed = made.aggregate(n_processes=n_processes, allow_empty_run=not with_logs)
    assert {status for count in failed.counts.values() for status, n in count.items() if n} <= {
        "Failed",
        "Blocked",
        "Total",
    }
    place = made.run_directory
    shutil.rmtree(place)
    saved.rename(place)
    repaired = made.aggregate(n_processes=n_processes)
    assert sum(count["Successful"] for count in repaired.counts.values()) == 60
    assert (database.content(), kills.graph_content(made.output)) == expected
