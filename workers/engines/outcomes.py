"""What comes of a message to a worker, or of the worker itself."""

import dataclasses
import os
import signal
import traceback
from typing import Any, Protocol

from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A message was answered."""

    value: Any
    """The answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """A message led to an error, which crosses borders of processes as text."""

    cause: str
    """What happened, in one line."""

    exit_code: int
    """Exit code that the cause asks for."""

    details: str
    """Traceback, for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class GivenUp:
    """The work at a message was given up because this process was asked to stop."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exited:
    """The worker's process ended by itself."""

    code: int
    """Its exit code."""


@dataclasses.dataclass(frozen=True, slots=True)
class Killed:
    """The worker's process was ended by a signal."""

    number: int
    """The signal."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """The worker can't be reached any more; what became of it is not known."""

    reason: str
    """How that shows."""


Outcome = Result | Failed | GivenUp | Exited | Killed | Lost
"""The last three are of the worker: messages that it has not answered have no other outcome."""


class Named(Protocol):
    """A worker, as far as errors need it."""

    name: str
    pid: int


def failure(exc: BaseException) -> Failed:
    """Return an error as text; errors that are no AggregatorError name their class too."""
    details = "".join(traceback.format_exception(exc))
    error: BaseException = errors.of_system(exc) if isinstance(exc, OSError) and exc.errno else exc
    cause = str(error) if isinstance(error, errors.AggregatorError) else f"{type(exc).__name__}: {exc}"
    exit_code = exc.exit_code if isinstance(exc, errors.AggregatorError) else 1
    return Failed(cause, exit_code, details)


def value(worker: Named, outcome: Outcome) -> Any:
    """Return the answer of a worker; nothing if it was given up.

    Raises
    ------
    RefusedError
        If the worker refused the request.
    FatalWorkerError
        If the worker failed otherwise, or is gone.
    """
    match outcome:
        case Result(answer):
            return answer
        case Failed(cause, exit_code, details):
            refused = exit_code == errors.RefusedError.exit_code
            # Nobody who has asked for one process knows of workers.
            text = cause if worker.pid == os.getpid() else f"{worker.name}: {cause}"
            error = (errors.RefusedError if refused else errors.FatalWorkerError)(text)
            error.add_note(details)
            raise error
        case GivenUp():
            return None
        case Killed(number):
            end = f"was killed by {signal.Signals(number).name}"
        case Exited(code):
            end = f"ended with exit code {code}"
        case Lost(reason):
            end = f"can't be reached ({reason})"
    raise errors.FatalWorkerError(
        f"{worker.name} (process {worker.pid}) {end}; what is committed stays. Run the same command again."
    )
