"""Jobs in a Dask cluster that is there already."""

import contextlib
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import distributed
from aggregator.storage import errors
from aggregator.workers.engines import future_jobs

_SECONDS_TO_CONNECT = 30.0
_SECONDS_TO_ANSWER = 5.0
_SECONDS_KNOWN = 2.0
"""How long the number of workers is taken as it was: to ask the scheduler takes a few milliseconds."""


class Cluster(futures.Executor):
    """A cluster, as an executor.

    Parameters
    ----------
    client
        Connection to the cluster.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        # What kills a worker once would kill those after it: this program knows how often it tries.
        self._executor = client.get_executor(pure=False, retries=0)
        self._n_threads = 0
        self._known_until = 0.0

    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
        """Return the future of a call."""
        if self._client.status in ("closed", "closing"):
            # It would take it, and never tell what comes of it.
            raise ConnectionError("the connection to the scheduler of Dask is lost")
        return self._executor.submit(function, *arguments, **keywords)

    def capacity(self) -> int:
        """Return the number of its workers' threads: the last one known if the scheduler does not answer."""
        if time.monotonic() >= self._known_until:
            # A client that connects again has no scheduler meanwhile.
            scheduler = self._client.scheduler
            with contextlib.suppress(OSError, ValueError, RuntimeError, futures.CancelledError):
                if scheduler is not None:
                    # One that hangs must not keep anybody from being told so, or from stopping.
                    threads = self._client.sync(scheduler.ncores, callback_timeout=_SECONDS_TO_ANSWER)
                    self._n_threads = sum(threads.values())
            self._known_until = time.monotonic() + _SECONDS_KNOWN
        return self._n_threads


class _Client(distributed.Client):
    """A client that is closed if it could not connect: else it would wait at the end of the process."""

    def start(self, **options: Any) -> None:
        try:
            super().start(**options)  # type: ignore[no-untyped-call]
        except BaseException:
            self.status = "closed"
            raise


def loss(exc: BaseException) -> str:
    """Return how an error shows that a worker is gone; empty for an error of the job itself."""
    if isinstance(exc, distributed.KilledWorker | distributed.CancelledError):
        return f"{type(exc).__name__}: {exc}"
    return ""


def connected(client: Any, close: Callable[[], None] = lambda: None) -> future_jobs.JobEngine:
    """Return an engine that does jobs in the cluster of a `distributed.Client`.

    Parameters
    ----------
    client
        The client, which stays open unless `close` closes it.
    close
        Ends what was started for the engine.
    """
    cluster = Cluster(client)
    return future_jobs.JobEngine(cluster, cluster.capacity, loss, close)


def connect(address: str, seconds: float = _SECONDS_TO_CONNECT) -> future_jobs.JobEngine:
    """Return an engine that does jobs in the cluster with a scheduler.

    Parameters
    ----------
    address
        Where the scheduler listens, as `tcp://HOST:PORT`.
    seconds
        How long it may take to answer, also when the connection was lost.

    Raises
    ------
    RefusedError
        If nobody answers there.
    """
    try:
        client = _Client(address, timeout=seconds, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as exc:
        raise errors.RefusedError(
            f"dask:{address}: no scheduler answers ({exc}). Start one (dask scheduler), and workers, or give "
            "the address that it has told."
        ) from exc
    return connected(client, client.close)
