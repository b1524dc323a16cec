"""Jobs in the workers of an engine: in the calling process, or in processes of this host."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from aggregator.workers.engines import engine, job_engine, outcomes


class Caller:
    """Handler of a worker that does jobs: a message is a function and its arguments."""

    def handle(self, message: Any) -> Any:
        """Return what the function returns."""
        function, arguments = message
        return function(*arguments)

    def close(self) -> None:
        """Do nothing: a job leaves nothing open."""


class JobEngine(job_engine.JobEngine):
    """Does jobs in workers; another worker takes the place of one that has ended.

    Parameters
    ----------
    where
        The engine that runs the workers; nobody else uses it.
    n_workers
        Number of workers, at most.
    """

    def __init__(self, where: engine.Engine, n_workers: int) -> None:
        self._engine = where
        self._n_workers = n_workers
        self._n_started = 0
        self._waiting: deque[job_engine.Handle] = deque()
        self._idle: list[engine.Worker] = []
        self._running: dict[engine.Worker, job_engine.Handle] = {}
        self._given_up: list[job_engine.Handle] = []

    def capacity(self) -> int:
        """Return the number of workers."""
        return self._n_workers

    def submit(self, job: job_engine.Job) -> job_engine.Handle:
        """Have a job done when a worker is free."""
        handle = job_engine.Handle(job)
        self._waiting.append(handle)
        return handle

    def wait(self, seconds: float) -> Sequence[tuple[job_engine.Handle, outcomes.Outcome]]:
        """Return new outcomes, after giving each worker something to do."""
        ended: list[tuple[job_engine.Handle, outcomes.Outcome]] = []
        ended += ((handle, outcomes.GivenUp()) for handle in self._given_up)
        self._given_up.clear()
        self._feed()
        for worker, outcome in self._engine.wait(0.0 if ended else seconds):
            handle = self._running.pop(worker, None)
            if isinstance(outcome, outcomes.Result | outcomes.Failed | outcomes.GivenUp):
                self._idle.append(worker)
            elif worker in self._idle:
                # It has ended between two jobs.
                self._idle.remove(worker)
            if handle is not None:
                ended.append((handle, outcome))
        self._feed()
        return ended

    def _feed(self) -> None:
        while self._waiting and (self._idle or len(self._running) < self._n_workers):
            worker = self._idle.pop() if self._idle else self._start()
            handle = self._waiting.popleft()
            self._running[worker] = handle
            worker.send((handle.job.function, handle.job.arguments), handle.job.about)

    def _start(self) -> engine.Worker:
        self._n_started += 1
        return self._engine.start(engine.Program(f"worker-{self._n_started - 1:03d}", Caller))

    def cancel(self, handle: job_engine.Handle) -> None:
        """Give a job up; the worker that is at it is killed."""
        if handle in self._waiting:
            self._waiting.remove(handle)
            self._given_up.append(handle)
        for worker, current in list(self._running.items()):
            if current is handle:
                del self._running[worker]
                self._given_up.append(handle)
                worker.kill()

    def close(self) -> None:
        """Kill all workers."""
        self._engine.end(0.0)
        self._waiting.clear()
        self._running.clear()
        self._idle.clear()
