"""Files that are being written outside of a checkpoint, as it knows them (JSON lines).

Each has two lines: one before it is made, one that says which file it is. So whatever moment a run is killed
in, the next one finds what was left, and removes nothing else.
"""

import contextlib
import logging
import os
import stat
from typing import IO

import msgspec
from aggregator.storage import durable_files, local_files

_log = logging.getLogger(__name__)


class _Entry(msgspec.Struct, frozen=True):
    path: bytes
    """Where it is; names need not be text."""
    device: int = 0
    inode: int = 0
    """Which file it is; zeros before it is made."""


_decoder = msgspec.json.Decoder(_Entry)


def create(record: str, path: str) -> IO[bytes]:
    """Make the file in which the content of another one is gathered, and note that.

    Parameters
    ----------
    record
        Where it is noted.
    path
        What it is going to be; its own name is that of the result.

    Raises
    ------
    OSError
        If it can't be made.
    """
    temporary = durable_files.temporary_name(path, "partial")
    _append(record, _Entry(os.fsencode(temporary)))
    stream = open(temporary, "xb")  # noqa: SIM115
    try:
        status = os.fstat(stream.fileno())
        _append(record, _Entry(os.fsencode(temporary), status.st_dev, status.st_ino))
    except BaseException:
        stream.close()
        os.unlink(temporary)
        raise
    return stream


def remove(record: str) -> None:
    """Remove what is noted and still there, and then the note.

    Raises
    ------
    AggregatorError
        If the note can't be read.
    """
    entries: dict[bytes, _Entry] = {}
    noted = local_files.read_part(record) if local_files.exists(record) else b""
    for line in noted.splitlines():
        # One that is cut off tells of a file that was never made.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            entry = _decoder.decode(line)
            entries[entry.path] = entry
    failures = [reason for entry in entries.values() if (reason := _remove(entry))]
    for reason in failures:
        _log.warning("%s", reason)
    if entries and not failures:
        os.unlink(record)


def _remove(entry: _Entry) -> str:
    """Remove a file; return why it can't be, if so."""
    path = os.fsdecode(entry.path)
    try:
        status = os.lstat(path)
        is_it = (status.st_dev, status.st_ino) == (entry.device, entry.inode)
        # A file with this name that is empty was made and not noted any more.
        is_new = not entry.inode and not status.st_size
        is_temporary = durable_files.final_name(path) != path and stat.S_ISREG(status.st_mode)
        if not is_temporary or not (is_it or is_new):
            return f"{path}: is not removed, as it is not the file that a run has left there any more"
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        return f"{path}: can't remove what a run has left ({exc.strerror})"
    return ""


def _append(record: str, entry: _Entry) -> None:
    with durable_files.writing(record), open(record, "ab") as stream:
        stream.write(msgspec.json.encode(entry) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
