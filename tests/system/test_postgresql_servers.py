"""Servers as they are set up: defaults, encodings, standbys, full ones, and poolers in front of them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from aggregator.butler import creation
from aggregator.butler.databases import database
from aggregator.butler.registry import batch, conflicts, registry
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

from tests.helpers import databases, postgresql_server, registry_rows

RUN, NEW = registry_rows.RUN, registry_rows.NEW

Samples = tuple[databases.Postgresql, databases.Postgresql]


@pytest.fixture
def copy(postgresql_samples: Samples) -> Iterator[databases.Postgresql]:
    """Return a copy of the sample's database before its aggregation."""
    made = postgresql_samples[0].copy()
    yield made
    made.remove()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PAUSES", (0.1,) * len(database.PAUSES))


def ingest_all(url: str, namespace: str, after: databases.Postgresql) -> batch.IngestResult:
    with registry.open_registry(url, namespace, writeable=True) as opened:
        registry_rows.register_outputs(opened, after)
        result = opened.datasets.ingest(RUN, registry_rows.outputs(opened, after))
        assert len(opened.datasets.ids(RUN)) == 61
        return result


# Defaults of servers, databases and roles

DEFAULTS = {
    "default_transaction_isolation": ("repeatable read", "serializable"),
    "statement_timeout": ("100ms",),
    "idle_in_transaction_session_timeout": ("100ms",),
    "lock_timeout": ("1ms",),
    "client_encoding": ("latin1",),
    "standard_conforming_strings": ("off",),
    "bytea_output": ("escape",),
    "datestyle": ("German",),
}


@pytest.mark.parametrize(("setting", "value"), [(n, v) for n, values in DEFAULTS.items() for v in values])
def test_defaults_do_not_count(
    copy: databases.Postgresql, postgresql_samples: Samples, setting: str, value: str
) -> None:
    after = postgresql_samples[1]
    copy.execute(f"ALTER DATABASE {copy.name} SET {setting} = '{value}'")
    assert ingest_all(copy.url, copy.namespace, after) == batch.IngestResult(61, 0, ())
    assert copy.content() == after.content()
    with copy.open() as opened:
        for transaction, isolation in (
            (opened._db.reading, "repeatable read"),
            (opened._db.writing, "read committed"),
        ):
            with transaction() as connection:
                connection.exec_driver_sql("SELECT pg_sleep(0.15)")
                time.sleep(0.15)
                assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == isolation


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_chain_is_changed_by_many_at_once(copy: databases.Postgresql, isolation: str) -> None:
    copy.execute(f"ALTER DATABASE {copy.name} SET default_transaction_isolation = '{isolation}'")
    runs = [f"u/run{number}" for number in range(12)]

    def update(some: list[str]) -> None:
        with copy.open() as opened:
            for run in some:
                opened.collections.register_run(run)
                opened.collections.update_output_chain("u/chain", run, ["in/all"])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(update, [runs[i::4] for i in range(4)]))
    with copy.open() as opened:
        assert sorted(opened.collections.children("u/chain")) == sorted([*runs, "in/raw"])


