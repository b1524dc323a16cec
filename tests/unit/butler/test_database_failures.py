"""What errors of SQLite mean to those who meet them, and URLs that name no database."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator

import pytest
from aggregator.butler.databases import connections, database
from aggregator.storage import errors


@pytest.fixture
def opened(tmp_path: pathlib.Path) -> Iterator[database.Database]:
    url = f"sqlite:///{tmp_path}/gen3.sqlite3"
    with contextlib.closing(connections.connect(url, None, writeable=True, create=True)) as made:
        yield made


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (sqlite3.SQLITE_BUSY, errors.AggregatorError, "another process held it for 300 s"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, errors.AggregatorError, "another process held it for 300 s"),
        (sqlite3.SQLITE_LOCKED, errors.AggregatorError, "try again when that has finished"),
        (sqlite3.SQLITE_READONLY, errors.AggregatorError, "make the file and its directory writeable"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, errors.AggregatorError, "its directory writeable"),
        (sqlite3.SQLITE_READONLY_ROLLBACK, errors.AggregatorError, "whoever may write has to open"),
        (sqlite3.SQLITE_READONLY_DBMOVED, errors.AggregatorError, "was replaced, moved or removed"),
        (sqlite3.SQLITE_FULL, errors.AggregatorError, "free some space and try again"),
        (sqlite3.SQLITE_IOERR, errors.AggregatorError, "the disk fails or a limit of file sizes is reached"),
        (sqlite3.SQLITE_CORRUPT, errors.AggregatorError, "put back a backup of it"),
        (sqlite3.SQLITE_PROTOCOL, errors.AggregatorError, r"\(the transaction was rolled back\)"),
        (sqlite3.SQLITE_NOTADB, errors.RefusedError, r"see registry\.db in butler\.yaml"),
    ],
)
def test_errors_say_what_to_do(
    opened: database.Database, code: int, kind: type[errors.AggregatorError], advice: str
) -> None:
    error = sqlite3.OperationalError("it did not work")
    error.sqlite_errorcode = code
    explained = opened.failure(error)
    assert type(explained) is kind
    assert str(explained).startswith(f"{opened.place}: ")
    with pytest.raises(kind, match=advice):
        raise explained


def test_a_refused_row_is_told_apart(opened: database.Database) -> None:
    explained = opened.failure(sqlite3.IntegrityError("FOREIGN KEY constraint failed"))
    assert isinstance(explained, database.ConstraintError)
    assert "refuses a row: FOREIGN KEY" in str(explained)


def test_a_transaction_is_repeated_until_it_gets_through(
    opened: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr(opened, "warn", told.append)
    monkeypatch.setattr(database.time, "sleep", pauses.append)
    left = [database.TransientError("deadlock."), database.LostError("gone.")]

    def work(_: object) -> str:
        if left:
            raise left.pop(0)
        return "done"

    n_connections = opened.n_connections
    assert opened.write(work) == "done"
    assert [text.partition(" Trying again in ")[0] for text in told] == ["deadlock.", "gone."]
    assert all(0.66 < pause / usual < 1.34 for pause, usual in zip(pauses, database.PAUSES, strict=False))
    # After a lost connection all of them are new.
    assert opened.n_connections == n_connections + 2


def test_a_transaction_is_not_repeated_for_ever(
    opened: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "warn", lambda _: None)
    monkeypatch.setattr(database.time, "sleep", lambda _: None)
    calls: list[object] = []

    def work(connection: object) -> None:
        calls.append(connection)
        raise database.TransientError("deadlock.")

    with pytest.raises(database.TransientError, match=r"^deadlock\.$"):
        opened.read(work)
    assert len(calls) == len(database.PAUSES) + 1


def test_rows_that_others_write_meanwhile_are_met_again(opened: database.Database) -> None:
    calls: list[object] = []

    def work(connection: object) -> None:
        calls.append(connection)
        raise database.ConstraintError("there is such a row.")

    with pytest.raises(database.ConstraintError):
        opened.write(work, attempts=3)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("url", "namespace", "message"),
    [
        ("nonsense", None, "not a database URL"),
        ("sqlite://", None, "names no database file"),
        ("sqlite:///:memory:", None, "names no database file"),
        ("sqlite:////tmp/some.sqlite3", "ns", "SQLite has no namespaces"),
        ("oracle://me:s3cret@host/db", None, "oracle is not supported"),
    ],
)
def test_urls_that_name_no_database(url: str, namespace: str | None, message: str) -> None:
    with pytest.raises(errors.RefusedError, match=message) as caught:
        connections.connect(url, namespace, writeable=False)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("namespace", ["", "n" * 64, "ü" * 32, "a%s", "pg_mine"])
def test_names_that_can_not_be_those_of_a_schema_are_refused(namespace: str) -> None:
    # Nobody listens at this port.
    url = "postgresql://nobody@localhost:9/none"
    with pytest.raises(errors.RefusedError, match="can't be a namespace"):
        connections.connect(url, namespace, writeable=True, create=True)
