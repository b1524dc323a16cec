"""From the files of a quantum to what happened to it (execution-files.md section 4)."""

import dataclasses
import datetime
import re
import uuid

import msgspec
from aggregator.schemas.execution import (
    attempt_metadata,
    json_depth,
    lenient_values,
    log_records,
    statuses,
    task_metadata,
)
from aggregator.schemas.graphs import nodes, pipeline, predicted

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_NO_FAILURE = (b"null", b"{}")
"""Metadata in the log of a success; streaming logs have the second one."""


@dataclasses.dataclass(slots=True)
class Outcome:
    """What happened to a quantum."""

    attempts: list[nodes.Attempt] = dataclasses.field(default_factory=list)
    """All attempts, oldest first."""

    logs: list[nodes.Part] = dataclasses.field(default_factory=list)
    """JSON list of log records of each attempt, if known."""

    metadata: list[bytes | None] = dataclasses.field(default_factory=list)
    """JSON of the task metadata of each attempt, if known."""

    listed: list[str] | None = None
    """Ids of the outputs that the last attempt put, if it says so."""

    is_settled: bool = False
    """Whether it succeeded, and its files are certain to be of one attempt; no other one comes after it."""

    @property
    def status(self) -> int:
        """Status of the last attempt."""
        return self.attempts[-1].status

    def logs_block(self) -> list[bytes | memoryview]:
        """Return the JSON of the quantum's log block, in pieces."""
        return nodes.attempt_pieces(self.logs)

    def metadata_block(self) -> list[bytes | memoryview]:
        """Return the JSON of the quantum's metadata block, in pieces."""
        return nodes.attempt_pieces(self.metadata)


def judge(
    quantum: predicted.Quantum,
    log: bytes | None,
    metadata: bytes | None,
    story: task_metadata.ExceptionInfo | None = None,
) -> Outcome:
    """Return what happened to a quantum.

    Parameters
    ----------
    quantum
        The predicted quantum.
    log, metadata
        Content of its log and metadata files; nothing if a file is missing.
    story
        What became of its job, if there is a record of that; files know better.

    Raises
    ------
    LogError, MetadataError
        If the file's content is invalid.
    """
    outcome = Outcome()
    last = nodes.Attempt(attempt=0, status=statuses.FAILED)
    last_metadata: task_metadata.TaskMetadata | None = None
    parsed: log_records.Log | None = None
    if log is not None:
        try:
            parsed = log_records.parse(log)
            last_metadata = _add_log(outcome, parsed, last)
        except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise LogError(str(exc)) from exc
    if metadata is not None:
        try:
            last_metadata = _add_metadata(outcome, metadata, last, quantum.task_label)
        except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise MetadataError(str(exc)) from exc
    last.attempt = len(outcome.attempts)
    outcome.attempts.append(last)
    if len(outcome.logs) < len(outcome.attempts):
        outcome.logs.append(None)
        last.status = statuses.FAILED if metadata is None else statuses.ABORTED_SUCCESS
        if metadata is None and story is not None:
            last.status, last.exception = statuses.ABORTED, story
    if last.status == statuses.SUCCESSFUL and parsed is not None:
        outcome.is_settled = _is_of_attempt(parsed, last.resource_usage)
    if len(outcome.metadata) < len(outcome.attempts):
        outcome.metadata.append(None)
        last_metadata = None
    if last_metadata is not None:
        _take_listed(outcome, last_metadata, from_log=metadata is None)
    return outcome


def _is_of_attempt(log: log_records.Log, usage: attempt_metadata.ResourceUsage | None) -> bool:
    """Return whether a log is certain to be of the successful attempt that metadata tells of.

    Metadata is written first. Until its own log is there, one of a failed attempt may be, so what the two say
    counts, not when they were written: clocks of file systems tick in seconds. All times in them are by the
    clock of the process that ran the attempt.
    """
    if log.extra.exception is not None or bytes(log.extra.metadata) not in _NO_FAILURE:
        return False
    begin, end = log.extent.begin, log.extent.end
    if begin is None or end is None or usage is None:
        # Execution tells nothing of some failures, so a log without records can be of one.
        return False
    start = in_utc(datetime.datetime.fromisoformat(usage.start))
    seconds = usage.prep_time + usage.init_time + usage.run_time
    return in_utc(begin) <= start + datetime.timedelta(seconds=seconds) and start <= in_utc(end)


