"""Jobs in anything that is a `concurrent.futures.Executor`."""

import contextlib
import queue
from collections.abc import Callable, Sequence
from concurrent import futures

from aggregator.workers.engines import job_engine, outcomes

Loss = Callable[[BaseException], str]
"""Returns how it shows that the worker of a job is gone, from the job's error; empty if that is another."""


def broken_executor(exc: BaseException) -> str:
    """Return how executors of the standard library show that a worker is gone."""
    return str(exc) or type(exc).__name__ if isinstance(exc, futures.BrokenExecutor) else ""


class JobEngine(job_engine.JobEngine):
    """Does jobs in an executor.

    Parameters
    ----------
    executor
        The executor.
    capacity
        Returns how many jobs it can run at a time now.
    loss
        Tells errors that are no answer of a job.
    close
        Ends what was started for this engine; by default nothing was, and the executor stays as it is.
    """

    def __init__(
        self,
        executor: futures.Executor,
        capacity: Callable[[], int],
        loss: Loss = broken_executor,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._executor = executor
        self._capacity = capacity
        self._loss = loss
        self._close = close
        self._open: dict[job_engine.Handle, futures.Future[outcomes.Result | outcomes.Failed] | None] = {}
        # Futures end in threads of the executor; what belongs to nobody any more is left out by `wait`.
        self._ended: queue.SimpleQueue[tuple[job_engine.Handle, outcomes.Outcome]] = queue.SimpleQueue()

    def capacity(self) -> int:
        """Return how many jobs the executor can run at a time."""
        return self._capacity()

    def submit(self, job: job_engine.Job) -> job_engine.Handle:
        """Hand a job to the executor."""
        handle = job_engine.Handle(job)
        self._open[handle] = None
        try:
            future = self._executor.submit(job_engine.call, job.function, job.arguments)
        except Exception as exc:
            self._ended.put((handle, self._of_error(exc)))
            return handle
        self._open[handle] = future
        future.add_done_callback(lambda done: self._ended.put((handle, self._outcome(done))))
        return handle

    def _outcome(self, future: futures.Future[outcomes.Result | outcomes.Failed]) -> outcomes.Outcome:
        if future.cancelled():
            return outcomes.Lost("it was cancelled, as when a connection is lost")
        exc = future.exception()
        return future.result() if exc is None else self._of_error(exc)

    def _of_error(self, exc: BaseException) -> outcomes.Outcome:
        reason = self._loss(exc)
        return outcomes.Lost(reason) if reason else outcomes.failure(exc)

    def wait(self, seconds: float) -> Sequence[tuple[job_engine.Handle, outcomes.Outcome]]:
        """Return the outcomes of jobs that have ended."""
        ended: list[tuple[job_engine.Handle, outcomes.Outcome]] = []
        try:
            ended.append(self._ended.get(timeout=seconds) if seconds else self._ended.get_nowait())
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        return [pair for pair in ended if self._is_news(pair[0])]

    def _is_news(self, handle: job_engine.Handle) -> bool:
        if handle not in self._open:
            return False
        del self._open[handle]
        return True

    def cancel(self, handle: job_engine.Handle) -> None:
        """Give a job up; if it runs, it goes on."""
        future = self._open.get(handle)
        if future is not None and not future.done():
            # First in the queue, so that it counts.
            self._ended.put((handle, outcomes.GivenUp()))
            _cancel(future)

    def close(self) -> None:
        """Give up what has not begun."""
        for future in self._open.values():
            if future is not None:
                _cancel(future)
        self._open.clear()
        close, self._close = self._close, lambda: None
        close()


def _cancel(future: futures.Future[outcomes.Result | outcomes.Failed]) -> None:
    # Not all executors can: then nobody hears of it.
    with contextlib.suppress(NotImplementedError):
        future.cancel()
