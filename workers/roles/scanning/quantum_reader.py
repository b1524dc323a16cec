"""From the files of quanta to what goes into a digest, with many under way where they take long."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from aggregator.schemas import messages
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.graphs import predicted
from aggregator.schemas.jobs import stories
from aggregator.storage import in_flight
from aggregator.workers.roles.scanning import execution_files, outcome, previous_digest

Other = TypeVar("Other")

_LARGE = 1 << 18
"""Bytes of the blocks of a quantum that is not to wait in memory with many others."""

_NO_BLOCKS = b"", b"", b""


@dataclasses.dataclass(slots=True)
class Reading:
    """What the files of a quantum tell."""

    quantum: predicted.Quantum
    """The quantum."""

    status: int
    """What became of it."""

    framed: tuple[bytes, bytes, bytes]
    """Its quantum, log and metadata blocks; empty where there is none."""

    produced: set[str]
    """Ids of the outputs that it produced, as far as is known."""

    unknown: list[predicted.Dataset]
    """Outputs that have to be looked for."""

    looked: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)
    """What was looked at (`execution_files.ExecutionFiles.take_looked`)."""

    problem: messages.Problem | None = None
    """A file that can't be read."""

    is_settled: bool = False
    """Whether its files need not be looked at again (`outcome.Outcome.is_settled`)."""


class QuantumReader:
    """Reads the files of quanta.

    Parameters
    ----------
    files
        Finds them.
    requests
        Does several operations at a time where they take long.
    frame
        Makes a block of a JSON document in pieces.
    job_stories
        What records of jobs tell of quanta without files.
    """

    def __init__(
        self,
        files: execution_files.ExecutionFiles,
        requests: in_flight.Requests,
        frame: Callable[[Sequence[bytes | memoryview]], bytes],
        job_stories: stories.Stories,
    ) -> None:
        self._files = files
        self._requests = requests
        self._frame = frame
        self._stories = job_stories

    def begin(self, quantum: predicted.Quantum) -> None:
        """Begin what `read` waits for."""
        for dataset in outcome.special_outputs(quantum):
            self._files.begin_reading(dataset)

    def read(self, quantum: predicted.Quantum) -> Reading:
        """Return what the log and the metadata of a regular quantum tell."""
        try:
            reading = self._judge(quantum)
        except execution_files.UnreadableError as exc:
            reading = self._unreadable(quantum, exc)
        reading.looked += self._files.take_looked()
        self._begin_looking(reading.unknown)
        return reading

    def init(self, quantum: predicted.Quantum) -> Reading:
        """Return what is known of an init quantum; it has no files of its own, just outputs."""
        outputs = list(itertools.chain.from_iterable(quantum.outputs.values()))
        self._begin_looking(outputs)
        return Reading(quantum, digest.INIT, _NO_BLOCKS, set(), outputs)

    def _begin_looking(self, datasets: Iterable[predicted.Dataset]) -> None:
        if self._requests.at_once > 1:
            for dataset in datasets:
                self._files.begin_looking(dataset)

    def complete(self, readings: Iterable[Reading | Other]) -> Iterator[Reading | Other]:
        """Yield readings in their order, after all their outputs were looked for, and anything else as it is.

        More are taken while looks take long.
        """
        waiting: collections.deque[Reading | Other] = collections.deque()
        for reading in readings:
            waiting.append(reading)
            while waiting and self._is_due(waiting[0], waiting[-1], len(waiting)):
                yield self._completed(waiting.popleft())
        for reading in waiting:
            yield self._completed(reading)

    def _is_due(self, first: Reading | Other, last: Reading | Other, n_waiting: int) -> bool:
        """Return whether the first of those that wait is to be completed, even if that means to wait."""
        at_once = self._requests.at_once
        if at_once == 1 or n_waiting > at_once or not isinstance(first, Reading):
            return True
        is_large = isinstance(last, Reading) and sum(map(len, last.framed)) > _LARGE
        return is_large or self._files.is_looked_for(first.unknown)

    def _completed(self, reading: Reading | Other) -> Reading | Other:
        if not isinstance(reading, Reading) or not reading.unknown:
            return reading
        try:
            reading.produced.update(d.dataset_id for d in reading.unknown if self._files.exists(d))
            completed = reading
        except execution_files.UnreadableError as exc:
            completed = self._unreadable(reading.quantum, exc, reading.status == digest.INIT)
        completed.looked = reading.looked + self._files.take_looked()
        return completed

    def _unreadable(
        self, quantum: predicted.Quantum, exc: execution_files.UnreadableError, init: bool = False
    ) -> Reading:
        framed = _NO_BLOCKS if init else (self._frame([outcome.quantum_block(quantum, [])]), b"", b"")
        problem = messages.Problem(quantum.quantum_id, exc.path, exc.reason)
        return Reading(quantum, digest.UNREADABLE, framed, set(), [], problem=problem)

    def _judge(self, quantum: predicted.Quantum) -> Reading:
        """Return what happened to a quantum.

        Raises
        ------
        UnreadableError
            If a file of it can't be read or is invalid.
        """
        log_dataset, metadata_dataset = outcome.special_outputs(quantum)
        log, metadata = self._files.read(log_dataset), self._files.read(metadata_dataset)
        is_silent = log.data is None and metadata.data is None
        story = self._stories.of(quantum.quantum_id) if is_silent else None
        try:
            judgement = outcome.judge(quantum, log.data, metadata.data, story)
        except outcome.LogError as exc:
            raise execution_files.UnreadableError(log.path, str(exc)) from exc
        except outcome.MetadataError as exc:
            raise execution_files.UnreadableError(metadata.path, str(exc)) from exc
        files = {log_dataset.dataset_id: log, metadata_dataset.dataset_id: metadata}
        produced = {dataset_id for dataset_id, file in files.items() if file.data is not None}
        unknown = []
        if judgement.listed is None:
            outputs = itertools.chain.from_iterable(quantum.outputs.values())
            unknown = [dataset for dataset in outputs if dataset.dataset_id not in files]
        else:
            predicted_ids = {d.dataset_id for datasets in quantum.outputs.values() for d in datasets}
            strange = [dataset_id for dataset_id in judgement.listed if dataset_id not in predicted_ids]
            if strange:
                path = log.path if metadata.data is None else metadata.path
                raise execution_files.UnreadableError(path, f"lists output {strange[0]}, not predicted")
            produced.update(judgement.listed)
        framed = (
            self._frame([outcome.quantum_block(quantum, judgement.attempts)]),
            self._frame(judgement.logs_block()),
            self._frame(judgement.metadata_block()),
        )
        reading = Reading(quantum, judgement.status, framed, produced, unknown)
        reading.is_settled = judgement.is_settled
        if is_silent:
            # Another story, or none any more, is to be noticed by the next run.
            name = previous_digest.STORY + quantum.quantum_id
            reading.looked.append((name, self._stories.tag(quantum.quantum_id)))
        return reading
