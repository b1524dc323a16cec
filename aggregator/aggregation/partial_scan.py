"""Scans a part of a run alone: an element of an array of jobs, before or while there is an aggregation.

Digests are made in a checkpoint of their own, beside that of the run, and moved there under its lock. So
nobody but the holder of a lock ever writes into a checkpoint, and many parts can be scanned at a time.
"""

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence

from aggregator.aggregation import (
    aggregation_request,
    checkpoint_content,
    checkpoints,
    configuration,
    preparation,
)
from aggregator.console import interruption
from aggregator.schemas import output_paths
from aggregator.schemas.checkpoints import checkpoint, manifest
from aggregator.schemas.graphs import container
from aggregator.storage import durable_files, errors, fault_points, local_files, locks
from aggregator.workers.roles.scanning import scanner

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0
"""How long to wait for other parts, which have the run's checkpoint for moments only."""
_POLL_SECONDS = 0.2

_State = tuple[int, int, int]
"""What tells whether a file is still the same: inode, time and size."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of all shards."""

    number: int
    """Which one; 1 is the first."""

    count: int
    """How many there are."""

    def shards(self, n_shards: int) -> range:
        """Return its shards, spread over all, since those of one task often take equally long."""
        return range(self.number - 1, n_shards, self.count)


@dataclasses.dataclass(slots=True)
class ScanSummary:
    """What was scanned."""

    part: Part
    """The part."""

    checkpoint: str
    """The checkpoint of the run."""

    n_shards: int = 0
    """Shards of the part."""

    n_quanta: int = 0
    """Their quanta."""

    n_reused: int = 0
    """Quanta that were known before."""

    n_unreadable: int = 0
    """Quanta with files that can't be read."""

    def lines(self) -> list[str]:
        """Return it as text."""
        counts = (
            f"{self.n_quanta} quanta in {self.n_shards} shards, of which {self.n_reused} were known before"
        )
        lines = [f"Part {self.part.number} of {self.part.count} is scanned: {counts} ({self.checkpoint})"]
        if self.n_unreadable:
            lines.append(f"{self.n_unreadable} have files that can't be read; aggregate-graph names them")
        return lines