def in_utc(time: datetime.datetime) -> datetime.datetime:
    """Return a time with its zone, which is UTC if it tells none."""
    return time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)


class LogError(Exception):
    """The content of the log file is invalid."""


class MetadataError(Exception):
    """The content of the metadata file is invalid."""


def _take_listed(outcome: Outcome, metadata: task_metadata.TaskMetadata, from_log: bool) -> None:
    try:
        listed = attempt_metadata.listed_outputs(metadata)
        outcome.listed = None if listed is None else [_dashed(text) for text in listed]
    except ValueError as exc:
        raise (LogError if from_log else MetadataError)(str(exc)) from exc


def _add_log(
    outcome: Outcome, log: log_records.Log, last: nodes.Attempt
) -> task_metadata.TaskMetadata | None:
    for previous in log.extra.previous_attempts:
        _add_previous(outcome, previous, 1)
    ids = None
    if log.extra.exception is not None or bytes(log.extra.metadata) != b"null":
        last.exception = log.extra.exception
        ids = _add_extra_metadata(outcome, log.extra, last, 0)
    last.previous_process_quanta = list(map(lenient_values.dashed_id, log.extra.previous_process_quanta))
    outcome.logs.append(log.records)
    return ids


def _add_previous(outcome: Outcome, extra: log_records.Extra, depth: int) -> None:
    """Add an earlier attempt, which by definition failed; those before it come first.

    Parameters
    ----------
    outcome
        What to add it to.
    extra
        What is stored of it.
    depth
        In how many others it lies.
    """
    for previous in extra.previous_attempts:
        _add_previous(outcome, previous, depth + 1)
    attempt = nodes.Attempt(attempt=len(outcome.attempts), status=statuses.FAILED, exception=extra.exception)
    records = bytes(extra.logs)
    log_records.check_records(records)
    outcome.logs.append(records)
    outcome.attempts.append(attempt)
    _add_extra_metadata(outcome, extra, attempt, depth)
    attempt.previous_process_quanta = list(map(lenient_values.dashed_id, extra.previous_process_quanta))


def _add_extra_metadata(
    outcome: Outcome, extra: log_records.Extra, attempt: nodes.Attempt, depth: int
) -> task_metadata.TaskMetadata | None:
    text = bytes(extra.metadata)
    if text == b"null":
        outcome.metadata.append(None)
        return None
    # Each attempt lies in a list in an object; in a graph there are as many around it as around the last one.
    outside = max(2 * depth + 1, json_depth.ATTEMPTS)
    text, metadata = task_metadata.parse_for_graph(text, outside)
    attempt.resource_usage = attempt_metadata.resource_usage(metadata)
    outcome.metadata.append(text)
    return metadata


def _add_metadata(
    outcome: Outcome, data: bytes, last: nodes.Attempt, task_label: str
) -> task_metadata.TaskMetadata:
    data, metadata = task_metadata.parse_for_graph(data)
    last.status = statuses.SUCCESSFUL
    last.caveats = attempt_metadata.caveats(metadata)
    # A success can still have the exception that its log told of, if it has none of its own.
    last.exception = attempt_metadata.failure(metadata, task_label) or last.exception
    last.resource_usage = attempt_metadata.resource_usage(metadata)
    outcome.metadata.append(data)
    return metadata


def _dashed(text: str) -> str:
    """Return a UUID in its usual form; raise ValueError if it is none."""
    return text if _UUID.fullmatch(text) else str(uuid.UUID(text))


def quantum_block(quantum: predicted.Quantum, attempts: list[nodes.Attempt]) -> bytes:
    """Return the JSON of a quantum's block (quantum-graph-format.md section 7.2)."""
    node = nodes.Quantum(
        quantum.quantum_id,
        quantum.task_label,
        quantum.data_coordinate,
        {name: [d.dataset_id for d in datasets] for name, datasets in quantum.inputs.items()},
        {name: [d.dataset_id for d in datasets] for name, datasets in quantum.outputs.items()},
        attempts,
    )
    return nodes.encode_quantum(node)


def special_outputs(quantum: predicted.Quantum) -> tuple[predicted.Dataset, predicted.Dataset]:
    """Return the predicted log and metadata of a regular quantum."""
    (log,) = quantum.outputs[pipeline.LOG_CONNECTION]
    (metadata,) = quantum.outputs[pipeline.METADATA_CONNECTION]
    return log, metadata
