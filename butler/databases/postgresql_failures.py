"""What errors of PostgreSQL and its driver mean, and what to do about them."""

from typing import Final

import psycopg
from aggregator.butler.databases import database
from aggregator.storage import errors

_Oops = tuple[type[psycopg.Error], ...]

_ROLLED_BACK: Final[_Oops] = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

_LOST: Final = ("08", "25006", "25P03", "53300", "57P01", "57P02", "57P03", "57P05")
"""How the server's codes begin for a connection that is gone, was not made, or leads to a standby."""

_MADE_BY_ANOTHER: Final[_Oops] = (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)

_USELESS: Final = (
    "does not exist",
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    # A pooler's words.
    "no such database",
    "no such user",
    "unsupported startup parameter",
)
"""Parts of messages about connections that will not be made either the next time."""

STATEMENT_POOLING: Final = (
    "a pooler with statement pooling is in between, which gives each statement another connection, so that "
    "there are no transactions. Let it pool transactions or sessions (pool_mode of PgBouncer)"
)

STANDBY: Final = "is a standby, or set to be read-only, so it takes no changes; connect to the primary server"


def explain(error: BaseException, place: str, wait: float, *, is_open: bool) -> errors.AggregatorError:
    """Make the error that says what failed, where, and what to do next.

    Parameters
    ----------
    error
        Error of the driver.
    place
        The database, for messages.
    wait
        How long another process's lock is waited for, seconds.
    is_open
        Whether the database has been used before: then nothing can be refused any more, since something may
        have been changed.
    """
    text = f"{place}: {_one_line(error)}"
    if isinstance(error, psycopg.errors.UniqueViolation) and error.diag.schema_name == "pg_catalog":
        return database.TransientError(f"{text} (another process was quicker).")
    if isinstance(error, psycopg.IntegrityError):
        return database.ConstraintError(f"{place}: the database refuses a row: {_one_line(error)}")
    if isinstance(error, _ROLLED_BACK + _MADE_BY_ANOTHER):
        return database.TransientError(f"{text} (the transaction was rolled back).")
    if _is_lost(error):
        return _lost(error, place, is_open=is_open)
    if isinstance(error, psycopg.errors.LockNotAvailable):
        advice = f"another process held a lock for {wait:g} s; try again when that has finished"
    elif isinstance(error, psycopg.errors.InsufficientPrivilege):
        advice = "grant the role what it lacks, or use another one"
    elif isinstance(error, psycopg.errors.DiskFull):
        advice = "free some space on the server and try again; the transaction was rolled back"
    else:
        advice = "the transaction was rolled back"
    return errors.AggregatorError(f"{text} ({advice}).")


def _is_lost(error: BaseException) -> bool:
    """Return whether a connection is gone: by the server's word, or without a word of it."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_LOST)


def _lost(error: BaseException, place: str, *, is_open: bool) -> errors.AggregatorError:
    """Make the error of a connection that is gone or was not made."""
    text = f"{place}: {_one_line(error)}"
    refused = errors.AggregatorError if is_open else errors.RefusedError
    if "statement pooling" in text:
        return refused(f"{place}: {STATEMENT_POOLING}.")
    # The driver does not pass on the server's codes while it connects.
    if getattr(error, "sqlstate", None) is None and any(word in text for word in _USELESS):
        return refused(
            f"{text}. See registry.db in butler.yaml, db-auth.yaml and the PG* variables, or the settings of "
            "the pooler in between."
        )
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return database.LostError(f"{text}: the server {STANDBY}.")
    if not is_open:
        return database.LostError(f"{text}. Try again when the server can be reached.")
    # Of a COMMIT perhaps only the answer was lost.
    return database.LostError(f"{text} (what was not committed was rolled back).")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