def part(text: str) -> Part:
    """Return the part that a text names: which one, a slash, and how many there are.

    Raises
    ------
    RefusedError
        If it names none.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise errors.RefusedError(f"{text!r} is no part: write I/N, from 1/N to N/N.")
    return Part(int(match[1]), int(match[2]))


def scan(
    predicted_path: str,
    butler_path: str,
    chosen: Part,
    config: configuration.AggregatorConfig,
    outputs: Sequence[output_paths.Output] = (),
) -> ScanSummary:
    """Scan a part of a run; an aggregation with the same checkpoint finds it done.

    Parameters
    ----------
    predicted_path
        The predicted graph.
    butler_path
        The repository.
    chosen
        Which part.
    config
        Options, which have to be those of the aggregation as far as digests depend on them.
    outputs
        Files that the caller is going to write.

    Raises
    ------
    RefusedError
        If the request can't be carried out.
    InUseError
        If the same part is being scanned, or the run is being aggregated.
    Interrupted
        If a signal asked to stop; the same call goes on.
    AggregatorError
        If something fails; the same call goes on.
    """
    chosen_directory = configuration.path_text(config.checkpoint_dir)
    main = checkpoints.directory_for(container.graph_path(predicted_path), None, chosen_directory)
    own = f"{main}.scan-{chosen.number}-of-{chosen.count}"
    config = dataclasses.replace(config, checkpoint_dir=own)
    with (
        interruption.Interruption() as stopping,
        errors.explained(),
        aggregation_request.check(predicted_path, butler_path, config, outputs) as request,
    ):
        try:
            scanned = _PartialScan(request, main, chosen, stopping)
            return scanned.run()
        except errors.RefusedError as exc:
            if not request.checkpoint.undo():
                raise exc.as_failure() from exc
            raise


class _PartialScan:
    """The scan of a part.

    Parameters
    ----------
    request
        What was asked for, with the part's own checkpoint.
    main
        Directory of the run's checkpoint.
    chosen
        The part.
    stopping
        Knows whether to stop.
    """

    def __init__(
        self,
        request: aggregation_request.Request,
        main: str,
        chosen: Part,
        stopping: interruption.Interruption,
    ) -> None:
        self._request = request
        self._own = request.checkpoint.layout
        self._main = main
        self._part = chosen
        self._stopping = stopping
        self._before: dict[int, _State | None] = {}
        """Digests of the run's checkpoint when this began, by shard."""
        self._done = ScanSummary(chosen, main)

    def run(self) -> ScanSummary:
        """Scan, and hand the digests over."""
        prepared = self._prepare()
        shards = self._part.shards(prepared.division.n_shards)
        with contextlib.closing(scanner.Scanner(prepared.setup, _log)) as scanning:
            for shard in shards:
                self._stopping.check()
                reply = scanning.scan(prepared.division.request(shard))
                self._done.n_shards += 1
                self._done.n_quanta += prepared.division.n_quanta(shard)
                self._done.n_reused += reply.n_reused
                self._done.n_unreadable += len({problem.quantum_id for problem in reply.problems})
        self._hand_over(shards)
        self._request.checkpoint.remove()
        return self._done

    def _prepare(self) -> preparation.Preparation:
        """Let both checkpoints have the same manifest."""
        # Another part may have come first meanwhile.
        for attempt in range(2):
            with self._shared() as held:
                self._adopt(held)
            prepared = preparation.prepare(self._request)
            if not attempt:
                self._check_presence(prepared)
            with self._shared() as held:
                if self._publish(held):
                    self._link(held, self._part.shards(prepared.division.n_shards))
                    return prepared
        raise errors.RefusedError(
            f"{self._main}: was made for another graph, or with other options. Give those with which it was "
            "made, or another --checkpoint-dir."
        )

    @contextlib.contextmanager
    def _shared(self) -> Iterator[checkpoints.Checkpoint]:
        """Lock the checkpoint of the run for a moment."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self._stopping.check()
            try:
                held = checkpoints.Checkpoint(self._main)
                break
            except errors.InUseError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
        with held:
            held.remove_temporary_files()
            yield held

    def _adopt(self, held: checkpoints.Checkpoint) -> None:
        """Take over what all digests share, if the run has it."""
        theirs, ours = checkpoint_content.peek(held), checkpoint_content.peek(self._request.checkpoint)
        if theirs is not None and not (ours is not None and _fit(theirs, ours)):
            self._request.checkpoint.clear()
            _copy(held.layout, self._own, theirs)
        elif theirs is None:
            # What was made for a look goes again.
            held.undo()

    def _publish(self, held: checkpoints.Checkpoint) -> bool:
        """Give what all digests share to the run, if it has nothing; return whether both have the same."""
        theirs, ours = checkpoint_content.peek(held), manifest.read(self._own.manifest)
        if theirs is None:
            held.clear()
            _copy(self._own, held.layout, ours)
            return True
        return _fit(theirs, ours)

    def _link(self, held: checkpoints.Checkpoint, shards: Sequence[int]) -> None:
        """Begin with the digests that the run has, unless an earlier attempt has made later ones."""
        for shard in shards:
            theirs, ours = held.layout.digest(shard), self._own.digest(shard)
            state, own_state = _state(theirs), _state(ours)
            self._before[shard] = state
            if state is not None and (own_state is None or own_state[1] < state[1]):
                temporary = durable_files.temporary_name(ours)
                with durable_files.writing(ours):
                    shutil.copy2(theirs, temporary)
                    os.rename(temporary, ours)

    def _hand_over(self, shards: Sequence[int]) -> None:
        """Move digests to the run, but where somebody else has made others meanwhile."""
        with self._shared() as held:
            theirs, ours = checkpoint_content.peek(held), manifest.read(self._own.manifest)
            if theirs is None or not _fit(theirs, ours):
                held.undo()
                raise errors.AggregatorError(
                    f"{self._main}: was removed or replaced meanwhile, as by a complete aggregation. "
                    "Run the same command again if that was none."
                )
            locks.check(self._request.checkpoint.ownership)
            fault_points.reached("hand-over")
            for shard in shards:
                place = held.layout.digest(shard)
                if _state(place) == self._before[shard]:
                    with durable_files.writing(place):
                        os.rename(self._own.digest(shard), place)
                fault_points.reached("handed-over")
            durable_files.sync_directory(self._main)

    def _check_presence(self, prepared: preparation.Preparation) -> None:
        """Conclude nothing from a run of which not one file is there."""
        with contextlib.closing(scanner.Scanner(prepared.setup, _log)) as scanning:
            for shard in range(prepared.division.n_shards):
                self._stopping.check()
                if scanning.find(prepared.division.request(shard)).path:
                    return
        self._request.checkpoint.clear()
        run = prepared.graph.header.output_run
        raise errors.AggregatorError(
            f"{prepared.setup.butler_path}: not one file of run {run!r} is there, init outputs included. "
            "Look whether the file system is mounted and the repository is the right one, and run again."
        )


def _fit(theirs: manifest.Manifest, ours: manifest.Manifest) -> bool:
    """Return whether the digests of two checkpoints are of use in either."""
    # A graph tells since when its files were read: earlier digests belong to none that has begun later.
    parts = [(each.records, each.edges, each.shard_size, each.begun) for each in (theirs, ours)]
    return parts[0] == parts[1] and theirs.identity.differs_only_in_place(ours.identity)


def _copy(source: checkpoint.Layout, target: checkpoint.Layout, document: manifest.Manifest) -> None:
    """Copy what all digests share; the manifest, which makes it valid, comes last."""
    target.write_records(source.read_records())
    target.write_dictionary(source.read_dictionary())
    target.write_edges(source.read_edges())
    manifest.write(target.manifest, document)


def _state(path: str) -> _State | None:
    status = local_files.status(path)
    return None if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)
