"""Opening a database by its URL: the one place that knows which kinds there are."""

from collections.abc import Callable
from typing import Final

import sqlalchemy
from aggregator.butler.configuration import sqlite_urls
from aggregator.butler.databases import database, sqlite
from aggregator.storage import errors

_LONGEST: Final = 63
"""Bytes of a PostgreSQL name; of longer ones the rest is ignored."""


def connect(
    url: str,
    namespace: str | None,
    *,
    writeable: bool,
    create: bool = False,
    busy_timeout_ms: int = sqlite.BUSY_TIMEOUT_MS,
    warn: Callable[[str], object] | None = None,
) -> database.Database:
    """Open a database, whatever is in it.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``registry.db`` of the configuration, with the root filled in.
    namespace
        Schema that holds the tables: ``registry.namespace`` of the configuration.
    writeable
        Whether to open it for writing. Otherwise nothing in or beside it is changed.
    create
        Whether a file may not exist yet, or a schema; they are made with the first tables.
    busy_timeout_ms
        How long to wait for another process's lock, milliseconds.
    warn
        Told about each transaction that has to be repeated, and why; by default the log.

    Raises
    ------
    RefusedError
        Raised if there is no such database, or it is of an unknown kind.
    AggregatorError
        Raised if it can't be used at the moment.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # What is wrong with it may be a password.
        raise errors.RefusedError("This is not a database URL; see registry.db in butler.yaml.") from None
    if parsed.get_backend_name() == "postgresql":
        # It takes as long to import as all the rest of this package.
        from aggregator.butler.databases import postgresql

        _check_schema(namespace)
        return postgresql.Postgresql(
            parsed,
            namespace,
            writeable=writeable,
            create=create,
            lock_timeout_ms=busy_timeout_ms,
            warn=warn,
        )
    shown = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() != "sqlite":
        raise errors.RefusedError(f"{shown}: {parsed.get_backend_name()} is not supported by this version.")
    path = sqlite_urls.path(url)
    if path is None or path == ":memory:":
        raise errors.RefusedError(f"{shown}: names no database file; see registry.db in butler.yaml.")
    if namespace is not None:
        raise errors.RefusedError(
            f"{shown}: SQLite has no namespaces; see registry.namespace in butler.yaml."
        )
    return sqlite.Sqlite(path, writeable=writeable, create=create, busy_timeout_ms=busy_timeout_ms, warn=warn)


def _check_schema(namespace: str | None) -> None:
    """Refuse the name of a schema that PostgreSQL or its driver would take for another one."""
    if namespace is None:
        return
    size = len(namespace.encode(errors="replace"))
    if not 0 < size <= _LONGEST or namespace.startswith("pg_") or not {"%", "\0"}.isdisjoint(namespace):
        raise errors.RefusedError(
            f"{namespace!r} can't be a namespace: it has to have 1 to {_LONGEST} bytes, none of them %, and "
            "must not begin with pg_."
        )
