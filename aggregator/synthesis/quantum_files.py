"""The files that quanta leave: logs, metadata and other outputs (execution-files.md sections 1, 2 and 5)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from aggregator.schemas.execution import caveats
from aggregator.synthesis import (
    attempts,
    datasets,
    log_texts,
    metadata_texts,
    node_numbers,
    parameters,
    quantum_outcomes,
    survey_pipeline,
)

_ANY: Final = caveats.ANY_OUTPUTS_MISSING
_NONE: Final = _ANY | caveats.ALL_OUTPUTS_MISSING
_NO_WORK: Final = _NONE | caveats.NO_WORK
_ADJUSTED: Final = _NO_WORK | caveats.ADJUST_QUANTUM_RAISED
_CAVEATS: Final = (
    _NO_WORK,
    _ADJUSTED,
    _NO_WORK | caveats.UPSTREAM_FAILURE_NO_WORK,
    _NO_WORK | caveats.UNPROCESSABLE_DATA,
    caveats.PARTIAL_OUTPUTS_ERROR,
)
"""Caveats of successes without all outputs; the last one says nothing yet of which are missing."""

_EXCEPTIONS: Final = (
    ("builtins.ValueError", "No finite pixels in %d of %d regions; median is %.5f"),
    ("builtins.RuntimeError", "Solver gave up after %d of %d steps: condition number %.5f"),
    ("synthetic.tasks.MatchingFailedError", "Only %d of %d sources match the catalogue (%.5f arcsec)"),
    ("synthetic.tasks.BadPsfError", 'Fit "moments" with %d of %d stars diverged: shape %.5f'),
)
_METADATA_REST: Final = 2_300
"""Size of the metadata that the execution adds to a task's own, in bytes."""


