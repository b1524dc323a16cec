"""The workers of one aggregation."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aggregator.schemas import messages
from aggregator.workers.engines import engine, memory, outcomes
from aggregator.workers.roles import handling

if TYPE_CHECKING:
    from aggregator.aggregation import remote_scanners

POLL_SECONDS = 0.25
"""How long to wait for answers at a time."""

_SHORT_SECONDS = 0.02
"""How long to wait at a time for those on this host, if there are others."""

STOP_SECONDS = 8.0
"""How long workers may take to finish what they are doing."""


def names(n_scanners: int) -> list[str]:
    """Return the names of all workers that there may be, which their logs and profiles have."""
    return [*_scanner_names(n_scanners), handling.INGESTER, handling.WRITER]


def _scanner_names(n_scanners: int) -> list[str]:
    return [f"{handling.SCANNER}-{i:03d}" for i in range(n_scanners)]


class Crew:
    """Scanners, an ingester, and a writer if there is something to write.

    Workers are started at once, so that processes import their libraries while the graph is read; they
    begin to work when they are set up.

    Parameters
    ----------
    where
        The engine that runs them; nobody else uses it.
    n_scanners
        Number of scanners.
    writing
        Whether there is a writer.
    """

    def __init__(self, where: engine.Engine, n_scanners: int, writing: bool) -> None:
        self._engine = where
        self.remote: remote_scanners.RemoteScanners | None = None
        """Scanners on other hosts, if there are any; they are ended with all others."""
        self._roles: dict[engine.Worker, str] = {}
        self._queues: dict[str, deque[messages.Request]] = {
            handling.INGESTER: deque(),
            handling.WRITER: deque(),
        }
        try:
            self.scanners = [self._start(handling.SCANNER, name) for name in _scanner_names(n_scanners)]
            for role in [handling.INGESTER, *([handling.WRITER] if writing else [])]:
                self._start(role, role)
        except BaseException:
            self.stop()
            raise

    def _start(self, role: str, name: str) -> engine.Worker:
        worker = self._engine.start(handling.program(role, name))
        self._roles[worker] = role
        return worker

    def set_up(self, setup: messages.Setup) -> None:
        """Tell all workers what they need to know."""
        for worker in self._roles:
            worker.send(setup, handling.describe(setup))

    def send(self, worker: engine.Worker, request: messages.Request) -> None:
        """Send a request to a worker that has room for it."""
        worker.send(request, handling.describe(request))

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End all workers after what they are doing; kill those that take longer than some seconds."""
        try:
            if self.remote is not None:
                self.remote.close()
        finally:
            self._engine.end(seconds)

    @contextlib.contextmanager
    def ending(self, at_once: Callable[[], bool]) -> Iterator[None]:
        """End all workers afterwards; `at_once` tells whether nobody waits for what they are doing."""
        try:
            yield
        finally:
            self.stop(0.0 if at_once() else STOP_SECONDS)

    def post(self, role: str, request: messages.Request) -> None:
        """Have a request delivered to the ingester or the writer when it has room for it."""
        self._queues[role].append(request)

    @property
    def is_busy(self) -> bool:
        """Whether something is not delivered or not answered yet."""
        return self._is_busy_here or (self.remote is not None and self.remote.is_busy)

    @property
    def _is_busy_here(self) -> bool:
        return any(self._queues.values()) or any(worker.outstanding for worker in self._roles)

    @property
    def is_busy_besides_scanners(self) -> bool:
        """Whether something is not delivered or not answered yet by the ingester or the writer."""
        others = (worker for worker, role in self._roles.items() if role != handling.SCANNER)
        return any(self._queues.values()) or any(worker.outstanding for worker in others)

    def describe(self) -> str:
        """Return what each worker is at, for how long, and the memory that it holds."""
        parts = [] if self.remote is None else [self.remote.describe()]
        for worker, role in self._roles.items():
            at = (
                f"{worker.outstanding[0]} for {worker.busy_seconds():.0f} s" if worker.outstanding else "idle"
            )
            n_behind = len(self._queues.get(role, ()))
            lag = f", {n_behind} behind" if n_behind else ""
            parts.append(f"{worker.name} {at}{lag}, {memory.resident(worker.pid) / 1e6:.0f} MB")
        return "; ".join(parts)

    def peaks(self) -> dict[str, int]:
        """Return the largest memory of each process so far, in bytes."""
        return self._measure(memory.peak)

    def held_memory(self) -> dict[str, int]:
        """Return the memory that each process holds, in bytes."""
        return self._measure(memory.resident)

    def _measure(self, measure: Callable[[int], int]) -> dict[str, int]:
        own = os.getpid()
        others = {worker.name: measure(worker.pid) for worker in self._roles if worker.pid != own}
        return {"coordinator": measure(own)} | others if others else {"all": measure(own)}

    def receive(self, seconds: float = POLL_SECONDS) -> Iterator[tuple[str, messages.Reply | None]]:
        """Deliver what can be delivered, wait some seconds at most, and yield roles with their answers.

        What was given up has none.

        Raises
        ------
        FatalWorkerError
            If a worker failed or is gone.
        """
        for worker, role in self._roles.items():
            queue = self._queues.get(role)
            while queue and len(worker.outstanding) < engine.MAX_IN_FLIGHT:
                self.send(worker, queue.popleft())
        if self.remote is None:
            yield from self._receive_here(seconds)
            return
        replies = [
            *((handling.SCANNER, reply) for reply in self.remote.receive(0.0)),
            *self._receive_here(0.0),
        ]
        if not replies and self._is_busy_here:
            # Nobody can wait for both.
            replies = [*self._receive_here(min(seconds, _SHORT_SECONDS))]
        elif not replies:
            replies = [(handling.SCANNER, reply) for reply in self.remote.receive(seconds)]
        yield from replies

    def _receive_here(self, seconds: float) -> Iterator[tuple[str, messages.Reply | None]]:
        for worker, outcome in self._engine.wait(seconds):
            yield self._roles[worker], outcomes.value(worker, outcome)
