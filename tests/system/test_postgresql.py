"""What is particular to PostgreSQL: being let in, namespaces, locks, transactions that are repeated."""

from __future__ import annotations

import gc
import itertools
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from aggregator.butler.databases import database, postgresql
from aggregator.butler.registry import batch, registry
from aggregator.storage import errors, fault_points

from tests.helpers import databases, postgresql_server, registry_rows, thinning

RUN, NEW = registry_rows.RUN, registry_rows.NEW


@pytest.fixture
def copy(
    postgresql_samples: tuple[databases.Postgresql, databases.Postgresql],
) -> Iterator[databases.Postgresql]:
    """Return a copy of the sample's database before its aggregation."""
    made = postgresql_samples[0].copy()
    yield made
    made.remove()


@pytest.fixture
def target(
    copy: databases.Postgresql, postgresql_samples: tuple[databases.Postgresql, databases.Postgresql]
) -> Iterator[registry_rows.Target]:
    with registry_rows.open_target(copy, postgresql_samples[1]) as opened:
        yield opened


@pytest.fixture
def warnings(target: registry_rows.Target) -> list[str]:
    """Collect what is said about repeated transactions, which have to wait for shorter times only."""
    said: list[str] = []
    target.registry._db.warn = said.append
    return said


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PAUSES", (0.01,) * len(database.PAUSES))


def tcp(copy: databases.Postgresql, user: str, password: str | None = None) -> sqlalchemy.URL:
    """Return a URL that asks for a password, unlike the socket."""
    return sqlalchemy.URL.create("postgresql", user, password, "127.0.0.1", copy.server.port, copy.name)


def text(url: sqlalchemy.URL) -> str:
    return url.render_as_string(hide_password=False)


def opens(url: sqlalchemy.URL | str, namespace: str | None) -> registry.Registry:
    url = url if isinstance(url, str) else text(url)
    return registry.open_registry(url, namespace, writeable=True)


# Namespaces


def test_namespace_is_the_current_schema_if_unset(
    copy: databases.Postgresql, postgresql_samples: tuple[databases.Postgresql, databases.Postgresql]
) -> None:
    after = postgresql_samples[1]
    url = f"{copy.url}&options=-csearch_path%3Dnowhere,{copy.namespace}"
    with registry.open_registry(url, None, writeable=True) as opened:
        assert opened._db.namespace == copy.namespace
        registry_rows.register_outputs(opened, after)
        opened.datasets.ingest(RUN, registry_rows.outputs(opened, after))
    assert copy.content() == after.content()
    assert copy.schema() == after.schema()


@pytest.mark.parametrize("namespace", ["Odd Name", "other"])
def test_all_names_are_qualified(
    copy: databases.Postgresql,
    postgresql_samples: tuple[databases.Postgresql, databases.Postgresql],
    namespace: str,
) -> None:
    """Another repository's tables, first in the search path, are left alone; nothing is made beside ours."""
    after = postgresql_samples[1]
    copy.execute(f'ALTER SCHEMA {copy.namespace} RENAME TO "{namespace}"')
    url = f"{copy.url}&options=-csearch_path%3Dpublic"
    with registry.open_registry(url, namespace, writeable=True) as opened:
        registry_rows.register_outputs(opened, after)
        offered = registry_rows.outputs(opened, after)
        assert opened.datasets.ingest(RUN, offered).n_ingested == 61
        assert opened.datasets.ingest(RUN, offered).n_skipped == 61
        opened.dataset_types.register("calib", "Plot", ["detector", "band"], is_calibration=True)
    elsewhere = "n.nspname !~ '^pg_|information_schema'"
    found = copy.server.query(
        copy.name,
        f"SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n "
        f"ON n.oid = c.relnamespace WHERE {elsewhere}",
    )
    assert found == [(namespace,)]


