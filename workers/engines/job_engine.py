"""What every engine for jobs can do: make calls somewhere else, each alone, and tell what comes of them.

A job is one call; nothing is kept from one job to the next, and jobs end in any order. Each has exactly one
outcome: what the function returned, its error as text, how its worker ended meanwhile, or that it was given
up. Workers that keep state between messages are those of `engine.Engine`; the jobs of `worker_jobs` run in
such workers.

An engine may run a job more than once, if it loses sight of the one that runs it. So what jobs do to files
has to be harmless when it is done again, and late; what counts as done is judged from files.
"""

import abc
import dataclasses
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from aggregator.workers.engines import outcomes


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A call. It can be pickled; whoever makes the call has this program and its libraries."""

    function: Callable[..., Any]
    """A function of a module."""

    arguments: tuple[Any, ...]
    """What it is called with."""

    about: str
    """What it is about, for people."""


@dataclasses.dataclass(eq=False, slots=True)
class Handle:
    """A job that was submitted. Each is equal to itself only."""

    job: Job
    """The job."""


class JobEngine(abc.ABC):
    """Where jobs run."""

    @abc.abstractmethod
    def capacity(self) -> int:
        """Return how many jobs can run at a time now; 0 if there is nobody at the moment.

        More can be submitted: they wait.
        """

    @abc.abstractmethod
    def submit(self, job: Job) -> Handle:
        """Have a job done; `wait` tells what comes of it."""

    @abc.abstractmethod
    def wait(self, seconds: float) -> Sequence[tuple[Handle, outcomes.Outcome]]:
        """Return new outcomes, as soon as there are any, or none after some seconds."""

    @abc.abstractmethod
    def cancel(self, handle: Handle) -> None:
        """Give a job up, unless it has ended: `wait` tells that it was given up.

        Where the engine can do that, it is not begun any more, and ended if it runs; elsewhere it goes on,
        and nobody hears of it.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything up, and release what is held; this can be called again."""


def call(function: Callable[..., Any], arguments: Sequence[Any]) -> outcomes.Result | outcomes.Failed:
    """Do a job, where it runs; errors become outcomes, since not all of them can be pickled."""
    try:
        result = outcomes.Result(function(*arguments))
        # Some engines never come to an end with a result that can't be sent.
        pickle.dumps(result)
        return result
    except Exception as exc:
        return outcomes.failure(exc)
