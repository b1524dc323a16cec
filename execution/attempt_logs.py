"""Logs of attempts: what earlier ones have left, and that of an attempt whose process is gone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import tempfile
from collections.abc import Sequence
from typing import IO

import msgspec
from aggregator.butler import artifacts, dataset_refs
from aggregator.schemas.execution import log_records, log_writer, task_metadata
from aggregator.storage import durable_files, local_files

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class EarlierLog:
    """A log in the place of a quantum's."""

    earlier: Sequence[log_records.Extra]
    """Attempts that it tells of, oldest first."""

    records: bytes
    """JSON list of the records of the last of them."""


class LogFiles:
    """Where logs are.

    Parameters
    ----------
    files
        Files of datasets.
    """

    def __init__(self, files: artifacts.Artifacts) -> None:
        self._files = files

    def find(self, ref: dataset_refs.DatasetRef) -> EarlierLog | None:
        """Return what is in the place of a log; nothing if there is none.

        One that can't be parsed is kept beside, and counts as an attempt of which nothing else is known: a
        quantum must not become impossible to repeat.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        AggregatorError
            If there is something that is no file, or it can't be kept.
        """
        for file in self._artifacts(ref):
            data = file.read()
            if data is None:
                continue
            try:
                log = log_records.parse(data)
            except ValueError as exc:
                return self._unreadable(file, data, str(exc))
            return EarlierLog(log_writer.earlier_attempts(log), bytes(log.records))
        return None

    def tells_of_failure(self, ref: dataset_refs.DatasetRef) -> bool:
        """Return whether what is in the place of a log is the log of a failed attempt.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        for file in self._artifacts(ref):
            if (data := file.read()) is not None:
                with contextlib.suppress(ValueError):
                    return log_records.parse(data).extra.exception is not None
        return False

    def write(self, ref: dataset_refs.DatasetRef, content: bytes) -> None:
        """Write a log, without a butler, in place of what is there.

        Raises
        ------
        AggregatorError
            If it can't be written.
        """
        for file in self._artifacts(ref):
            file.write(content, checksum=False)

    def _artifacts(self, ref: dataset_refs.DatasetRef) -> list[artifacts.Artifact]:
        return [file for each in self._files.predicted(ref, ref.datasetType.storage_class) for file in each]

    def _unreadable(self, file: artifacts.Artifact, data: bytes, problem: str) -> EarlierLog:
        kept = _keep(file, data)
        text = f"The log of an earlier attempt could not be read ({problem}); it is kept as {kept}"
        _log.warning("%s: %s", file.store.location(file.key), text)
        record = _record(text, logging.WARNING)
        return EarlierLog([log_records.Extra(logs=msgspec.Raw(b"[%b]" % record))], b"[]")


def _keep(file: artifacts.Artifact, data: bytes) -> str:
    """Write the content of a file under a name of its own; return where."""
    for number in itertools.count():
        key = f"{file.key}.corrupt-{number}"
        location = file.store.location(key)
        with durable_files.writing(location):
            try:
                file.store.write(key, data, overwrite=False, durable=True)
            except FileExistsError:
                continue
        return location
    raise AssertionError


def _record(text: str, level: int) -> bytes:
    record = logging.LogRecord(__name__, level, __file__, 1, text, None, None, "write")
    return log_writer.record_text(record, {}, None)


class Spool:
    """A directory where the records of running attempts are, until their logs are written.

    Each process that executes has one file in it, of the attempt that is under way: its id, then its records.

    Parameters
    ----------
    directory
        The directory.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._stream: IO[bytes] | None = None

    def close(self) -> None:
        """Close the file of this process."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()

    def begin(self, quantum_id: object) -> IO[bytes] | None:
        """Return where records of an attempt go, one a line; nothing if there is no room for any.

        Records of the attempt before are gone then.
        """
        try:
            if self._stream is None:
                descriptor, _ = tempfile.mkstemp(dir=self.directory)
                self._stream = open(descriptor, "wb")  # noqa: SIM115  (it stays open for the next)
            self._stream.seek(0)
            self._stream.truncate()
            self._stream.write(b"%b\n" % str(quantum_id).encode())
            self._stream.flush()
        except OSError:
            # Only a process that is killed would need it.
            return None
        return self._stream

    def read(self, quantum_id: object) -> list[bytes]:
        """Return the records of an attempt; one that was not written whole is left out."""
        for name in os.listdir(self.directory):
            with contextlib.suppress(OSError, local_files.UnusableError):
                data = local_files.read(os.path.join(self.directory, name))
                first, *records = data[: data.rfind(b"\n") + 1].split(b"\n")
                if first == str(quantum_id).encode():
                    return [line for line in records if line]
        return []


def write_for_the_dead(
    logs: LogFiles,
    ref: dataset_refs.DatasetRef,
    records: Sequence[bytes],
    exception: task_metadata.ExceptionInfo | None,
    text: str,
) -> None:
    """Write the log of an attempt whose process is gone, unless it has written it before.

    Parameters
    ----------
    logs
        Where logs are.
    ref
        The log.
    records
        What it has logged.
    exception
        How it failed; nothing if it has succeeded.
    text
        What became of its process.
    """
    log = logs.find(ref)
    if log is not None and records and _begins_with(log.records, records[0]):
        return
    extra = log_records.Extra(exception=exception)
    everything = [*records, _record(text, logging.ERROR)]
    logs.write(ref, log_writer.log_file(everything, extra, () if log is None else log.earlier))


def _begins_with(records: bytes, first: bytes) -> bool:
    """Return whether a JSON list begins with a record, as it was written here."""
    return records[1:].startswith(first)
