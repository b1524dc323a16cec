"""The roles by name, and what happens around every request: logs, and errors turned into text."""

import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import Protocol

from aggregator.schemas import messages, output_paths
from aggregator.storage import errors, local_files
from aggregator.workers import log_handlers, log_levels

SCANNER = "scanner"
INGESTER = "ingester"
WRITER = "writer"


class Role(Protocol):
    """Something that answers requests."""

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""

    def close(self) -> None:
        """Give everything back."""


def load(kind: str) -> Callable[[messages.Setup, logging.Logger], Role]:
    """Return the class of a role. Only its own libraries are imported: that is most of a worker's start."""
    match kind:
        case "scanner":
            from aggregator.workers.roles.scanning import scanner

            return scanner.Scanner
        case "ingester":
            from aggregator.workers.roles.ingesting import ingester

            return ingester.Ingester
        case "writer":
            from aggregator.workers.roles.writing import writer

            return writer.Writer
    raise ValueError(f"unknown role {kind!r}")


def failure(name: str, exc: BaseException) -> messages.Failed:
    """Return an error as text, its cause first; errors that are no AggregatorError name their class too."""
    if isinstance(exc, OSError) and exc.errno:
        known: BaseException = errors.of_system(exc)
    else:
        known = exc
    cause = str(known) if isinstance(known, errors.AggregatorError) else f"{type(exc).__name__}: {exc}"
    exit_code = exc.exit_code if isinstance(exc, errors.AggregatorError) else 1
    return messages.Failed(f"{name}: {cause}", exit_code, "".join(traceback.format_exception(exc)))


class Worker:
    """A role with its name and log; usable in any process. The first message must be its `Setup`.

    Parameters
    ----------
    kind
        Which role.
    name
        Name of this worker, for logs and errors.
    """

    def __init__(self, kind: str, name: str) -> None:
        self.name = name
        self._make_role = load(kind)
        self._role: Role | None = None
        self._log = logging.getLogger(f"workers.{name}")

    def handle(self, message: messages.Setup | messages.Request) -> messages.Reply:
        """Answer a message; an error becomes a `Failed`."""
        start = time.monotonic()
        try:
            reply = self._answer(message)
        except Exception as exc:
            self._log.exception("failed in %s", type(message).__name__)
            return failure(self.name, exc)
        seconds = time.monotonic() - start
        self._log.log(log_levels.VERBOSE, "%s in %.3f s", describe(message), seconds)
        return reply

    def _answer(self, message: messages.Setup | messages.Request) -> messages.Reply:
        if isinstance(message, messages.Setup):
            open_log(self._log, self.name, message)
            self._log.log(log_levels.VERBOSE, "starting as process %d", os.getpid())
            self._role = self._make_role(message, self._log)
            return messages.Ready()
        if self._role is None:
            raise RuntimeError("a worker was not set up")
        return self._role.handle(message)

    def close(self) -> None:
        """Give everything back."""
        if self._role is not None:
            self._role.close()
        self._log.log(log_levels.VERBOSE, "done")
        for handler in self._log.handlers[:]:
            self._log.removeHandler(handler)
            handler.close()
        # As it was: in another run of this process the worker may be somewhere else.
        self._log.propagate = True
        self._log.setLevel(logging.NOTSET)


def describe(message: messages.Setup | messages.Request) -> str:
    """Return what a message is about, for people."""
    name = type(message).__name__
    match message:
        case messages.ScanShard() | messages.CommitShard() | messages.BuildOutputs():
            return f"{name} {message.shard}"
        case messages.FindFile():
            return f"{name} {message.request.shard}"
        case messages.BuildInputs():
            return f"{name} {message.number}"
    return name


def open_log(log: logging.Logger, name: str, setup: messages.Setup) -> None:
    """Let a worker's log go to a file in `worker_log_dir`, or nowhere.

    Raises
    ------
    RefusedError
        If the level is unknown, or the file can't be written.
    """
    log.propagate = False
    # Without any, Python prints errors on its own.
    log.addHandler(logging.NullHandler())
    log.setLevel(log_levels.number(setup.worker_log_level))
    if setup.worker_log_dir is None:
        log.setLevel(logging.CRITICAL + 1)
    else:
        path = os.path.join(setup.worker_log_dir, f"{name}.log")
        output_paths.check_again(path, output_paths.Kind.LOG, setup.protection)
        try:
            handler = log_handlers.LogFile(path)
        except OSError as exc:
            text = f"{path}: can't write the log ({exc.strerror}). Choose another directory."
            raise local_files.refusal(path, exc, text) from exc
        handler.setFormatter(log_handlers.WorkerFormatter("{levelname} {asctime} {message}", style="{"))
        log.addHandler(handler)
