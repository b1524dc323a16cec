"""An engine for tests: it answers in any order that is possible, and its workers end or hang when told to."""

import dataclasses
import os
import random
import signal
from collections import deque
from collections.abc import Sequence
from typing import Any

from aggregator.workers.engines import engine, outcomes


@dataclasses.dataclass(slots=True)
class _Fate:
    """What is going to become of a worker."""

    n_left: int
    """Messages that it still answers."""

    end: outcomes.Outcome | None
    """How it ends; nothing if it hangs."""


class Worker(engine.Worker):
    """A worker of `Engine`.

    Parameters
    ----------
    program
        Its program.
    where
        Its engine.
    """

    def __init__(self, program: engine.Program, where: "Engine") -> None:
        super().__init__(program.name, os.getpid())
        self._engine = where
        self._since = 0.0
        self._messages: deque[Any] = deque()
        self._runner = engine.Runner(program)
        self._fate: _Fate | None = None
        self._is_gone = False

    def send(self, message: Any, about: str) -> None:
        """Keep a message until it is answered."""
        if not self.outstanding:
            self._since = self._engine.seconds
        self.outstanding.append(about)
        self._messages.append(message)

    def kill(self) -> None:
        """End, before the next answer."""
        self._fate = _Fate(0, outcomes.Killed(signal.SIGKILL))

    def busy_seconds(self) -> float:
        """Return for how long it has been at its oldest message, as the engine counts seconds."""
        return self._engine.seconds - self._since if self.outstanding else 0.0

    def meet(self, fate: _Fate) -> None:
        """Let something become of it."""
        self._fate = fate

    @property
    def can_go_on(self) -> bool:
        """Whether something can come of it now."""
        if self._is_gone:
            return False
        if self._fate is not None and not self._fate.n_left:
            return self._fate.end is not None
        return bool(self._messages)

    def go_on(self) -> outcomes.Outcome:
        """Answer the oldest message, or end."""
        if self._fate is not None:
            if not self._fate.n_left and self._fate.end is not None:
                self._is_gone = True
                return self._fate.end
            self._fate.n_left -= 1
        outcome = self._runner.answer(self._messages.popleft())
        self.outstanding.popleft()
        self._since = self._engine.seconds
        return outcome

    def close(self) -> None:
        """Close the handler."""
        self._runner.close()


class Engine(engine.Engine):
    """Runs workers in the calling process, one message of one worker at each `wait`.

    Parameters
    ----------
    seed
        Which of the possible orders of answers to take.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.workers: list[Worker] = []
        self.seconds = 0.0
        """Seconds that have passed: those in which `wait` had nothing to return."""

    def start(self, program: engine.Program) -> engine.Worker:
        """Start a worker."""
        worker = Worker(program, self)
        self.workers.append(worker)
        return worker

    def end_worker(self, name: str, end: outcomes.Outcome, after: int = 0) -> None:
        """Let a worker end after some more answers."""
        self._named(name).meet(_Fate(after, end))

    def hang(self, name: str, after: int = 0) -> None:
        """Let a worker answer nothing any more after some more answers."""
        self._named(name).meet(_Fate(after, None))

    def _named(self, name: str) -> Worker:
        return next(worker for worker in self.workers if worker.name == name)

    def wait(self, seconds: float) -> Sequence[tuple[engine.Worker, outcomes.Outcome]]:
        """Return one outcome, or none after some seconds, which pass at once."""
        ready = [worker for worker in self.workers if worker.can_go_on]
        if not ready:
            self.seconds += seconds
            return []
        chosen = self._random.choice(ready)
        return [(chosen, chosen.go_on())]

    def end(self, seconds: float) -> None:
        """Close all handlers."""
        while self.workers:
            self.workers.pop().close()
