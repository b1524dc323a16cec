"""Whole aggregations into PostgreSQL: killed, disconnected, and with passwords to keep."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy
import yaml
from aggregator.butler.databases import connections

import aggregator
from aggregator.aggregation import partial_scan
from tests.helpers import databases, kills, postgresql_server, thinning
from tests.helpers.oracle import runs

PASSWORD = postgresql_server.PASSWORD


def aggregate(case: kills.Case, **config: Any) -> Any:
    options = aggregator.AggregatorConfig(output_path=str(case.output), mock_storage_classes=True, **config)
    return aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), options)


def place(case: kills.Case) -> databases.Postgresql:
    assert case.run.postgresql is not None
    return case.run.postgresql


@pytest.fixture(scope="module")
def undisturbed(postgresql_oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("undisturbed")
    case = kills.Case(runs.copy_run(postgresql_oracle_run, directory / "repo"), directory / "out.qg")
    case.finish()
    yield case.content()
    runs.remove_database(case.run)


@pytest.fixture
def case(postgresql_oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> Iterator[kills.Case]:
    copy = runs.copy_run(postgresql_oracle_run, tmp_path / "repo")
    # Small batches, so that there is something before and after each commit.
    yield kills.Case(copy, tmp_path / "out.qg", ("--ingest-batch-size", "300"))
    runs.remove_database(copy)


@pytest.fixture
def clean_case(
    clean_oracle_run: runs.OracleRun, postgresql: postgresql_server.Server, tmp_path: pathlib.Path
) -> Iterator[kills.Case]:
    """Return a small run, for what does not depend on its size."""
    from tests.helpers import postgresql_repository

    copy = runs.copy_run(clean_oracle_run, tmp_path / "repo")
    database = postgresql_repository.load(postgresql, copy.database)
    copy.database.unlink()
    database.configure(copy.root)
    yield kills.Case(dataclasses.replace(copy, postgresql=database), tmp_path / "out.qg")
    database.remove()


# Killed


KILLS = list(itertools.product(["insert:1", "insert:2", "committed:1", "committed:2"], [False, True]))
CHOSEN = [("insert:1", True), ("insert:2", False), ("committed:1", False), ("committed:2", True)]


@pytest.mark.parametrize(("point", "whole_group"), thinning.thinned(KILLS, CHOSEN))
def test_killed(
    case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path, point: str, *, whole_group: bool
) -> None:
    """The server notices that the ingester is gone, and forgets what it has not committed."""
    marker = tmp_path / "marker"
    with case.start(2, point, marker) as running:
        victim = kills.wait_for(marker, running)
        if whole_group:
            kills.kill_group(running.pid)
        else:
            os.kill(victim, signal.SIGKILL)
        _, complaints = running.communicate(timeout=kills.GONE_SECONDS)
    assert whole_group or f"ingester (process {victim}) was killed by SIGKILL" in complaints
    kills.assert_gone(running.pid)
    case.finish()
    assert case.content() == undisturbed
    assert case.leftovers() == []


# Exchanged


@pytest.mark.ordering("M4")
def test_another_database_that_is_reached_by_the_same_url(
    clean_case: kills.Case, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, run = place(clean_case), clean_case.run
    config = aggregator.AggregatorConfig(mock_storage_classes=True)
    with monkeypatch.context() as patch:
        # To scan takes no database.
        patch.delattr(connections, "connect")
        partial_scan.scan(str(run.predicted_path), str(run.root), partial_scan.part("1/1"), config)
    for _ in range(2):
        aggregate(clean_case, dry_run=True)
    assert "looked at again" not in caplog.text
    twin = ours.copy()
    aside = f"{twin.name}_aside"
    for before, after in ((ours.name, aside), (twin.name, ours.name), (aside, twin.name)):
        ours.server.execute("postgres", f"ALTER DATABASE {before} RENAME TO {after}")
    try:
        aggregate(clean_case, dry_run=True)
        assert "Every file is looked at again" in caplog.text
    finally:
        twin.remove()


def test_a_role_that_may_not_ask_for_the_number_of_a_cluster(clean_case: kills.Case) -> None:
    """Database and schema have numbers, too."""
    ours, role = place(clean_case), f"{place(clean_case).name}_asks"

    def number(user: str) -> str:
        url = sqlalchemy.make_url(ours.url).set(username=user)
        with contextlib.closing(
            connections.connect(url.render_as_string(False), ours.namespace, writeable=False)
        ) as db:
            return db.identity()

    owner = sqlalchemy.make_url(ours.url).username
    assert owner is not None
    ours.execute(
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
    )
    try:
        cluster, *others = number(owner).split()
        assert number(role).split() == others
        assert cluster == ours.query("SELECT system_identifier::text FROM pg_control_system()")[0][0]
    finally:
        ours.execute(f"DROP ROLE {role}")


# Disconnected


def when_ingesting(case: kills.Case, running: Any, action: Callable[[], Any]) -> None:
    """Do something as soon as some datasets are committed, but hardly all."""
    inputs = case.run.tables.count("dataset")
    while case.run.tables.count("dataset") == inputs:
        assert running.poll() is None
        time.sleep(0.001)
    action()


def terminate(case: kills.Case) -> None:
    condition = "application_name = 'quantum-graph-aggregator'"
    query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}"
    assert place(case).query(query)


def restart(case: kills.Case) -> None:
    server = place(case).server
    server.stop()
    time.sleep(0.5)
    server.start()


EVENTS = list(itertools.product([1, 2], [terminate, restart]))


@pytest.mark.parametrize(("n_processes", "event"), thinning.thinned(EVENTS, [(1, restart), (2, terminate)]))
def test_connection_lost(
    case: kills.Case,
    undisturbed: Any,
    tmp_path: pathlib.Path,
    event: Callable[[kills.Case], None],
    n_processes: int,
) -> None:
    """The ingester connects again by itself, and tells of it in its log."""
    logged = dataclasses.replace(case, options=(*case.options, "--worker-log-dir", str(tmp_path / "logs")))
    (tmp_path / "logs").mkdir()
    with logged.start(n_processes) as running:
        when_ingesting(case, running, lambda: event(case))
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert case.content() == undisturbed


def test_connection_lost_in_every_batch(
    case: kills.Case, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aggregator.storage import fault_points

    calls = []

    def reached(point: str) -> None:
        if point == "insert":
            calls.append(point)
            if len(calls) % 2:
                terminate(case)

    monkeypatch.setattr(fault_points, "reached", reached)
    done = aggregate(case, ingest_batch_size=300)
    assert len(calls) >= 6
    assert done.n_ingested > 1000
    assert done.n_skipped == 0
    assert case.content() == undisturbed


# Passwords, and what a role may


def with_password(case: kills.Case, user: str, password: str | None) -> None:
    """Let the repository be reached through the port that asks for passwords."""
    server = place(case).server
    url = sqlalchemy.URL.create("postgresql", user, password, "127.0.0.1", server.port, place(case).name)
    path = case.run.root / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    content["registry"]["db"] = url.render_as_string(hide_password=False)
    path.write_text(yaml.safe_dump(content))


PASSWORDS = list(itertools.product(["file", "variable", "configuration"], [False, True]))


@pytest.mark.parametrize(("where", "fails"), thinning.thinned(PASSWORDS, PASSWORDS[::2]))
def test_password_is_nowhere(
    clean_case: kills.Case,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    *,
    fails: bool,
) -> None:
    """No output, log, checkpoint or graph has it, whether all goes well or the password is wrong."""
    password = PASSWORD + "x" if fails else PASSWORD
    in_url = where == "configuration"
    with_password(clean_case, postgresql_server.OWNER, password if in_url else None)
    if where == "variable":
        monkeypatch.setenv("PGPASSWORD", password)
    elif where == "file":
        path = tmp_path / "db-auth.yaml"
        path.touch(0o600)
        path.write_text(yaml.safe_dump([{"url": "postgresql://127.0.0.1", "password": password}]))
        monkeypatch.setenv("LSST_DB_AUTH", str(path))
    logs = tmp_path / "logs"
    logs.mkdir()
    options = ("--keep-checkpoint", "--worker-log-dir", str(logs), "--worker-log-level", "DEBUG")
    case = dataclasses.replace(clean_case, options=options)
    with case.start(2) as running:
        printed = "".join(map(str, running.communicate(timeout=120)))
    assert running.returncode == (2 if fails else 0), printed
    assert ("authentication failed" in printed) == fails
    escaped = sqlalchemy.URL.create("x", "u", password, "h").render_as_string(hide_password=False)[6:-2]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    checked = [path for path in files if path.name not in ("db-auth.yaml", "butler.yaml")]
    # No worker is needed to find out that the password is wrong.
    assert fails or any(path.parent == logs for path in checked)
    assert fails or any(path.name == "ledger" for path in checked)
    for secret in (password, escaped, password.split("@")[0]):
        assert secret not in printed
        assert [path for path in checked if secret.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("db", "postgresql://keeper@/nowhere?host={}&port={}", "does not exist"),
        ("namespace", "other", "no schema other"),
    ],
)
@pytest.mark.parametrize("n_processes", thinning.thinned([1, 2], [2]))
def test_unknown_place_is_refused(
    clean_case: kills.Case, setting: str, value: str, message: str, n_processes: int
) -> None:
    path = clean_case.run.root / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    server = place(clean_case).server
    content["registry"][setting] = value.format(server.directory, server.port)
    path.write_text(yaml.safe_dump(content))
    with clean_case.start(n_processes) as running:
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 2
    [error] = [line for line in complaints.splitlines() if line.startswith("Error: ")]
    assert message in error
    assert "Traceback" not in complaints
    assert clean_case.leftovers() == []
    assert not clean_case.output.exists()


def test_role_that_may_only_read(clean_case: kills.Case) -> None:
    """It is enough for a dry run; otherwise the run fails, and goes on as soon as the role may write."""
    database = place(clean_case)
    role, schema = f"reader_{database.name}", database.namespace
    database.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    )
    before = database.content()
    with_password(clean_case, role, PASSWORD)
    aggregate(clean_case, dry_run=True)
    with pytest.raises(aggregator.AggregatorError, match=r"permission denied.*grant the role") as caught:
        aggregate(clean_case)
    assert caught.value.exit_code == 1
    assert database.content() == before
    # These are the rights that docs/how-to/use-postgresql.md names.
    rights = "SELECT, INSERT, UPDATE, DELETE, REFERENCES"
    database.execute(
        f"GRANT CREATE ON SCHEMA {schema} TO {role}",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    )
    assert aggregate(clean_case, keep_checkpoint=True).n_ingested > 100
    assert aggregate(clean_case, fresh=True).n_skipped > 100
    database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
