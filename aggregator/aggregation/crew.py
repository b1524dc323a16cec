"""The workers of one aggregation."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator

from aggregator.console import interruption
from aggregator.schemas import messages
from aggregator.workers.engines import memory, process
from aggregator.workers.roles import handling

_POLL_SECONDS = 0.25

STOP_SECONDS = 8.0
"""How long workers may take to finish what they are doing."""


def names(n_scanners: int) -> list[str]:
    """Return the names of all workers that there may be, which their logs and profiles have."""
    return [*_scanner_names(n_scanners), handling.INGESTER, handling.WRITER]


def _scanner_names(n_scanners: int) -> list[str]:
    return [f"{handling.SCANNER}-{i:03d}" for i in range(n_scanners)]


class Crew:
    """Scanners, an ingester, and a writer if there is something to write.

    Processes are started at once, so that they import their libraries while the graph is read; they
    begin to work when they are set up.

    Parameters
    ----------
    n_scanners
        Number of scanners; 1 for everything in this process.
    writing
        Whether there is a writer.
    lock
        Descriptor of the checkpoint's lock.
    stopping
        Knows whether to stop.
    """

    def __init__(
        self, n_scanners: int, writing: bool, lock: int, stopping: interruption.Interruption
    ) -> None:
        self._clock = process.Clock()
        self.all: list[process.Worker] = []
        self._queues: dict[process.Worker, deque[messages.Request]] = {}

        def start(kind: str, name: str) -> process.Worker:
            if n_scanners == 1:
                worker: process.Worker = process.LocalWorker(kind, name, stopping.attempt)
            else:
                worker = process.ProcessWorker(kind, name, lock, self._clock)
            self.all.append(worker)
            self._queues[worker] = deque()
            return worker

        try:
            self.scanners = [start(handling.SCANNER, name) for name in _scanner_names(n_scanners)]
            self.ingester = start(handling.INGESTER, handling.INGESTER)
            self.writer = start(handling.WRITER, handling.WRITER) if writing else None
        except BaseException:
            self.stop()
            raise

    def set_up(self, setup: messages.Setup) -> None:
        """Tell all workers what they need to know."""
        for worker in self.all:
            worker.send(setup)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End all workers after what they are doing; kill those that take longer than some seconds."""
        for worker in self.all:
            worker.end()
        deadline = time.monotonic() + seconds
        while self.all:
            # It leaves the list when it is gone: a second signal can come while it is waited for.
            self.all[-1].join(max(0.0, deadline - time.monotonic()))
            self.all.pop()

    def post(self, worker: process.Worker, request: messages.Request) -> None:
        """Have a request delivered when the worker has room for it."""
        self._queues[worker].append(request)

    def is_idle(self, worker: process.Worker) -> bool:
        """Return whether a worker has answered everything."""
        return not self._queues[worker] and not worker.in_flight

    @property
    def is_busy(self) -> bool:
        """Whether something is not delivered or not answered yet."""
        return not all(map(self.is_idle, self.all))

    def describe(self) -> str:
        """Return what each worker is at, for how long, and the memory that it holds."""
        parts = []
        for worker in self.all:
            at = (
                f"{worker.outstanding[0]} for {worker.busy_seconds():.0f} s" if worker.outstanding else "idle"
            )
            behind = len(self._queues[worker])
            lag = f", {behind} behind" if behind else ""
            parts.append(f"{worker.name} {at}{lag}, {memory.resident(worker.pid) / 1e6:.0f} MB")
        return "; ".join(parts)

    def peaks(self) -> dict[str, int]:
        """Return the largest memory of each process so far, in bytes."""
        return self._measure(memory.peak)

    def _measure(self, measure: Callable[[int], int]) -> dict[str, int]:
        if isinstance(self.ingester, process.LocalWorker):
            return {"all": measure(self.ingester.pid)}
        return {"coordinator": measure(os.getpid())} | {w.name: measure(w.pid) for w in self.all}

    def held_memory(self) -> dict[str, int]:
        """Return the memory that each process holds, in bytes."""
        return self._measure(memory.resident)

    def receive(self) -> Iterator[tuple[process.Worker, messages.Reply]]:
        """Deliver what can be delivered, wait a little, and yield answers."""
        for worker, queue in self._queues.items():
            while queue and worker.in_flight < process.MAX_IN_FLIGHT:
                worker.send(queue.popleft())
        self._clock.tick()
        yield from process.wait(self.all, _POLL_SECONDS)
        self._clock.tick()