def test_chain_that_another_tool_changes_without_a_lock(copy: databases.Postgresql) -> None:
    """Its row takes the position that we had chosen: that is no reason to fail, but to look again."""
    with copy.open() as opened:
        for run in ("u/1", "u/2", "u/3"):
            opened.collections.register_run(run)
        opened.collections.update_output_chain("u/chain", "u/1", [])
        calls = []

        def come_first(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            if statement.startswith("INSERT INTO") and "collection_chain" in statement:
                calls.append(parameters)
                if len(calls) == 1:
                    chosen = parameters[0] if isinstance(parameters, list) else parameters
                    child = "SELECT collection_id FROM collection WHERE name = 'u/3'"
                    values = f"{chosen['parent']}, {chosen['position']}, ({child})"
                    copy.execute(f"INSERT INTO collection_chain VALUES ({values})")

        sqlalchemy.event.listen(opened._db.engine, "before_cursor_execute", come_first)
        opened.collections.update_output_chain("u/chain", "u/2", [])
        assert len(calls) == 2
        assert opened.collections.children("u/chain") == ["u/2", "u/3", "u/1"]


@pytest.mark.ordering("B3")
def test_rows_that_come_between_two_looks_are_no_conflict(
    copy: databases.Postgresql, postgresql_samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process commits the same batch after the look at datasets, before that at file records."""
    compare, calls = conflicts._Examination.compare_records, []
    with registry_rows.open_target(copy, postgresql_samples[1]) as target, copy.open() as other:

        def compare_records(self: Any) -> None:
            calls.append(1)
            if len(calls) == 1:
                assert other.datasets.ingest(RUN, target.offered).n_ingested == 61
            compare(self)

        monkeypatch.setattr(conflicts._Examination, "compare_records", compare_records)
        # Without the lock on the run's row, which is not there for this, and which others may not know.
        with target.registry._db.writing() as connection:
            findings = conflicts.examine(target.registry._tables, connection, 3, target.offered)
    assert len(calls) == 2
    assert (findings.n_skipped, findings.conflicts) == (61, ())


# Encodings


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_in_another_encoding(
    postgresql: postgresql_server.Server, tmp_path: pathlib.Path, encoding: str
) -> None:
    name = f"encoded_{encoding.lower()}"
    locale = "ENCODING '{}' LC_COLLATE 'C' LC_CTYPE 'C'"
    postgresql.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0 {locale.format(encoding)}")
    extension = "(99999, 'btree_gist', 10, 11, false, '1.7')"
    columns = "(oid, extname, extowner, extnamespace, extrelocatable, extversion)"
    postgresql.execute(name, f"INSERT INTO pg_extension {columns} VALUES {extension}")
    try:
        creation.create_repository(tmp_path / "repo", database_url=postgresql.url(name), namespace="ns")
        with registry.open_registry(postgresql.url(name), "ns", writeable=True) as opened:
            opened.collections.register_run("u/Büro")
            row = opened.dataset_types.register("file", "Plot", [])
            pair = registry_rows.make(row, (), NEW + "1")
            assert opened.datasets.ingest("u/Büro", registry_rows.join(pair)).n_ingested == 1
            assert list(opened.collections.runs()) == ["u/Büro"]
            assert addresses.hex_digits(opened.datasets.ids("u/Büro")) == [NEW + "1"]
            if encoding == "SQL_ASCII":
                postgresql.execute(name, r"UPDATE ns.collection SET name = E'u/B\xfcro'")
                with pytest.raises(errors.AggregatorError, match="invalid byte sequence for encoding"):
                    list(opened.collections.runs())
    finally:
        postgresql.drop_database(name)


# Servers that let nobody in at the moment, or take no changes


def test_first_connection_is_repeated(copy: databases.Postgresql) -> None:
    role = f"limited_{copy.name}"
    copy.execute(
        f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 PASSWORD '{postgresql_server.PASSWORD}'",
        f"GRANT USAGE ON SCHEMA {copy.namespace} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {copy.namespace} TO {role}",
    )
    url = copy.url.replace(postgresql_server.OWNER, role, 1)
    said: list[str] = []
    taken = psycopg.connect(url)
    timer = threading.Timer(0.5, taken.close)
    timer.start()
    with registry.open_registry(url, copy.namespace, writeable=True, warn=said.append) as opened:
        assert len(opened.datasets.ids("in/raw")) == 28
    assert "too many connections for role" in said[0]
    timer.join()
    copy.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.usefixtures("_quick")
def test_server_that_is_read_only(copy: databases.Postgresql) -> None:
    copy.execute(f"ALTER DATABASE {copy.name} SET default_transaction_read_only = on")
    with copy.open(writeable=False) as opened:
        assert len(opened.datasets.ids("in/raw")) == 28
    with (
        copy.open() as opened,
        pytest.raises(errors.AggregatorError, match="standby, or set to be") as caught,
    ):
        opened.collections.register_run("u/new")
    assert caught.value.exit_code == 1
    assert "grant" not in str(caught.value)


@pytest.fixture
def standby(copy: databases.Postgresql) -> Iterator[str]:
    """Run a standby beside the server for a while; return the URL of its database."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pg"))
    server = postgresql_server.Server(directory)
    copy.server.stop()
    try:
        shutil.copytree(copy.server._data, server._data)
    finally:
        copy.server.start()
    (server._data / "standby.signal").touch()
    for path in [server._data, *server._data.rglob("*")]:
        os.chown(path, server._credentials.get("user", -1), server._credentials.get("group", -1))
    server._data.chmod(0o700)
    try:
        server.start()
        yield server.url(copy.name)
    finally:
        server.stop()
        shutil.rmtree(directory)