class Execution:
    """Writes the files of quanta.

    Parameters
    ----------
    options
        Parameters of the run.
    graph
        The run's nodes.
    described
        The run's datasets.
    """

    def __init__(
        self, options: parameters.SynthesisParameters, graph: node_numbers.Nodes, described: datasets.Datasets
    ) -> None:
        self._options = options
        self._nodes = graph
        self._datasets = described
        self._store = described.store.files

    def write(self, chunk: node_numbers.Chunk, chunk_fates: quantum_outcomes.Fates) -> None:
        """Write all files of the quanta of a chunk; those that exist are replaced."""
        task = survey_pipeline.TASKS[chunk.task]
        size = max(0, round((self._options.metadata_size - _METADATA_REST) * task.weight))
        section = metadata_texts.section(task.label, size)
        places = self._places(task, chunk)
        ids = self._nodes.ids_of_chunk(chunk)
        done: list[str] = []
        attempts_of_quanta = attempts.make(self._options, chunk, chunk_fates, section)
        for i, (tried, luck) in enumerate(attempts_of_quanta):
            if i % attempts.PER_PROCESS == 0:
                done = []
            if chunk_fates[i] != quantum_outcomes.BLOCKED:
                quantum = _Quantum(task, section, places.data_ids[i], places.outputs[i], luck)
                self._write_quantum(quantum, int(chunk_fates[i]), tried, done)
                done.append(ids[i])

    def _places(self, task: survey_pipeline.Task, chunk: node_numbers.Chunk) -> "_Places":
        values = self._datasets.values(task.kind, chunk.rows)
        columns = []
        for each in task.all_outputs:
            ids = self._nodes.dataset_ids(each.dataset_type, chunk.rows)
            columns.append(zip(ids, self._datasets.paths(each.dataset_type, values, ids), strict=True))
        data_ids = [self._datasets.data_id_text(task.kind, each) for each in values]
        return _Places(data_ids, list(zip(*columns, strict=True)))

    def _write_quantum(
        self, quantum: "_Quantum", fate: int, tried: list[attempts.Attempt], done: list[str]
    ) -> None:
        caveat, written = _success(quantum, fate)
        if fate in (quantum_outcomes.FAILED, quantum_outcomes.KILLED):
            written = quantum.outputs[: int(quantum.luck[0] * 2)]
        for dataset_id, path in written:
            self._put(path, self._content(dataset_id))
        if fate == quantum_outcomes.KILLED:
            return
        ids = [dataset_id for dataset_id, _ in written]
        metadata, log = quantum.special
        if fate not in (quantum_outcomes.FAILED, quantum_outcomes.UNFINISHED):
            text = _metadata(quantum, tried[-1], ids, caveat).encode()
            damaged = fate == quantum_outcomes.CORRUPT and quantum.luck[1] < 0.5
            self._put(metadata[1], _damage(text, quantum.luck[2]) if damaged else text)
        if fate != quantum_outcomes.LOGLESS:
            text = _log(quantum, tried, ids, done, failed=fate == quantum_outcomes.FAILED).encode()
            damaged = fate == quantum_outcomes.CORRUPT and quantum.luck[1] >= 0.5
            self._put(log[1], _damage(text, quantum.luck[2]) if damaged else text)

    def _content(self, dataset_id: str) -> bytes:
        size = self._options.output_size
        return ((dataset_id.encode() + b"\n") * (size // (len(dataset_id) + 1) + 1))[:size] if size else b""

    def _put(self, path: str, content: bytes) -> None:
        self._store.write(path, content, overwrite=True)


@dataclasses.dataclass(frozen=True, slots=True)
class _Places:
    """Where the files of a chunk go."""

    data_ids: list[str]
    """Data ID of each quantum as text."""

    outputs: list[tuple[tuple[str, str], ...]]
    """Id and path of the outputs of each quantum, metadata and log last."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Quantum:
    """One quantum with what its files depend on."""

    task: survey_pipeline.Task
    """Its task."""

    section: metadata_texts.Section
    """Form of the task's metadata."""

    data_id: str
    """Its data ID as text."""

    everything: tuple[tuple[str, str], ...]
    """Id and path of all its outputs."""

    luck: list[float]
    """Numbers between 0 and 1."""

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """Id and path of the task's outputs."""
        return self.everything[:-2]

    @property
    def special(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Id and path of metadata and log."""
        return self.everything[-2], self.everything[-1]


def _success(quantum: _Quantum, fate: int) -> tuple[int, Sequence[tuple[str, str]]]:
    """Return the caveats of a quantum and what it writes, if it succeeds."""
    if fate != quantum_outcomes.CAVEAT:
        return 0, quantum.outputs
    caveat = _CAVEATS[int(quantum.luck[3] * len(_CAVEATS))]
    if caveat != caveats.PARTIAL_OUTPUTS_ERROR:
        return caveat, ()
    written = quantum.outputs[:1] if len(quantum.outputs) > 1 else ()
    return caveat | (_ANY if written else _NONE), written


def _metadata(quantum: _Quantum, attempt: attempts.Attempt, ids: list[str], caveat: int | None) -> str:
    """Return the metadata of an attempt; without caveats it is that of a failure."""
    numbers = attempt.numbers
    if caveat == _NO_WORK:
        # Statistics of nothing.
        numbers = (math.nan, math.inf, *numbers[2:])
    members = quantum.section.text % numbers
    if caveat == _NO_WORK:
        members = members.replace(":nan", ":NaN", 1).replace(":inf", ":Infinity", 1)
    stages: list[Any] = attempt.stages
    listed: list[str] | None = ids
    nested = "{}"
    if caveat == _ADJUSTED:
        width = len(stages) // len(metadata_texts.STAGES)
        stages, listed = stages[:width] + stages[-width:], None
    elif caveat is not None:
        nested = metadata_texts.metrics(attempt.luck, len(ids))
    if caveat is not None and caveat & caveats.PARTIAL_OUTPUTS_ERROR:
        kind, message = _exception(attempt)
        failure = (
            f'{{"failure":{{"scalars":{{"message":"{message}","type":"{kind}"}},"arrays":{{}},'
            f'"metadata":{{"metadata":{{"scalars":{{"badness":{attempt.luck[3]!r}}},"arrays":{{}},'
            '"metadata":{}}}}}'
        )
        members = members.replace('"metadata":{}', f'"metadata":{failure}', 1)
    return metadata_texts.document(members, attempt.host, stages, listed, caveat, nested)


def _exception(attempt: attempts.Attempt) -> tuple[str, str]:
    """Return type and message of an exception, as JSON texts without their quotes."""
    luck = attempt.luck
    kind, message = _EXCEPTIONS[int(luck[0] * len(_EXCEPTIONS))]
    text = message % (luck[1] * 50, 50 + luck[2] * 400, luck[3])
    return kind, msgspec.json.encode(text).decode()[1:-1]


def _log(
    quantum: _Quantum, tried: list[attempts.Attempt], ids: list[str], done: list[str], *, failed: bool
) -> str:
    """Return the log of a quantum with all its attempts."""
    previous = []
    for attempt in tried[:-1]:
        extra = _extra(quantum, attempt, [], failed=True)
        records = _records(quantum, attempt, failed=True)
        previous.append(f'{{{extra},"previous_process_quanta":[],"logs":{records},"previous_attempts":[]}}')
    before = f'["{joined}"]' if (joined := '","'.join(done)) else "[]"
    records = _records(quantum, tried[-1], failed=failed)
    return (
        f'{{"extended":true,"version":2,"records":{records},{_extra(quantum, tried[-1], ids, failed=failed)},'
        f'"previous_process_quanta":{before},"logs":[],"previous_attempts":[{",".join(previous)}]}}'
    )


def _extra(quantum: _Quantum, attempt: attempts.Attempt, ids: list[str], *, failed: bool) -> str:
    """Return what a log says of the end of an attempt."""
    if not failed:
        return '"exception":null,"metadata":null'
    kind, message = _exception(attempt)
    return (
        f'"exception":{{"type_name":"{kind}","message":"{message}","metadata":{{}}}},'
        f'"metadata":{_metadata(quantum, attempt, ids, None)}'
    )


def _records(quantum: _Quantum, attempt: attempts.Attempt, *, failed: bool) -> str:
    label = quantum.task.label
    ending = log_texts.tail(attempt.process, label, quantum.data_id, survey_pipeline.OUTPUT_RUN)
    failure = _exception(attempt) if failed else None
    return log_texts.records(
        label, quantum.data_id, attempt.times, attempt.values, ending, attempt.seconds, failure
    )


def _damage(content: bytes, luck: float) -> bytes:
    """Return a file's content as a full disk or a broken machine leaves it."""
    if luck < 0.6:
        return content[: 1 + int(len(content) * luck)]
    return bytes((byte * 7 + 131) % 256 for byte in content[:200])
