"""An aggregation loses its PostgreSQL server to a standby that lags behind."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
from typing import Any

import pytest

from tests.helpers import databases, kills, postgresql_server, small_runs

NAMESPACE = "butler"


class Pair:
    """A server, and what a standby of it had at some time."""

    def __init__(self, server: postgresql_server.Server) -> None:
        self.server = server
        self._standby = server._data.with_name("standby")

    def copy(self) -> None:
        """Let the standby have everything that is committed so far, and nothing that comes."""
        self.server.stop()
        shutil.copytree(self.server._data, self._standby)
        for path in [self._standby, *self._standby.rglob("*")]:
            os.chown(path, self.server._data.stat().st_uid, self.server._data.stat().st_gid)
        self.server.start()

    def fail_over(self) -> None:
        """Lose the server; the standby takes its address."""
        self.server.stop(signal.SIGQUIT)
        shutil.rmtree(self.server._data)
        self._standby.rename(self.server._data)
        self.server.start()


def start(run: small_runs.SmallRun, n_processes: int, point: str, marker: pathlib.Path) -> Any:
    arguments = [
        *("aggregate-graph", str(run.predicted), str(run.root), "-o", str(run.output)),
        *("-j", str(n_processes), "--ingest-batch-size", "60"),
    ]
    return kills.start(arguments, point, marker)


@pytest.mark.ordering("O1", "B4")
@pytest.mark.parametrize(("n_processes", "point"), [(1, "committed:2"), (2, "insert:2")])
def test_what_the_standby_never_saw_is_committed_again(
    tmp_path: pathlib.Path, n_processes: int, point: str
) -> None:
    with postgresql_server.running() as server:
        pair, database = Pair(server), databases.Postgresql(server, server.create_database(), NAMESPACE)
        run = small_runs.make(tmp_path / "run", 200, database=database.url, namespace=NAMESPACE)
        before = database.count("dataset")
        alone = database.copy()
        alone.configure(run.root)
        run.aggregate()
        undisturbed = alone.content(), kills.graph_content(run.output)
        run.output.unlink()
        database.configure(run.root)
        pair.copy()
        marker = tmp_path / "marker"
        with start(run, n_processes, point, marker) as running:
            kills.wait_for(marker, running)
            seen = database.count("dataset")
            pair.fail_over()
            lost = seen - database.count("dataset")
            marker.write_text("")
            printed, complaints = running.communicate(timeout=120)
        assert seen > before
        assert lost == seen - before
        assert running.returncode == 0, complaints
        assert "again" in printed + complaints
        assert (database.content(), kills.graph_content(run.output)) == undisturbed
