"""How connections to a PostgreSQL server are made, and what holds in each transaction."""

import functools
from typing import Any, Final

import psycopg
import psycopg.adapt
import sqlalchemy

CONNECTION: Final[dict[str, Any]] = {
    "connect_timeout": 30,
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 120_000,
    "fallback_application_name": "quantum-graph-aggregator",
}
"""Parameters of every connection, unless the URL has others: a server that is gone is noticed after two
minutes."""

TRANSACTION: Final[dict[str, str]] = {
    # A batch takes as long as it takes: what somebody set for the queries of people does not count.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What holds in each transaction, whatever server, database, role or pooler say."""


class _DigitsLoader(psycopg.adapt.Loader):
    """Reads a UUID without making an object of it."""

    def load(self, data: psycopg.adapt.Buffer) -> str:
        """Return the digits."""
        return bytes(data).decode("ascii").replace("-", "")


def make(url: sqlalchemy.URL, *, writeable: bool, lock_timeout_ms: int) -> sqlalchemy.Engine:
    """Make the engine of a database; nothing is connected yet.

    Parameters
    ----------
    url
        Where it is, with everything that is needed to get in.
    writeable
        Whether transactions may write; otherwise the server refuses all changes.
    lock_timeout_ms
        How long to wait for another process's lock, milliseconds.
    """
    # A timeout of 0 would be none at all.
    settings = {"lock_timeout": str(max(1, lock_timeout_ms)), **TRANSACTION}
    commands = "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())
    engine = sqlalchemy.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={
            **CONNECTION,
            **url.query,
            # Statements prepared behind a pooler of connections may be unknown to the next one it gives us.
            "prepare_threshold": None,
            # Of a database in SQL_ASCII the driver would make bytes.
            "client_encoding": "UTF8",
        },
        isolation_level="READ COMMITTED",
        execution_options={} if writeable else {"postgresql_readonly": True},
        # A connection that was lost between two transactions is replaced without a word.
        pool_pre_ping=True,
        hide_parameters=True,
    )
    sqlalchemy.event.listen(engine, "connect", _adapt)
    sqlalchemy.event.listen(engine, "begin", functools.partial(_begin, commands))
    return engine


def _adapt(connection: psycopg.Connection[Any], _: Any) -> None:
    connection.adapters.register_loader("uuid", _DigitsLoader)


def _begin(commands: str, connection: sqlalchemy.Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    if driver.info.server_version >= 170000:
        commands += "; SET LOCAL transaction_timeout = 0"
    connection.exec_driver_sql(commands)
