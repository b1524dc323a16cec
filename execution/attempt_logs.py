"""Logs of attempts: what earlier ones have left, and that of an attempt whose process is gone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
from collections.abc import Sequence

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
    return log_writer.dump(log_writer.record_document(record, {}, None))


class Spool:
    """A directory where the records of running attempts are, until their logs are written.

    Parameters
    ----------
    directory
        The directory.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, quantum_id: object) -> str:
        """Return the file for a quantum."""
        return os.path.join(self.directory, f"{quantum_id}.jsonl")

    def read(self, quantum_id: object) -> list[bytes]:
        """Return the records of an attempt; one that was not written whole is left out."""
        try:
            data = local_files.read(self.path(quantum_id))
        except (OSError, local_files.UnusableError):
            return []
        return [line for line in data[: data.rfind(b"\n") + 1].split(b"\n") if line]

    def remove(self, quantum_id: object) -> None:
        """Remove the records of an attempt, if there are any."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(quantum_id))


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
