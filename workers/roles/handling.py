"""The roles by name, and what happens around every request: its log, and the profile of all of them."""

import functools
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

from aggregator.schemas import messages, output_kinds, output_paths
from aggregator.storage import errors, machine_trouble
from aggregator.workers import log_handlers, log_levels
from aggregator.workers.engines import engine, thread_pools

SCANNER = "scanner"
INGESTER = "ingester"
WRITER = "writer"


class Role(Protocol):
    """Something that answers requests."""

    def handle(self, request: messages.Request) -> messages.Reply:
        """Answer a request."""

    def close(self) -> None:
        """Release all resources."""


_ROLES: Final = {
    SCANNER: ("aggregator.workers.roles.scanning.scanner", "Scanner"),
    INGESTER: ("aggregator.workers.roles.ingesting.ingester", "Ingester"),
    WRITER: ("aggregator.workers.roles.writing.writer", "Writer"),
}
"""Module and class of each role."""


def load(kind: str) -> Callable[[messages.Setup, logging.Logger], Role]:
    """Return the class of a role. Only its own libraries are imported: that is most of a worker's start."""
    if kind not in _ROLES:
        raise ValueError(f"unknown role {kind!r}")
    module, name = _ROLES[kind]
    role: Callable[[messages.Setup, logging.Logger], Role] = getattr(thread_pools.import_module(module), name)
    return role


def program(kind: str, name: str) -> engine.Program:
    """Return what makes a worker a role.

    Parameters
    ----------
    kind
        Which role.
    name
        Name of the worker.
    """
    may_give_up = functools.partial(_may_give_up, kind)
    return engine.Program(name, functools.partial(Worker, kind, name), may_give_up)


def _may_give_up(kind: str, message: messages.Setup | messages.Request) -> bool:
    # What a batch or a graph consists of has to be whole; all else is done again by the next run.
    return kind != INGESTER and not isinstance(message, messages.Setup | messages.PublishGraph)


class Worker:
    """A role with its name, log and profile; usable in any process. The first message must be its `Setup`.

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
        self._profile: Profile | None = None

    def handle(self, message: messages.Setup | messages.Request) -> messages.Reply:
        """Answer a message; its errors are in the log, too."""
        start = time.monotonic()
        try:
            reply = self._answer(message)
        except Exception:
            self._log.exception("failed in %s", type(message).__name__)
            raise
        seconds = time.monotonic() - start
        self._log.log(log_levels.VERBOSE, "%s in %.3f s", describe(message), seconds)
        return reply

    def _answer(self, message: messages.Setup | messages.Request) -> messages.Reply:
        if isinstance(message, messages.Setup):
            if message.worker_profile_dir:
                path = os.path.join(message.worker_profile_dir, f"{self.name}.profile")
                self._profile = Profile(path, message.protection)
            open_log(self._log, self.name, message)
            self._log.log(log_levels.VERBOSE, "starting as process %d", os.getpid())
            self._role = self._make_role(message, self._log)
            return messages.Ready()
        if self._role is None:
            raise RuntimeError("a worker was not set up")
        return self._role.handle(message)

    def close(self) -> None:
        """Release all resources."""
        if self._role is not None:
            self._role.close()
        if self._profile is not None:
            self._profile.write()
        self._log.log(log_levels.VERBOSE, "done")
        for handler in self._log.handlers[:]:
            self._log.removeHandler(handler)
            handler.close()
        # As it was: in another run of this process the worker may be somewhere else.
        self._log.propagate = True
        self._log.setLevel(logging.NOTSET)


class Profile:
    """Measures what this process does from now on.

    Parameters
    ----------
    path
        File that the profile goes to.
    protection
        What must not be written.
    """

    def __init__(self, path: str, protection: output_paths.Protection) -> None:
        self._path = path
        self._protection = protection
        # Few workers are measured.
        import cProfile

        self._profile = cProfile.Profile()
        self._profile.enable()

    def write(self) -> None:
        """Stop, and write the profile; if that is impossible, say so."""
        self._profile.disable()
        try:
            output_paths.check_again(self._path, output_kinds.Kind.PROFILE, self._protection)
            self._profile.dump_stats(self._path)
        except (OSError, errors.AggregatorError) as exc:
            print(f"No profile is written: {exc}", file=sys.stderr)


def describe(message: messages.Setup | messages.Request) -> str:
    """Return what a message is about, for people."""
    name = type(message).__name__
    match message:
        case messages.ScanShard() | messages.CommitShard() | messages.BuildOutputs():
            return f"{name} {message.shard}"
        case messages.FindFile():
            return f"{name} {message.request.shard}"
        case messages.LookAgain():
            return f"{name} {message.shards[0].shard}"
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
        output_paths.check_again(path, output_kinds.Kind.LOG, setup.protection)
        try:
            handler = log_handlers.LogFile(path)
        except OSError as exc:
            text = f"{path}: can't write the log ({exc.strerror}). Choose another directory."
            raise machine_trouble.refusal(path, exc, text) from exc
        handler.setFormatter(log_handlers.WorkerFormatter("{levelname} {asctime} {message}", style="{"))
        log.addHandler(handler)
