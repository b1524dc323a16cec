"""Workers in the calling process: they answer while the message is sent."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aggregator.workers.engines import engine, outcomes

Attempt = Callable[[Callable[[], outcomes.Outcome]], outcomes.Outcome | None]
"""Returns what some work returns, or nothing if it was given up."""


class Worker(engine.Worker):
    """A worker of `Engine`.

    Parameters
    ----------
    program
        Its program.
    attempt
        Does what may be given up.
    replies
        Where outcomes go.
    """

    def __init__(
        self,
        program: engine.Program,
        attempt: Attempt,
        replies: deque[tuple[engine.Worker, outcomes.Outcome]],
    ) -> None:
        super().__init__(program.name, os.getpid())
        self._program = program
        self._attempt = attempt
        self._replies = replies
        self.runner = engine.Runner(program)

    def send(self, message: Any, about: str) -> None:
        """Answer a message; `Engine.wait` has the outcome."""
        outcome: outcomes.Outcome | None
        if self._program.may_give_up(message):
            outcome = self._attempt(lambda: self.runner.answer(message))
        else:
            outcome = self.runner.answer(message)
        self.outstanding.append(about)
        self._replies.append((self, outcome or outcomes.GivenUp()))

    def kill(self) -> None:
        """Do nothing: it is at nothing when anybody can ask for that."""

    def busy_seconds(self) -> float:
        """Return 0: nobody can look while it is at a message."""
        return 0.0


class Engine(engine.Engine):
    """Runs workers in the calling process.

    Parameters
    ----------
    attempt
        Does what may be given up at any moment; by default nothing is.
    """

    def __init__(self, attempt: Attempt = lambda work: work()) -> None:
        self._attempt = attempt
        self._workers: list[Worker] = []
        self._replies: deque[tuple[engine.Worker, outcomes.Outcome]] = deque()

    def start(self, program: engine.Program) -> engine.Worker:
        """Start a worker."""
        worker = Worker(program, self._attempt, self._replies)
        self._workers.append(worker)
        return worker

    def wait(self, seconds: float) -> Sequence[tuple[engine.Worker, outcomes.Outcome]]:
        """Return the outcomes of all messages since the call before."""
        replies = list(self._replies)
        self._replies.clear()
        for worker, _ in replies:
            worker.outstanding.popleft()
        return replies

    def end(self, seconds: float) -> None:
        """Close all handlers."""
        while self._workers:
            self._workers[-1].runner.close()
            self._workers.pop()
