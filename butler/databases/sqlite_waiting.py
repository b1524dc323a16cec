"""Connections to SQLite files that wait for the locks of others bit by bit.

SQLite can wait as well, but inside of it, where no signal is heard: two of them are to end a run at once.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

from aggregator.butler.databases import lock_holders

_T = TypeVar("_T")

_SLICE: Final = 0.5
"""Seconds that SQLite waits on its own."""

_PAUSE: Final = 0.05
"""Seconds between two attempts, as SQLite gives up at once where waiting could be for nothing."""

_SILENCE: Final = 3.0
"""Seconds of waiting after which somebody is told why nothing happens."""

_TRANSIENT: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)
"""What goes by; a snapshot that others have written over (`SQLITE_BUSY_SNAPSHOT`) does not."""


class Connection(sqlite3.Connection):
    """A connection whose statements and commits wait for the locks of others."""

    path = ""
    """The file."""

    patience = 0.0
    """Seconds to wait."""

    warn: Callable[[str], object] = staticmethod(lambda _: None)
    """Told what is waited for, if it takes long."""

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
        began = time.monotonic()
        is_silent = True
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                if error.sqlite_errorcode not in _TRANSIENT or waited > self.patience:
                    raise
            if is_silent and waited >= _SILENCE:
                is_silent = False
                self._tell()
            time.sleep(_PAUSE)

    def _tell(self) -> None:
        # The files beside it are locked instead with a write-ahead log.
        holder = lock_holders.describe(self.path, f"{self.path}-shm")
        self.warn(f"{self.path}: {holder} holds the database; waiting for that, up to {self.patience:.0f} s.")


class _Cursor(sqlite3.Cursor):
    # Many rows at once need no attempts of their own: by then their transaction has locked the file.
    def execute(self, sql: str, parameters: Any = ()) -> Self:
        connection = self.connection
        assert isinstance(connection, Connection)
        execute = super().execute
        return connection.attempt(lambda: execute(sql, parameters))


def connect(uri: str, path: str, patience: float, warn: Callable[[str], object]) -> Connection:
    """Open a file that several threads may use, one after the other.

    Parameters
    ----------
    uri
        URI of the file.
    path
        Its path.
    patience
        Seconds to wait for the locks of others.
    warn
        Told what is waited for, if it takes long.
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
    connection.path, connection.patience, connection.warn = path, patience, warn
    return connection
