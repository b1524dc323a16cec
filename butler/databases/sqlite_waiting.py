"""Connections to SQLite files that wait for the locks of others bit by bit.

SQLite can wait as well, but inside of it, where no signal is heard: two of them are to end a run at once.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

_T = TypeVar("_T")

_SLICE: Final = 0.5
"""Seconds that SQLite waits on its own."""

_PAUSE: Final = 0.05
"""Seconds between two attempts, as SQLite gives up at once where waiting could be for nothing."""

_TRANSIENT: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)
"""What goes by; a snapshot that others have written over (`SQLITE_BUSY_SNAPSHOT`) does not."""


class Connection(sqlite3.Connection):
    """A connection whose statements and commits wait for the locks of others."""

    patience = 0.0
    """Seconds to wait."""

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that waits."""
        return super().cursor(_Cursor)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        """Execute a statement with such a cursor, which the driver would not take for that."""
        return self.cursor().execute(sql, parameters)

    def commit(self) -> None:
        """Commit when all readers are through."""
        self.attempt(super().commit)

    def attempt(self, action: Callable[[], _T]) -> _T:
        """Return what an action returns; try again as long as the file is locked, and patience lasts."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in _TRANSIENT or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)


class _Cursor(sqlite3.Cursor):
    # Many rows at once need no attempts of their own: by then their transaction has locked the file.
    def execute(self, sql: str, parameters: Any = ()) -> Self:
        connection = self.connection
        assert isinstance(connection, Connection)
        execute = super().execute
        return connection.attempt(lambda: execute(sql, parameters))


def connect(uri: str, patience: float) -> Connection:
    """Open a file that several threads may use, one after the other.

    Parameters
    ----------
    uri
        URI of the file.
    patience
        Seconds to wait for the locks of others.
    """
    # No isolation level: otherwise the driver begins and commits on its own, and never immediately.
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=min(patience, _SLICE),
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    connection.patience = patience
    return connection
