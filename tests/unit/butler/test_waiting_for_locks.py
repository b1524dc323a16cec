"""Waiting for the locks of a SQLite file: a second signal ends it, which SQLite itself would not hear."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
from aggregator.butler.databases import database, lock_holders, sqlite, sqlite_waiting
from aggregator.storage import errors


class _Stop(BaseException):
    pass


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a file with a table."""
    result = tmp_path / "some.sqlite3"
    with contextlib.closing(sqlite3.connect(result)) as connection:
        connection.execute("CREATE TABLE some (number INTEGER)")
    return result


@contextlib.contextmanager
def held(path: pathlib.Path, *statements: str) -> Iterator[sqlite3.Connection]:
    """Let somebody else hold locks."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement).fetchall()
        yield other


@contextlib.contextmanager
def opened(path: pathlib.Path, seconds: float) -> Iterator[database.Database]:
    """Open it with a connection that was used."""
    db = sqlite.Sqlite(str(path), writeable=True, busy_timeout_ms=round(seconds * 1000))
    try:
        db.read(look)
        yield db
    finally:
        db.close()


def look(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("SELECT count(*) FROM some").all()


def insert(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO some VALUES (1)")


CASES = {
    "begins": (("BEGIN IMMEDIATE",), lambda db: db.write(insert)),
    "reads": (("BEGIN EXCLUSIVE",), lambda db: db.read(look)),
    "commits": (("BEGIN", "SELECT * FROM some"), lambda db: db.write(insert)),
    "opens": (("BEGIN EXCLUSIVE",), lambda db: (db.engine.dispose(), db.read(look))),
}


@pytest.mark.parametrize("case", CASES)
def test_signal_ends_it(path: pathlib.Path, case: str) -> None:
    statements, action = CASES[case]

    def stop(*_: object) -> None:
        raise _Stop

    before = signal.signal(signal.SIGALRM, stop)
    began = time.monotonic()
    try:
        with opened(path, 120.0) as db, held(path, *statements):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(_Stop):
                action(db)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 60
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM some").fetchone() == (0,)


@pytest.mark.parametrize("case", CASES)
def test_patience_ends(path: pathlib.Path, case: str) -> None:
    statements, action = CASES[case]
    with (
        opened(path, 0.7) as db,
        held(path, *statements),
        pytest.raises(errors.AggregatorError, match=r"another process held it for 0\.7 s"),
    ):
        action(db)


def test_all_is_well_afterwards(path: pathlib.Path) -> None:
    """What could not be committed for a while is committed once."""
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM some").fetchall()
    end: Callable[..., object] = lambda *_: reader.close()  # noqa: E731
    before = signal.signal(signal.SIGALRM, end)
    try:
        with opened(path, 120.0) as db:
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            db.write(insert)
    finally:
        signal.signal(signal.SIGALRM, before)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM some").fetchone() == (1,)


def test_long_waiting_is_told(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each wait, with what is waited for."""
    monkeypatch.setattr(sqlite_waiting, "_SILENCE", 0.0)
    messages = []
    with opened(path, 120.0) as db, held(path, "BEGIN IMMEDIATE") as other:

        def warn(message: str) -> None:
            messages.append(message)
            other.execute("ROLLBACK")

        db.warn = warn
        db.write(insert)
    [message] = messages
    assert message == f"{path}: another process holds the database; waiting for that, up to 120 s."


def test_holder_of_a_lock_is_named(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others than this process, which is none of them."""
    own = os.getpid()
    with held(path, "BEGIN", "SELECT * FROM some") as reader:
        assert lock_holders.describe(str(path)) == "another process"
        monkeypatch.setattr(os, "getpid", lambda: 1)
        command = pathlib.Path(f"/proc/{own}/comm").read_text().strip()
        assert lock_holders.describe(str(path)) == f"process {own} ({command})"
        reader.execute("ROLLBACK")
        assert lock_holders.describe(str(path)) == "another process"
