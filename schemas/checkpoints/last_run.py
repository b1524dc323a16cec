"""How a checkpoint was used last (JSON): what `status` needs to judge as that run did, and how it ended."""

import msgspec
from aggregator.storage import durable_files, local_files

COMPLETE = "complete"
"""End of a run that did all it was asked for."""


class LastRun(msgspec.Struct, frozen=True):
    """The last run that went as far as scanning."""

    incomplete: bool
    """Whether execution went on meanwhile."""

    dry_run: bool
    """Whether the database was to be left as it was."""

    unreadable_fails: bool
    """Whether quanta whose files can't be read were recorded as failed."""

    output: str | None
    """Where the provenance graph went or was to go."""

    end: str = ""
    """How it ended: `COMPLETE`, or what was wrong; empty while it goes on, and if it was killed."""


def read(path: str) -> LastRun | None:
    """Return the record; nothing if there is none that can be read.

    Raises
    ------
    MachineError
        If the machine is in trouble.
    """
    try:
        return msgspec.json.decode(local_files.read(path), type=LastRun)
    except (OSError, local_files.UnusableError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write(path: str, record: LastRun) -> None:
    """Store the record.

    Raises
    ------
    AggregatorError
        If it can't be written.
    """
    durable_files.write_atomically(path, [msgspec.json.encode(record) + b"\n"])
