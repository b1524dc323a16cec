"""Scanners on other hosts: the shards that they are at, and the way of their digests into the checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time

import msgspec

from aggregator.aggregation import checkpoints
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import digest, exchanges
from aggregator.storage import durable_files, errors, fault_points, in_flight, locks
from aggregator.workers.engines import job_engine, outcomes
from aggregator.workers.roles.scanning import remote_scan

_log = logging.getLogger(__name__)

_MOST_ATTEMPTS = 4
"""How often a shard is begun whose worker is lost, or fails, before the run gives up."""

_PER_WORKER = 2
"""Shards that are handed over for each worker: one to work on, one to go on with."""


_AT_ONCE = 4
"""Digests that are fetched from an object store at a time; each is in memory then."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Attempt:
    """A shard that was handed over."""

    request: messages.ScanShard
    number: int
    """How often it was handed over before."""
    since: float
    """When it was handed over."""


class RemoteScanners:
    """Scans shards by an engine for jobs.

    The engine is not believed: a shard is scanned when its digest is in the checkpoint.

    Parameters
    ----------
    engine
        The engine; it is the caller's.
    held
        The checkpoint.
    place
        URI of a place in an object store for digests; by default the checkpoint, which all hosts see.
    timeout
        Seconds after which a shard that was handed over is given to another worker, too; nothing for none.
    """

    def __init__(
        self,
        engine: job_engine.JobEngine,
        held: checkpoints.Checkpoint,
        place: str | None,
        timeout: float | None,
    ) -> None:
        self._engine = engine
        self._held = held
        self._exchange = exchanges.make(place or held.layout.directory)
        self._access = exchanges.access(self._exchange)
        self._timeout = timeout
        self._requests = in_flight.Requests(_AT_ONCE if place is not None else 1)
        self._open: dict[job_engine.Handle, _Attempt] = {}
        self._of_shard: dict[int, list[job_engine.Handle]] = {}
        """Attempts of each shard that may still have results, the latest one last."""
        self._identity: digest.Identity | None = None
        self._is_closed = False

    def set_up(self, setup: messages.Setup, butler_path: str) -> None:
        """Let workers find what they need.

        Parameters
        ----------
        setup
            What scanners on this host are told.
        butler_path
            The repository, as other hosts know it.

        Raises
        ------
        AggregatorError
            If it can't be put there.
        """
        self._identity = setup.identity
        kit = remote_scan.Kit(
            remote_scan.version(),
            msgspec.structs.replace(
                setup, butler_path=butler_path, graph_path=os.path.abspath(setup.graph_path)
            ),
            self._held.layout.read_records(),
            self._held.layout.read_dictionary(),
        )
        exchanges.note(self._held.layout, self._exchange)
        self._access.open(msgspec.msgpack.encode(kit), kit.setup.graph_path)
        fault_points.reached("exchange")

    @property
    def is_busy(self) -> bool:
        """Whether shards are handed over that have not come back."""
        return bool(self._open)

    @property
    def has_room(self) -> bool:
        """Whether another shard can be handed over."""
        # Some engines begin workers only when there is something to do.
        return len(self._open) < _PER_WORKER * max(1, self._engine.capacity())

    def send(self, request: messages.ScanShard, number: int = 0) -> None:
        """Hand a shard over."""
        handle = self._engine.submit(remote_scan.job(self._exchange, request))
        self._open[handle] = _Attempt(request, number, time.monotonic())
        self._of_shard.setdefault(request.shard, []).append(handle)

    def receive(self, seconds: float) -> list[messages.ShardScanned | None]:
        """Return what came back, nothing for a shard that was given up; wait some seconds at most.

        Raises
        ------
        FatalWorkerError
            If a shard has failed again and again.
        RefusedError
            If the engine's hosts have another version of this program.
        """
        replies: list[messages.ShardScanned | None] = []
        ended = []
        for handle, outcome in self._engine.wait(seconds):
            attempt = self._open.pop(handle, None)
            if attempt is not None:
                self._of_shard[attempt.request.shard].remove(handle)
                ended.append((attempt, outcome))
        for (attempt, outcome), brought in zip(ended, self._requests.map(self._brought, ended), strict=True):
            # Of two that have come at once, one is enough.
            if attempt.request.shard in self._of_shard:
                replies += self._take(attempt, outcome, brought)
        if self._timeout is not None:
            self._help_slow_ones(self._timeout)
        return replies

    def _brought(
        self, ended: tuple[_Attempt, outcomes.Outcome]
    ) -> messages.ShardScanned | _UselessError | None:
        """Bring the digest of an attempt, if it has left one; return what it tells, or why that is no use."""
        attempt, outcome = ended
        if not isinstance(outcome, outcomes.Result):
            return None
        try:
            return self._bring(attempt, outcome.value)
        except _UselessError as exc:
            return exc

    def _take(
        self,
        attempt: _Attempt,
        outcome: outcomes.Outcome,
        brought: messages.ShardScanned | _UselessError | None,
    ) -> list[messages.ShardScanned | None]:
        """Return what comes of an attempt, at most one thing; or make another."""
        if isinstance(brought, messages.ShardScanned):
            self._drop(attempt.request.shard)
            return [brought]
        reason = "" if brought is None else str(brought)
        match outcome:
            case outcomes.Failed(cause, errors.RefusedError.exit_code, _):
                raise errors.RefusedError(cause)
            case outcomes.Failed(cause, _, details):
                _log.debug("%s", details)
                reason = cause
            case outcomes.Killed(number):
                reason = f"its worker was killed by signal {number}"
            case outcomes.Exited(code):
                reason = f"its worker ended with exit code {code}"
            case outcomes.Lost(how):
                reason = f"its worker is lost ({how})"
        if self._of_shard[attempt.request.shard]:
            # Somebody else is at it.
            return []
        if not reason:
            return [None]
        self._begin_again(attempt, reason)
        return []

    def _drop(self, shard: int) -> None:
        """Wait no longer for other attempts of a shard."""
        for handle in self._of_shard.pop(shard, ()):
            del self._open[handle]
            self._engine.cancel(handle)

    def _help_slow_ones(self, timeout: float) -> None:
        """Give shards to others, too, that take long.

        Who is at them may only be paused, and would get them again if they were given up.
        """
        for handles in list(self._of_shard.values()):
            if handles and time.monotonic() - self._open[handles[-1]].since > timeout:
                self._begin_again(self._open[handles[-1]], f"it takes longer than --scan-timeout {timeout:g}")

    def _begin_again(self, attempt: _Attempt, reason: str) -> None:
        shard, number = attempt.request.shard, attempt.number + 1
        if number >= _MOST_ATTEMPTS:
            raise errors.FatalWorkerError(
                f"shard {shard} was given to the engine {number} times, and failed; the last time: {reason}. "
                "What is done is kept. Mend that, and run the same command again."
            )
        _log.warning("Shard %d is scanned again: %s", shard, reason)
        self.send(attempt.request, number)

    def _bring(self, attempt: _Attempt, packed: bytes) -> messages.ShardScanned:
        """Bring a digest into the checkpoint, where all that is said of it is true."""
        layout, shard = self._held.layout, attempt.request.shard
        path = layout.digest(shard)
        try:
            left = msgspec.msgpack.decode(packed, type=remote_scan.LeftDigest)
        except msgspec.MsgspecError as exc:
            raise _UselessError(f"an answer that nobody understands ({exc})") from exc
        if left.scanned.shard != shard or not exchanges.is_digest_name(left.name, path):
            raise _UselessError(f"an answer to another question ({left.name})")
        temporary = durable_files.temporary_name(path)
        try:
            with durable_files.writing(path):
                self._fetch(left.name, temporary)
                self._verify(temporary, left.scanned)
                locks.check(self._held.ownership)
                os.rename(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        fault_points.reached("brought")
        return left.scanned

    def _fetch(self, name: str, target: str) -> None:
        try:
            self._access.fetch(name, target)
        except FileNotFoundError as exc:
            # Whoever has taken the checkpoint over has removed it.
            locks.check(self._held.ownership)
            raise _UselessError("its digest is not there") from exc

    def _verify(self, path: str, scanned: messages.ShardScanned) -> None:
        if self._identity is None:
            raise RuntimeError("not set up")
        try:
            with digest.Digest(path, self._identity, scanned.shard) as opened:
                opened.verify()
                if opened.checksum != scanned.checksum:
                    raise _UselessError("its digest is another one")
        except errors.FormatError as exc:
            raise _UselessError(str(exc)) from exc

    def describe(self) -> str:
        """Return what the engine is at, for people."""
        oldest = min(self._open.values(), key=lambda attempt: attempt.since, default=None)
        at = "idle"
        if oldest is not None:
            seconds = time.monotonic() - oldest.since
            at = f"{len(self._open)} shards handed over, shard {oldest.request.shard} {seconds:.0f} s ago"
        return f"engine {at}, {self._engine.capacity()} workers"

    def give_up(self) -> None:
        """Give up what was handed over."""
        for handle in self._open:
            self._engine.cancel(handle)

    def close(self) -> None:
        """Give up what was handed over, and remove what was there for workers."""
        if self._is_closed:
            return
        self._is_closed = True
        self._requests.close()
        for handle in list(self._open):
            self._engine.cancel(handle)
        self._open.clear()
        self._of_shard.clear()
        if self._identity is None:
            return
        try:
            # It is ours alone, whatever has become of the checkpoint.
            exchanges.close(self._held.layout, self._exchange)
        except (OSError, errors.AggregatorError) as exc:
            # The next run does it.
            _log.warning("%s: can't remove what was there for scanners (%s)", self._exchange.place, exc)


class _UselessError(Exception):
    """A digest is of no use."""
