"""Brings what packs have of quanta to a repository, and decides between two attempts at one quantum.

Only what execution would leave is written, where it would, and in its order: outputs, metadata, log. So
whoever is killed in between leaves what an execution leaves that was killed, and the next delivery goes on.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import itertools
from collections.abc import Sequence
from typing import Final, Self

import msgspec

from aggregator.schemas import packs
from aggregator.schemas.execution import log_records
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors, in_flight
from aggregator.transfer import delivered_files, payloads, result_summaries, scanned_run
from aggregator.workers.roles.scanning import outcome

_AT_ONCE: Final = 16
"""Quanta that are written at a time."""


class _Verdict(enum.Enum):
    """What is to be done with what a pack has of a quantum."""

    GO_ON = enum.auto()
    """Bring what is missing: nothing else is there."""

    REPLACE = enum.auto()
    """Let it take the place of an earlier attempt."""

    LEAVE = enum.auto()
    """Leave it: the repository has something better."""

    CONFLICT = enum.auto()
    """Leave it: nobody knows what the repository has."""


class DeliveredQuanta:
    """Brings quanta to a repository, several at a time; a context manager that waits for what it has begun.

    Parameters
    ----------
    run
        The run in the repository.
    done
        What was done.
    overwrite_orphans
        Whether to replace outputs of which nothing tells whose they are.
    """

    def __init__(
        self, run: scanned_run.ScannedRun, done: result_summaries.DeliverSummary, overwrite_orphans: bool
    ) -> None:
        self._run = run
        self._done = done
        self._overwrites = overwrite_orphans
        self.there: list[packs.PackedQuantum] = []
        """Quanta of a pack whose files are in the repository now, init quanta aside; cleared by others."""
        self._requests = in_flight.Requests(_AT_ONCE)
        self._jobs: collections.deque[in_flight.Job[delivered_files.Written]] = collections.deque()
        self._init = {quantum.quantum_id: quantum for quantum in run.graph.init_quanta()}

    def deliver(self, source: payloads.Source, row: packs.PackedQuantum) -> None:
        """Bring what a pack has of a quantum.

        Raises
        ------
        FormatError
            If it does not fit to the graph, or the pack is damaged.
        AggregatorError
            If something can't be read or written.
        """
        if row.id in self._init:
            self._deliver_init(source, self._init[row.id], row)
            return
        quantum = self._run.find(row.id) if packs.is_flat_name(row.id) else None
        if quantum is None:
            raise errors.FormatError(
                source.pack.path, packs.QUANTA, f"names quantum {row.id!r}, which the graph has not"
            )
        if not row.files:
            is_attempted = row.status != packs.NOT_ATTEMPTED
            self._done.n_not_attempted += not is_attempted
            self._done.n_withheld += is_attempted
            return
        targets = self._targets(source, quantum, row)
        missing = [target for target in targets if not delivered_files.is_same(target)]
        if absent := [each.file.name for each in missing if not source.has(each.file.name)]:
            self._done.missing += absent
            return
        if not missing:
            self._done.n_present += 1
            self.there.append(row)
            return
        # What comes there from now on is another process's.
        replaced = {each.place.location for each in missing if delivered_files.is_there(each.place)}
        match self._verdict(source, quantum, row, targets, missing):
            case _Verdict.LEAVE:
                self._done.n_outdone += 1
                return
            case _Verdict.CONFLICT:
                return
            case _Verdict.REPLACE:
                self._remove_others(quantum, targets)
        self._begin(source, missing, replaced)
        self.there.append(row)

    def _begin(
        self, source: payloads.Source, targets: Sequence[delivered_files.Target], replaced: set[str]
    ) -> None:
        """Begin to write the files of a quantum: most of the time is waiting until they are durable."""
        self._jobs.append(self._requests.begin(delivered_files.write, source, targets, replaced))
        if len(self._jobs) > _AT_ONCE:
            self._take(self._jobs.popleft())

    def complete(self) -> None:
        """Wait until all that was begun is written.

        Raises
        ------
        AggregatorError
            If something can't be written.
        """
        while self._jobs:
            self._take(self._jobs.popleft())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Nobody may write any more when others may come.
        for job in self._jobs:
            if not job.cancel():
                with contextlib.suppress(Exception):
                    self._take(job)
        self._requests.close()

    def _take(self, job: in_flight.Job[delivered_files.Written]) -> None:
        """Count a quantum when it is written."""
        self._count(job.result())
        self._done.n_quanta += 1

    def _count(self, written: delivered_files.Written) -> None:
        self._done.n_files += written.n_files
        self._done.n_bytes += written.n_bytes
        self._done.replaced += written.replaced

    def block(self, row: packs.PackedQuantum) -> predicted.Quantum:
        """Return a quantum that was delivered."""
        quantum = self._run.find(row.id)
        assert quantum is not None
        return quantum

    def _targets(
        self, source: payloads.Source, quantum: predicted.Quantum, row: packs.PackedQuantum
    ) -> list[delivered_files.Target]:
        """Return where the files of a quantum go; metadata and log come last."""
        files = {(file.dataset_id, file.component): file for file in row.files}
        targets = []
        for dataset in scanned_run.in_order(quantum):
            for place in itertools.chain.from_iterable(self._run.places(dataset)):
                file = files.get((dataset.dataset_id, place.component))
                if file is None:
                    continue
                if file.formatter != place.formatter:
                    raise errors.AggregatorError(
                        f"{source.pack.path}: output {file.dataset_id} was written with {file.formatter}, "
                        f"the repository has {place.formatter} for it ({self._run.config.path}). Its "
                        "configuration has changed since the job was packed."
                    )
                targets.append(delivered_files.Target(file, place))
        if strange := files.keys() - {(each.file.dataset_id, each.file.component) for each in targets}:
            problem = f"has {min(strange, key=str)[0]!r} among the outputs of quantum {row.id}"
            problem += ", which the graph does not say"
            raise errors.FormatError(source.pack.path, packs.QUANTA, problem)
        return targets

    def _deliver_init(
        self, source: payloads.Source, quantum: predicted.Quantum, row: packs.PackedQuantum
    ) -> None:
        """Bring init outputs, unless they are there: a run has one configuration."""
        configs = {dataset.dataset_id for dataset in quantum.outputs.get(pipeline.CONFIG_CONNECTION, ())}
        for target in self._targets(source, quantum, row):
            if not target.place.store.is_there(target.place.key):
                self._count(delivered_files.write(source, [target], ()))
            elif delivered_files.is_same(target):
                continue
            elif target.file.dataset_id in configs:
                raise errors.RefusedError(
                    f"{source.pack.path}: a job has run with another configuration than the repository has "
                    f"in {target.place.location}. Find out why, and execute its quanta again."
                )
            else:
                self._done.kept.append(target.place.location)

    def _verdict(
        self,
        source: payloads.Source,
        quantum: predicted.Quantum,
        row: packs.PackedQuantum,
        targets: Sequence[delivered_files.Target],
        missing: Sequence[delivered_files.Target],
    ) -> _Verdict:
        log, metadata = outcome.special_outputs(quantum)
        packed = {target.file.dataset_id: target for target in targets}
        is_same = {target.file.dataset_id for target in targets} - {m.file.dataset_id for m in missing}
        if self._there(metadata):
            return _Verdict.GO_ON if metadata.dataset_id in is_same else _Verdict.LEAVE
        if there := self._there(log):
            if metadata.dataset_id in packed:
                return _Verdict.REPLACE
            if log.dataset_id in is_same:
                return _Verdict.GO_ON
            is_later = _end(_packed_content(source, packed[log.dataset_id])) > _end(_content(there[0]))
            return _Verdict.REPLACE if is_later else _Verdict.LEAVE
        orphans = self._orphans(quantum, targets)
        if orphans and not self._overwrites:
            self._done.conflicts += orphans
            return _Verdict.CONFLICT
        return _Verdict.REPLACE if orphans else _Verdict.GO_ON

    def _there(self, dataset: predicted.Dataset) -> list[scanned_run.OutputPlace]:
        """Return the files of a dataset that are there."""
        places = itertools.chain.from_iterable(self._run.places(dataset))
        return [place for place in places if delivered_files.is_there(place)]

    def _orphans(self, quantum: predicted.Quantum, targets: Sequence[delivered_files.Target]) -> list[str]:
        """Return outputs that are there and not what is to be brought."""
        same = {target.place.location for target in targets if delivered_files.is_same(target)}
        places = [place for dataset in scanned_run.outputs(quantum) for place in self._there(dataset)]
        return [place.location for place in places if place.location not in same]

    def _remove_others(self, quantum: predicted.Quantum, targets: Sequence[delivered_files.Target]) -> None:
        """Remove what an earlier attempt has left and nothing replaces; its log stays."""
        kept = {target.place.location for target in targets}
        connections = {
            name: each for name, each in quantum.outputs.items() if name != pipeline.LOG_CONNECTION
        }
        for dataset in itertools.chain.from_iterable(connections.values()):
            for place in self._there(dataset):
                if place.location not in kept:
                    failures = place.store.delete_many([place.key]).failures
                    if failures:
                        raise errors.AggregatorError(
                            f"{failures[0]}: can't remove what an earlier attempt has left."
                        )
                    self._done.replaced.append(place.location)


def _packed_content(source: payloads.Source, target: delivered_files.Target) -> bytes:
    return b"".join(source.pieces(target.file.name, target.file.size, target.file.checksum))


def _content(place: scanned_run.OutputPlace) -> bytes:
    return b"".join(payloads.pieces(place.store, place.key))


def _end(log: bytes) -> float:
    """Return when an attempt ended, by its log: seconds since 1970; without any time, the earliest."""
    try:
        end = log_records.parse(log).extent.end
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return float("-inf")
    return float("-inf") if end is None else outcome.in_utc(end).timestamp()
