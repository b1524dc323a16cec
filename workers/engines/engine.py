"""What every engine can do: start workers, pass messages to them, and tell what comes of it.

A worker answers messages one after the other and may keep state between them. Each message has exactly one
outcome, in the order of messages, unless its worker ends before; that is told once.
"""

import abc
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aggregator.workers.engines import outcomes

MAX_IN_FLIGHT = 2
"""Messages that a worker should have unanswered at most: one to work on, one to go on with."""


class Handler(Protocol):
    """Answers the messages of one worker."""

    def handle(self, message: Any) -> Any:
        """Return the answer to a message."""

    def close(self) -> None:
        """Release all resources."""


def _never(_message: Any) -> bool:
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What a worker runs. It can be pickled, as its messages and their answers can."""

    name: str
    """Name of the worker, for logs and errors."""

    make: Callable[[], Handler]
    """Makes the handler, where the worker is. If it fails, that is the answer to each message."""

    may_give_up: Callable[[Any], bool] = _never
    """Whether the work at a message may be given up in the middle when this process is asked to stop."""


class Runner:
    """A program's handler, whose errors become outcomes; for use where the worker is.

    Parameters
    ----------
    program
        The program.
    """

    def __init__(self, program: Program) -> None:
        self._handler: Handler | None = None
        self._failure: outcomes.Failed | None = None
        try:
            self._handler = program.make()
        except Exception as exc:
            self._failure = outcomes.failure(exc)

    def answer(self, message: Any) -> outcomes.Result | outcomes.Failed:
        """Return what comes of a message."""
        if self._handler is None:
            return self._failure or outcomes.Failed("closed", 1, "")
        try:
            return outcomes.Result(self._handler.handle(message))
        except Exception as exc:
            return outcomes.failure(exc)

    def close(self) -> None:
        """Close the handler."""
        if self._handler is not None:
            self._handler.close()


class Worker(abc.ABC):
    """A running program; made by `Engine.start`.

    Parameters
    ----------
    name
        Its name.
    pid
        Process that it is in; this one, if it has none of its own.
    """

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.outstanding: deque[str] = deque()
        """What the messages without outcome are about, oldest first."""

    @abc.abstractmethod
    def send(self, message: Any, about: str) -> None:
        """Send a message; `Engine.wait` tells what comes of it, or that the worker is gone.

        Parameters
        ----------
        message
            The message.
        about
            What it is about, for people.
        """

    @abc.abstractmethod
    def kill(self) -> None:
        """End the worker at once, whatever it is at; `Engine.wait` tells when it is gone."""

    @abc.abstractmethod
    def busy_seconds(self) -> float:
        """Return for how long the worker has been at its oldest message; stops of processes don't count."""


class Engine(abc.ABC):
    """Where workers run."""

    @abc.abstractmethod
    def start(self, program: Program) -> Worker:
        """Start a worker."""

    @abc.abstractmethod
    def wait(self, seconds: float) -> Sequence[tuple[Worker, outcomes.Outcome]]:
        """Return new outcomes, as soon as there are any, or none after some seconds."""

    @abc.abstractmethod
    def end(self, seconds: float) -> None:
        """End all workers after what they are at; kill those that take longer than some seconds."""