# Being let in


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody"}, "authentication failed"),
        ({"password": "wrong"}, "authentication failed"),
    ],
)
def test_refused_without_showing_the_password(
    copy: databases.Postgresql, change: dict[str, str], message: str
) -> None:
    url = tcp(copy, postgresql_server.OWNER, postgresql_server.PASSWORD).set(**change)
    with pytest.raises(errors.RefusedError, match=message) as caught:
        opens(url, copy.namespace)
    told = "".join(map(str, [caught.value, caught.value.__cause__, repr(caught.value.__cause__)]))
    assert str(url.password) not in told
    assert "127.0.0.1" in told


def test_no_password_is_refused(copy: databases.Postgresql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    with pytest.raises(errors.RefusedError, match="no password supplied"):
        opens(tcp(copy, postgresql_server.OWNER), copy.namespace)


@pytest.mark.parametrize("kind", ["url", "query", "PGPASSWORD", "PGPASSFILE", "LSST_DB_AUTH"])
def test_password_is_found(
    copy: databases.Postgresql, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    secret = postgresql_server.PASSWORD
    url = tcp(copy, postgresql_server.OWNER)
    if kind == "url":
        url = url.set(password=secret)
    elif kind == "query":
        url = url.set(query={"password": secret})
    elif kind == "PGPASSWORD":
        monkeypatch.setenv(kind, secret)
    else:
        path = tmp_path / "secret"
        path.touch(0o600)
        escaped = secret.replace("\\", "\\\\").replace(":", "\\:")
        pgpass = f"127.0.0.1:*:{copy.name}:{postgresql_server.OWNER}:{escaped}"
        auth = f"[{{url: 'postgresql://127.*', username: {postgresql_server.OWNER}, password: '{secret}'}}]"
        path.write_text(pgpass if kind == "PGPASSFILE" else auth)
        monkeypatch.setenv(kind, str(path))
    with opens(url, copy.namespace) as opened:
        assert len(opened.datasets.ids("in/raw")) == 28
        assert secret not in opened._db.place
        with pytest.raises(errors.AggregatorError) as caught:
            opened.collections.children("nothing")
        assert secret not in str(caught.value)


@pytest.mark.usefixtures("_quick")
def test_server_that_can_not_be_reached(copy: databases.Postgresql) -> None:
    with pytest.raises(errors.AggregatorError, match=r"Connection refused.*Try again") as caught:
        opens("postgresql://me:secret@127.0.0.1:1/db", None)
    assert caught.value.exit_code == 1
    assert "secret" not in str(caught.value)


def test_no_such_schema(copy: databases.Postgresql) -> None:
    with pytest.raises(errors.RefusedError, match="there is no schema nothing"):
        opens(copy.url, "nothing")
    with pytest.raises(errors.RefusedError, match="no current schema"):
        opens(f"{copy.url}&options=-csearch_path%3Dnothing", None)
    with pytest.raises(errors.RefusedError, match=r"\(schema public\): is not the database of a Butler"):
        opens(copy.url, None)


@pytest.fixture
def reader(copy: databases.Postgresql) -> Iterator[sqlalchemy.URL]:
    """Make a role that may only read."""
    copy.execute(
        f"CREATE ROLE reader LOGIN PASSWORD '{postgresql_server.PASSWORD}'",
        f"GRANT USAGE ON SCHEMA {copy.namespace} TO reader",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {copy.namespace} TO reader",
    )
    yield tcp(copy, "reader", postgresql_server.PASSWORD)
    copy.execute("DROP OWNED BY reader", "DROP ROLE reader")


WRITING: list[Callable[[registry.Registry], Any]] = [
    lambda opened: opened.collections.register_run("u/new"),
    lambda opened: opened.dataset_types.register("new", "Plot", ["visit"]),
    lambda opened: opened.datasets.ingest(
        "in/raw",
        registry_rows.join(
            registry_rows.make(opened.dataset_types.row("raw"), ("SampleCam", 1, 101), NEW + "1")
        ),
    ),
]


@pytest.mark.parametrize("work", WRITING)
def test_role_that_may_only_read(
    copy: databases.Postgresql, reader: sqlalchemy.URL, work: Callable[[registry.Registry], Any]
) -> None:
    before = copy.content()
    with registry.open_registry(text(reader), copy.namespace, writeable=False) as opened:
        assert len(opened.datasets.ids("in/raw")) == 28
    with (
        opens(reader, copy.namespace) as opened,
        pytest.raises(errors.AggregatorError, match=r"permission denied .*grant the role") as caught,
    ):
        work(opened)
    assert caught.value.exit_code == 1
    assert copy.content() == before


def test_reading_changes_nothing(copy: databases.Postgresql) -> None:
    with copy.open(writeable=False) as opened:
        with pytest.raises(errors.AggregatorError, match="opened for reading only"):
            opened.collections.register_run("u/new")
        with (
            pytest.raises(sqlalchemy.exc.DBAPIError, match="read-only transaction"),
            opened._db.engine.begin() as connection,
        ):
            connection.exec_driver_sql(f"DELETE FROM {copy.namespace}.dataset_location")
    assert copy.count("dataset_location") == 28


def test_connection_settings(copy: databases.Postgresql) -> None:
    with copy.open() as opened, opened._db.writing() as connection:
        driver: Any = connection.connection.driver_connection
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "5min"
        assert driver.info.get_parameters()["tcp_user_timeout"] == "120000"
        assert driver.prepare_threshold is None
        assert not driver.autocommit
        name = connection.exec_driver_sql("SHOW application_name").scalar()
        assert name == "quantum-graph-aggregator"
    other = registry.open_registry(f"{copy.url}&connect_timeout=7", copy.namespace, writeable=True)
    with other, other._db.reading() as connection:
        driver = connection.connection.driver_connection
        assert driver.info.get_parameters()["connect_timeout"] == "7"


def test_driver_is_imported_only_if_needed() -> None:
    code = (
        "import sys\n"
        "import aggregator.workers.roles.ingesting.ingester, aggregator.workers.roles.scanning.scanner\n"
        "import aggregator.butler.registry.registry\n"
        "assert not [name for name in sys.modules if 'psycopg' in name or 'dialects.postgresql' in name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Locks


def test_lock_held_too_long(copy: databases.Postgresql) -> None:
    with copy.open(busy_timeout_ms=50) as opened, copy.server.connect(copy.name, copy.namespace) as other:
        other.autocommit = False
        other.execute("LOCK TABLE dataset_location IN EXCLUSIVE MODE")
        pair = registry_rows.make(opened.dataset_types.row("raw"), ("SampleCam", 1, 101), NEW + "1")
        opened.collections.register_run("u/new")
        message = r"lock timeout.*another process held a lock for 0\.05 s"
        with pytest.raises(errors.AggregatorError, match=message) as caught:
            opened.datasets.ingest("u/new", registry_rows.join(pair))
        assert caught.value.exit_code == 1
        other.rollback()
        assert opened.datasets.ingest("u/new", registry_rows.join(pair)).n_ingested == 1


@pytest.mark.usefixtures("_quick")
def test_deadlock_is_repeated(target: registry_rows.Target, warnings: list[str]) -> None:
    """Two transactions that lock the same rows in different orders both come to an end."""
    db, table = target.registry._db, target.registry._tables.collection
    meeting = threading.Barrier(2, timeout=120)
    meetings = [1, 1]

    def work(number: int) -> None:
        def lock(connection: sqlalchemy.Connection) -> None:
            for which in (number + 1, 2 - number):
                connection.execute(
                    table.update().where(table.c.collection_id == which).values(name=table.c.name)
                )
                if meetings[number]:
                    meetings[number] = 0
                    meeting.wait()

        db.write(lock)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert meetings == [0, 0]
    [said] = warnings
    assert "deadlock detected" in said
    assert "Trying again in 0.0 s" in said


@pytest.mark.usefixtures("_quick")
def test_serialization_failure_is_repeated(target: registry_rows.Target, warnings: list[str]) -> None:
    calls = []

    def work(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        table = target.registry._tables.collection
        connection.execute(table.select()).all()
        calls.append(1)
        if len(calls) == 1:
            target.database.execute("UPDATE collection SET doc = 'other' WHERE collection_id = 1")
        connection.execute(table.update().where(table.c.collection_id == 1).values(name="in/renamed"))

    target.registry._db.write(work)
    assert len(calls) == 2
    assert "could not serialize access" in warnings[0]
    rows = target.database.query("SELECT name, doc FROM collection WHERE collection_id = 1")
    assert rows == [("in/renamed", "other")]


@pytest.mark.usefixtures("_quick")
def test_table_that_another_process_makes_at_the_same_time(
    target: registry_rows.Target, warnings: list[str]
) -> None:
    """The reference makes tables without holding the lock that we wait for."""
    name = "dataset_tags_00000060"
    dimensions = ", ".join(f"(60, '{dimension}')" for dimension in ("band", "instrument", "detector"))
    target.database.execute(
        "INSERT INTO dimension_graph_key VALUES (60)",
        f"INSERT INTO dimension_graph_definition VALUES {dimensions}",
    )
    other = target.database.server.connect(  # type: ignore[attr-defined]
        target.database.name,
        target.database.namespace,  # type: ignore[attr-defined]
    )
    other.autocommit = False
    other.execute(f"CREATE TABLE {name} (dataset_type_id bigint, dataset_id uuid, collection_id bigint)")
    threading.Timer(0.3, other.commit).start()
    row = target.registry.dataset_types.register("by_band", "Plot", ["band", "detector"])
    assert row.tag_table == name
    assert "another process was quicker" in warnings[0]
    other.close()


# Connections that are lost


def terminate(target: registry_rows.Target) -> None:
    """Let the server close all connections to a database."""
    place: Any = target.database
    condition = f"datname = '{place.name}' AND pid <> pg_backend_pid()"
    place.server.query(
        "postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}"
    )


def restart(target: registry_rows.Target) -> None:
    place: Any = target.database
    place.server.stop()
    threading.Timer(0.2, place.server.start).start()


def crash(target: registry_rows.Target) -> None:
    place: Any = target.database
    place.server.stop(signal.SIGQUIT)
    place.server.start()


EVENTS = list(itertools.product([terminate, restart, crash], [False, True]))


@pytest.mark.parametrize(("event", "defensive"), thinning.thinned(EVENTS, EVENTS[::2]))
def test_connection_lost_in_the_middle_of_a_batch(
    target: registry_rows.Target,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    event: Callable[[registry_rows.Target], None],
    *,
    defensive: bool,
) -> None:
    calls = []

    def reached(point: str) -> None:
        assert point == "insert"
        calls.append(point)
        if len(calls) == 1:
            event(target)

    monkeypatch.setattr(fault_points, "reached", reached)
    result = target.registry.datasets.ingest(RUN, target.offered, defensive=defensive)
    assert result == batch.IngestResult(61, 0, ())
    assert len(calls) == 2
    assert warnings
    assert "Trying again" in warnings[0]
    assert target.database.content() == target.after.content()


def test_connection_lost_between_copies(
    target: registry_rows.Target, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, calls = postgresql.Postgresql.insert_rows, []

    def insert_rows(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            terminate(target)
        insert(*arguments)

    monkeypatch.setattr(postgresql.Postgresql, "insert_rows", insert_rows)
    assert target.registry.datasets.ingest(RUN, target.offered) == batch.IngestResult(61, 0, ())
    assert len(warnings) == 1
    assert target.database.content() == target.after.content()


@pytest.mark.filterwarnings("ignore:.*ServerCursor.*was deleted while still open:ResourceWarning")
def test_connection_lost_before_the_first_row(
    target: registry_rows.Target, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def in_transaction() -> None:
        calls.append(1)
        if len(calls) == 1:
            terminate(target)

    monkeypatch.setattr(target.registry._db, "check_place", in_transaction)
    assert list(target.registry.collections.runs()) == ["in/raw", RUN]
    assert (len(calls), len(warnings)) == (2, 1)
    # SQLAlchemy does not close cursors of connections that are lost.
    gc.collect()


def test_no_row_comes_twice_when_a_connection_is_lost(
    target: registry_rows.Target, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_ROWS_AT_ONCE", 1)
    runs = target.registry.collections.runs()
    assert next(runs) == "in/raw"
    terminate(target)
    with pytest.raises(database.LostError):
        list(runs)
    assert not warnings
    assert list(target.registry.collections.runs()) == ["in/raw", RUN]


def test_connection_lost_after_the_commit(
    target: registry_rows.Target, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a commit is lost: everything is found there, and nothing is doubled."""
    commit, calls = psycopg.Connection.commit, []

    def commit_and_lose(connection: psycopg.Connection[Any]) -> None:
        commit(connection)
        calls.append(1)
        if len(calls) == 1:
            terminate(target)
            connection.execute("SELECT 1")

    monkeypatch.setattr(psycopg.Connection, "commit", commit_and_lose)
    assert target.registry.datasets.ingest(RUN, target.offered) == batch.IngestResult(0, 61, ())
    assert len(warnings) == 1
    assert target.database.content() == target.after.content()


def test_connection_lost_between_transactions_is_not_noticed(
    target: registry_rows.Target, warnings: list[str]
) -> None:
    terminate(target)
    assert len(target.registry.datasets.ids("in/raw")) == 28
    terminate(target)
    assert target.registry.datasets.ingest(RUN, target.offered).n_ingested == 61
    assert warnings == []


@pytest.mark.usefixtures("_quick")
def test_repetitions_are_bounded(
    target: registry_rows.Target, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = target.database.content()
    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", lambda point: terminate(target))
        with pytest.raises(errors.AggregatorError, match="rolled back") as caught:
            target.registry.datasets.ingest(RUN, target.offered)
    assert caught.value.exit_code == 1
    assert len(warnings) == len(database.PAUSES)
    assert target.database.content() == before
    assert target.registry.datasets.ingest(RUN, target.offered).n_ingested == 61


@pytest.mark.usefixtures("_quick")
def test_server_that_stays_away(target: registry_rows.Target, warnings: list[str]) -> None:
    server: postgresql_server.Server = target.database.server  # type: ignore[attr-defined]
    server.stop()
    try:
        with pytest.raises(errors.AggregatorError, match=f"/{target.database.name}"):  # type: ignore[attr-defined]
            target.registry.datasets.ingest(RUN, target.offered)
    finally:
        server.start()
    assert len(warnings) == len(database.PAUSES)
    assert target.registry.datasets.ingest(RUN, target.offered).n_ingested == 61


# Errors and names


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (psycopg.errors.DiskFull("no space left"), errors.AggregatorError, "free some space on the server"),
        (psycopg.errors.UniqueViolation("double"), database.ConstraintError, "refuses a row: double"),
        (psycopg.errors.TooManyConnections("sorry"), database.LostError, "sorry"),
        (psycopg.errors.SyntaxError("line 1\n  LINE 2."), errors.AggregatorError, r"line 1 LINE 2 \(the"),
    ],
)
def test_errors_are_explained(
    target: registry_rows.Target, error: psycopg.Error, kind: type[Exception], message: str
) -> None:
    found = target.registry._db.failure(error)
    assert type(found) is kind
    assert found.exit_code == 1
    with pytest.raises(kind, match=message):
        raise found


def test_long_names_are_shortened_like_the_reference_does(target: registry_rows.Target) -> None:
    shrinker = pytest.importorskip("lsst.daf.butler.name_shrinker").NameShrinker(63)
    for length in (5, 62, 63, 64, 200):
        name = "table_" + "x" * (length - 6)
        assert target.registry._db.identifier(name) == shrinker.shrink(name)
