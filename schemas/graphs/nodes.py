"""Nodes of provenance graphs, as the JSON blocks that hold them (quantum-graph-format.md section 7)."""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from aggregator.schemas import printable
from aggregator.schemas.execution import attempt_metadata, caveats, log_records, statuses, task_metadata

COMPONENTS = ("datasets", "quanta", "logs", "metadata")
"""Multi-block members, in the order of the addresses in `ADDRESSES`."""

DATASETS, QUANTA, LOGS, METADATA = range(4)
"""Positions in `COMPONENTS`."""

ADDRESSES = "nodes.addr"
"""Address file of all nodes."""

T = TypeVar("T")
_HUGE = 1 << 63
Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")]
Status = Annotated[int, msgspec.Meta(ge=statuses.ABORTED, le=statuses.SUCCESSFUL)]
Caveats = Annotated[int, msgspec.Meta(ge=0, le=caveats.ALL)]


class Attempt(msgspec.Struct):
    """One attempt to run a quantum (section 7.2); not frozen, since it is found out bit by bit."""

    attempt: int = 0
    """Position, from 0."""
    status: Status = statuses.UNKNOWN
    """One of `aggregator.schemas.execution.statuses`."""
    caveats: Caveats | None = None
    """Bits of `aggregator.schemas.execution.caveats`, of a success."""
    exception: task_metadata.ExceptionInfo | None = None
    """What ended it, or was accepted as partial success."""
    resource_usage: attempt_metadata.ResourceUsage | None = None
    """What it used."""
    previous_process_quanta: list[Id] = []
    """Quanta that ran earlier in the same process."""

    def __repr__(self) -> str:
        caveat = f", {caveats.text(self.caveats)}" if self.caveats else ""
        exception = "" if self.exception is None else f", {printable.line(self.exception.type_name)}"
        return f"<Attempt {self.attempt}: {statuses.NAMES[self.status]}{caveat}{exception}>"


class Quantum(msgspec.Struct, frozen=True):
    """A regular quantum (section 7.2)."""

    quantum_id: Id
    """UUID, dashed."""
    task_label: str
    """Task label."""
    data_coordinate: msgspec.Raw = msgspec.Raw(b"[]")
    """JSON list of the full data ID's values."""
    inputs: dict[str, list[Id]] = {}
    """Ids of predicted inputs by connection."""
    outputs: dict[str, list[Id]] = {}
    """Ids of predicted outputs by connection, metadata and log included."""
    attempts: list[Attempt] = []
    """All attempts, oldest first; none if the quantum is blocked."""

    @property
    def status(self) -> statuses.Status:
        """Status of the last attempt, or BLOCKED."""
        return statuses.Status(self.attempts[-1].status if self.attempts else statuses.BLOCKED)

    def __repr__(self) -> str:
        n = len(self.attempts)
        attempts = f"{n} attempt{'' if n == 1 else 's'}"
        node = _node(self.task_label, self.data_coordinate)
        return f"<Quantum {self.quantum_id} {node}: {self.status.name}, {attempts}>"


class InitQuantum(msgspec.Struct, frozen=True):
    """The initialisation of a task (section 7.3)."""

    quantum_id: Id
    """UUID, dashed."""
    task_label: str
    """Task label."""
    inputs: dict[str, Id] = {}
    """Id of the input of each connection."""
    outputs: dict[str, Id] = {}
    """Id of the output of each connection, the configuration included."""

    def __repr__(self) -> str:
        return f"<InitQuantum {self.quantum_id} of {printable.line(self.task_label)}>"


class Dataset(msgspec.Struct, frozen=True):
    """A predicted dataset (section 7.1)."""

    dataset_id: Id
    """UUID, dashed."""
    dataset_type_name: str
    """Parent dataset type."""
    run: str
    """RUN collection."""
    produced: bool
    """Whether it was written; true for overall inputs."""
    data_coordinate: msgspec.Raw = msgspec.Raw(b"[]")
    """JSON list of the full data ID's values."""
    producer: Id | None = None
    """Quantum or init quantum that was to write it; nothing for overall inputs."""
    consumers: list[Id] = []
    """Quanta and init quanta that were to read it."""

    def __repr__(self) -> str:
        state = "input" if self.producer is None else "produced" if self.produced else "not produced"
        node = _node(self.dataset_type_name, self.data_coordinate)
        return f"<Dataset {self.dataset_id} {node}: {state}, {len(self.consumers)} consumers>"


def _node(name: str, data_coordinate: msgspec.Raw) -> str:
    """Return name and data ID for people; the names of the values are in the graph, not in the node."""
    return printable.line(f"{name} {bytes(data_coordinate).decode('utf-8', 'replace')}")


class _Unattempted(msgspec.Struct):
    quantum_id: str
    task_label: str
    data_coordinate: msgspec.Raw
    inputs: msgspec.Raw
    outputs: msgspec.Raw
    attempts: msgspec.Raw = msgspec.Raw(b"[]")


class _Logs(msgspec.Struct):
    attempts: list[list[log_records.LogRecord] | None]


class _Metadata(msgspec.Struct):
    attempts: list[task_metadata.TaskMetadata | None]


class _AnyLogs(msgspec.Struct):
    attempts: list[list[Any] | None]


class _AnyMetadata(msgspec.Struct):
    attempts: list[Any]


