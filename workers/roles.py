"""The roles by name, and what happens around every request: logs, and errors turned into text."""

import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import Protocol

from schemas import errors, messages
from workers import ingester, log_levels, scanner, writer

SCANNER = "scanner"
INGESTER = "ingester"
WRITER = "writer"


class Role(Protocol):
    """Something that answers requests."""

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""

    def close(self) -> None:
        """Give everything back."""


_ROLES: dict[str, Callable[[messages.Setup, logging.Logger], Role]] = {
    SCANNER: scanner.Scanner,
    INGESTER: ingester.Ingester,
    WRITER: writer.Writer,
}


def failure(name: str, exc: BaseException) -> messages.Failed:
    """Return an error as text, its cause first; errors that are no AggregatorError name their class too."""
    known = isinstance(exc, errors.AggregatorError)
    cause = str(exc) if known else f"{type(exc).__name__}: {exc}"
    exit_code = exc.exit_code if isinstance(exc, errors.AggregatorError) else 1
    return messages.Failed(f"{name}: {cause}", exit_code, "".join(traceback.format_exception(exc)))


class Worker:
    """A role with its name and log; usable in any process.

    Parameters
    ----------
    kind
        Which role.
    name
        Name of this worker, for logs and errors.
    setup
        What the role needs to know.
    """

    def __init__(self, kind: str, name: str, setup: messages.Setup) -> None:
        self.name = name
        self.log = worker_log(name, setup)
        self.log.log(log_levels.VERBOSE, "starting as process %d", os.getpid())
        self._role: Role = _ROLES[kind](setup, self.log)

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request; an error becomes a `Failed`."""
        start = time.monotonic()
        try:
            reply = self._role.handle(request)
        except Exception as exc:
            self.log.exception("failed in %s", type(request).__name__)
            return failure(self.name, exc)
        self.log.log(
            log_levels.VERBOSE,
            "%s %s in %.3f s",
            type(request).__name__,
            _number(request),
            time.monotonic() - start,
        )
        return reply

    def close(self) -> None:
        """Give everything back."""
        self._role.close()
        self.log.log(log_levels.VERBOSE, "done")
        for handler in self.log.handlers[:]:
            self.log.removeHandler(handler)
            handler.close()


def _number(request: messages.Request) -> str:
    match request:
        case messages.ScanShard() | messages.CommitShard():
            return str(request.shard)
        case messages.BuildRange():
            return str(request.number)
    return ""


def worker_log(name: str, setup: messages.Setup) -> logging.Logger:
    """Return the log of a worker: a file in `worker_log_dir`, or nowhere.

    Raises
    ------
    RefusedError
        If the level is unknown.
    """
    logger = logging.getLogger(f"workers.{name}")
    logger.propagate = False
    logger.setLevel(log_levels.number(setup.worker_log_level))
    if setup.worker_log_dir is None:
        logger.addHandler(logging.NullHandler())
    else:
        handler = logging.FileHandler(os.path.join(setup.worker_log_dir, f"{name}.log"))
        handler.setFormatter(LogFormatter("{levelname} {asctime} {message}", style="{"))
        logger.addHandler(handler)
    return logger


class LogFormatter(logging.Formatter):
    """Times as ISO 8601, UTC, with milliseconds."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