def test_standby(copy: databases.Postgresql, standby: str) -> None:
    with registry.open_registry(standby, copy.namespace, writeable=False) as opened:
        assert len(opened.datasets.ids("in/raw")) == 28
    with pytest.raises(errors.AggregatorError, match="the server is a standby") as caught:
        registry.open_registry(standby, copy.namespace, writeable=True)
    assert caught.value.exit_code == 1


# Poolers

POOLER = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")

needs_pooler = pytest.mark.skipif(POOLER is None, reason="there is no pgbouncer")


@contextlib.contextmanager
def pooler(copy: databases.Postgresql, directory: pathlib.Path, **settings: str) -> Iterator[str]:
    """Run a pooler in front of a database; yield the URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = {"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any"}
    text = "\n".join(f"{name} = {value}" for name, value in {**lines, **settings}.items())
    place = f"host={copy.server.directory} port={copy.server.port} user={postgresql_server.OWNER}"
    # Nobody else may look into a directory of the tests.
    path = copy.server.directory / f"pooler{port}.ini"
    path.write_text(f"[databases]\n* = {place}\n[pgbouncer]\n{text}\n")
    path.chmod(0o644)
    user: dict[str, Any] = {"user": postgresql_server.UNPRIVILEGED} if os.geteuid() == 0 else {}
    with (
        open(directory / "pooler.log", "wb") as log,
        subprocess.Popen([str(POOLER), path], stdout=log, stderr=log, **user) as running,
    ):
        try:
            url = f"postgresql://{postgresql_server.OWNER}@127.0.0.1:{port}/{copy.name}"
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
            yield url
        finally:
            running.terminate()


@needs_pooler
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_pooler(
    copy: databases.Postgresql, postgresql_samples: Samples, tmp_path: pathlib.Path, mode: str
) -> None:
    after = postgresql_samples[1]
    with pooler(copy, tmp_path, pool_mode=mode, default_pool_size="3") as url:
        assert ingest_all(url, copy.namespace, after).n_ingested == 61
        assert ingest_all(url, copy.namespace, after).n_skipped == 61
    assert copy.content() == after.content()


@needs_pooler
@pytest.mark.parametrize("writeable", [False, True])
def test_pooler_of_statements_is_refused(
    copy: databases.Postgresql, tmp_path: pathlib.Path, *, writeable: bool
) -> None:
    with (
        pooler(copy, tmp_path, pool_mode="statement") as url,
        pytest.raises(errors.RefusedError, match="statement pooling is in between"),
    ):
        registry.open_registry(url, copy.namespace, writeable=writeable)


@needs_pooler
def test_parameter_that_a_pooler_does_not_pass_on(copy: databases.Postgresql, tmp_path: pathlib.Path) -> None:
    with (
        pooler(copy, tmp_path, pool_mode="transaction") as url,
        pytest.raises(errors.RefusedError, match="unsupported startup parameter"),
    ):
        registry.open_registry(f"{url}?options=-csearch_path%3Dx", copy.namespace, writeable=True)


@needs_pooler
def test_pooler_whose_connections_are_taken(copy: databases.Postgresql, tmp_path: pathlib.Path) -> None:
    settings = {"pool_mode": "transaction", "default_pool_size": "1", "query_wait_timeout": "1"}
    said: list[str] = []
    with pooler(copy, tmp_path, **settings) as url:
        taken = psycopg.connect(url)
        taken.execute("SELECT 1")
        timer = threading.Timer(2.5, taken.close)
        timer.start()
        with registry.open_registry(url, copy.namespace, writeable=True, warn=said.append) as opened:
            assert len(opened.datasets.ids("in/raw")) == 28
        timer.join()
    assert "query_wait_timeout" in said[0]