_quantum_decoder = msgspec.json.Decoder(Quantum)
_dataset_decoder = msgspec.json.Decoder(Dataset)
_init_quanta_decoder = msgspec.json.Decoder(list[InitQuantum])
_logs_decoder = msgspec.json.Decoder(_Logs)
_metadata_decoder = msgspec.json.Decoder(_Metadata)
_unattempted_decoder = msgspec.json.Decoder(_Unattempted)
_coordinate_decoder = msgspec.json.Decoder(tuple[int | str, ...])


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encode_quantum(quantum: Quantum) -> bytes:
    """Return the JSON of a quantum's block."""
    if not any(map(_has_odd_numbers, quantum.attempts)):
        return msgspec.json.encode(quantum)
    # msgspec writes null for what JSON has no word for, and no huge integers; the graph keeps both.
    document = json.loads(msgspec.json.encode(msgspec.structs.replace(quantum, attempts=[])))
    document["attempts"] = msgspec.to_builtins(quantum.attempts)
    return _dump(document)


def _has_odd_numbers(attempt: Attempt) -> bool:
    usage, exception = attempt.resource_usage, attempt.exception
    if usage is not None and not math.isfinite(usage.memory + usage.run_time_cpu):
        return True
    return exception is not None and any(
        not -_HUGE < value < _HUGE for value in exception.metadata.values() if isinstance(value, float | int)
    )


Part = bytes | memoryview | None
"""The JSON of one attempt in a log or metadata block; nothing if it is not known."""


def attempt_pieces(parts: Sequence[Part]) -> list[bytes | memoryview]:
    """Return the JSON of a log or metadata block from the JSON of each attempt (section 7.4), in pieces."""
    pieces: list[bytes | memoryview] = []
    for part in parts:
        pieces += (b",", b"null" if part is None else part)
    return [b'{"attempts":[', *pieces[1:], b"]}"]


def encode_attempts(parts: Sequence[Part]) -> bytes:
    """Return the JSON of a log or metadata block from the JSON of each attempt (section 7.4)."""
    return b"".join(attempt_pieces(parts))


UNREADABLE_EXCEPTION = "aggregator.UnreadableFile"
"""Type of the exception of quanta whose files could not be read, if they are recorded as failed."""


def with_failure(document: bytes, problems: dict[str, str]) -> bytes:
    """Return the JSON of a quantum's block with one failed attempt, whose exception names the file.

    Parameters
    ----------
    document
        The block without attempts.
    problems
        What is wrong, by quantum id.
    """
    quantum = decode_quantum(document)
    exception = task_metadata.ExceptionInfo(UNREADABLE_EXCEPTION, problems[quantum.quantum_id], {})
    attempt = Attempt(attempt=0, status=statuses.FAILED, exception=exception)
    return encode_quantum(msgspec.structs.replace(quantum, attempts=[attempt]))


def without_attempts(document: bytes) -> bytes:
    """Return the JSON of a quantum's block as it is when the quantum is blocked."""
    try:
        quantum = _unattempted_decoder.decode(document)
    except msgspec.DecodeError:
        # There are numbers among the attempts that are not JSON.
        value = json.loads(document)
        value["attempts"] = []
        return _dump(value)
    quantum.attempts = msgspec.Raw(b"[]")
    return msgspec.json.encode(quantum)


def coordinate_values(data_coordinate: msgspec.Raw) -> tuple[int | str, ...]:
    """Return the values of a full data ID."""
    return _coordinate_decoder.decode(data_coordinate)


def decode_quantum(document: bytes) -> Quantum:
    """Return the quantum in a block.

    Raises
    ------
    ValueError
        If there is none; of all decoding functions here.
    """
    task_metadata.check_text(document)
    try:
        return _quantum_decoder.decode(document)
    except msgspec.DecodeError:
        value = task_metadata.parse_lenient(document)
        for usage in _usages(value):
            usage.update({name: math.nan for name, number in usage.items() if number is None})
        return _convert(value, Quantum)


def _usages(quantum: Any) -> list[dict[str, Any]]:
    """Return the resource usages in a parsed quantum, as far as it is one."""
    attempts = quantum.get("attempts") if isinstance(quantum, dict) else None
    entries = [a.get("resource_usage") for a in attempts or () if isinstance(a, dict)]
    return [usage for usage in entries if isinstance(usage, dict)]


def _convert(value: Any, kind: type[T]) -> T:
    """Return a node from a parsed document; integers may be written as floats (section 7.4)."""
    if isinstance(value, dict) and "data_coordinate" in value:
        value["data_coordinate"] = msgspec.Raw(_dump(value["data_coordinate"]))
    return msgspec.convert(value, kind, strict=False)


def decode_dataset(document: bytes) -> Dataset:
    """Return the dataset in a block."""
    task_metadata.check_text(document)
    return _dataset_decoder.decode(document)


def decode_init_quanta(document: bytes) -> list[InitQuantum]:
    """Return the init quanta of a graph."""
    return _init_quanta_decoder.decode(document)


def decode_logs(document: bytes) -> list[list[log_records.LogRecord] | None]:
    """Return the log records of each attempt (section 7.4)."""
    try:
        return _logs_decoder.decode(document).attempts
    except msgspec.DecodeError:
        logs = msgspec.convert(task_metadata.parse_lenient(document), _AnyLogs)
        return [None if r is None else [log_records.convert_record(v) for v in r] for r in logs.attempts]


def decode_metadata(document: bytes) -> list[task_metadata.TaskMetadata | None]:
    """Return the task metadata of each attempt; null, as older writers put it, becomes NaN (section 7.4)."""
    try:
        attempts = _metadata_decoder.decode(document).attempts
    except msgspec.DecodeError:
        documents = msgspec.convert(task_metadata.parse_lenient(document), _AnyMetadata).attempts
        return [
            None if m is None else task_metadata.convert(task_metadata.nulls_replaced(m)) for m in documents
        ]
    for metadata in attempts:
        if metadata is not None:
            task_metadata.check_arrays(metadata)
    return attempts
