"""A job that scans a shard on another host: its digest goes to an exchange.

Nothing is kept in the job; but the worker keeps what the jobs of one run share, which so reaches it once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import weakref

import msgspec
from aggregator.schemas import messages, output_paths
from aggregator.schemas.checkpoints import checkpoint, digest, exchanges
from aggregator.storage import errors, locks
from aggregator.workers.engines import job_engine
from aggregator.workers.roles.scanning import scanner

_log = logging.getLogger(__name__)

_current = threading.local()
"""The scanner of each thread that does jobs."""


class Kit(msgspec.Struct, frozen=True):
    """What scanners on other hosts need."""

    version: tuple[int, int]
    """Versions of digests and of what makes them."""
    setup: messages.Setup
    """What those on the coordinator's host are told."""
    records: bytes
    """Packed record attributes."""
    dictionary: bytes
    """Compression dictionary."""


class LeftDigest(msgspec.Struct, frozen=True):
    """A digest in an exchange."""

    name: str
    """Its name there."""
    scanned: messages.ShardScanned
    """What it tells."""


class ClosedError(errors.AggregatorError):
    """Nobody waits for digests any more."""


def version() -> tuple[int, int]:
    """Return what has to be the same on all hosts."""
    return digest.FORMAT_VERSION, scanner.LOGIC_VERSION


def job(exchange: exchanges.Exchange, request: messages.ScanShard) -> job_engine.Job:
    """Return a job that scans a shard; its result is a packed `LeftDigest`."""
    return job_engine.Job(scan, (exchange.place, exchange.generation, request), f"shard {request.shard}")


def scan(place: str, generation: str, request: messages.ScanShard) -> bytes:
    """Scan a shard, where the job runs.

    Parameters
    ----------
    place, generation
        The exchange.
    request
        The shard.

    Returns
    -------
    left
        A packed `LeftDigest`.

    Raises
    ------
    ClosedError
        If nobody waits for it any more.
    RefusedError
        If the program here is of another version.
    AggregatorError
        If something fails.
    """
    exchange = exchanges.Exchange(place, generation)
    scanning = getattr(_current, "scanner", None)
    if scanning is None or scanning.exchange != exchange:
        if scanning is not None:
            _current.scanner = None
            scanning.close()
        scanning = _current.scanner = RemoteScanner(exchange)
    return msgspec.msgpack.encode(scanning.scan(request))


class RemoteScanner:
    """The scanner of one run on another host than its coordinator.

    Parameters
    ----------
    exchange
        The exchange of the run.
    """

    def __init__(self, exchange: exchanges.Exchange) -> None:
        self.exchange = exchange
        self._access = exchanges.access(exchange)
        with contextlib.ExitStack() as open_things:
            kit = _read_kit(self._access, exchange)
            scratch = open_things.enter_context(tempfile.TemporaryDirectory(prefix="scan-"))
            self._layout = checkpoint.Layout(scratch)
            self._layout.write_records(kit.records)
            self._layout.write_dictionary(kit.dictionary)
            path = open_things.enter_context(self._access.graph(kit.setup.graph_path))
            self._scanner = scanner.Scanner(_setup_here(kit.setup, path, scratch), _log)
            open_things.callback(self._scanner.close)
            # Threads of engines end without a word, and processes, too.
            self.close = weakref.finalize(self, open_things.pop_all().close)
            """Releases all resources."""

    def scan(self, request: messages.ScanShard) -> LeftDigest:
        """Scan a shard, and leave its digest in the exchange."""
        path = self._layout.digest(request.shard)
        try:
            scanned = self._scanner.scan(request)
            self._check_open()
            name = self._access.leave(path)
            try:
                self._check_open()
            except ClosedError:
                # Whoever has removed all that was there has not seen it.
                self._access.take_back(name)
                raise
            return LeftDigest(name, scanned)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _check_open(self) -> None:
        if not self._access.is_open():
            raise ClosedError(f"{self.exchange.place}: the run that this shard was scanned for is over")


def _read_kit(access: exchanges.Access, exchange: exchanges.Exchange) -> Kit:
    try:
        data = access.read_kit()
    except FileNotFoundError as exc:
        raise ClosedError(
            f"{exchange.place}: this host does not see it, or the run is over. Let all hosts see the "
            "checkpoint at the same path, or give --exchange."
        ) from exc
    try:
        kit = msgspec.msgpack.decode(data, type=Kit)
    except msgspec.MsgspecError as exc:
        raise errors.RefusedError(_other_version(exchange)) from exc
    if kit.version != version():
        raise errors.RefusedError(_other_version(exchange))
    return kit


def _other_version(exchange: exchanges.Exchange) -> str:
    return (
        f"{exchange.place}: was made by another version of this program. Install the same one on the "
        "engine's hosts."
    )


def _setup_here(setup: messages.Setup, graph_path: str, scratch: str) -> messages.Setup:
    """Return what a scanner on this host is told: it writes into a directory of its own."""
    status = os.stat(scratch)
    return msgspec.structs.replace(
        setup,
        graph_path=graph_path,
        checkpoint=scratch,
        ownership=locks.Ownership(scratch, status.st_dev, status.st_ino, None),
        protection=output_paths.Protection(),
        worker_log_dir=None,
        worker_profile_dir=None,
    )
