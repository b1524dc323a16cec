"""How a process begins: as a copy of this one where that is safe, else as a new interpreter.

It is deaf to signals, has nothing of the caller's main module, and is gone when its parent is.
"""

import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import multiprocess
from aggregator.workers.engines import copies, fresh_state, thread_pools
from multiprocess import connection, reduction, resource_tracker

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that reach the whole process group; the coordinator decides when workers stop."""

_SAFE_PATH: Final = {"PYTHONSAFEPATH": "1"}
"""Keeps a new interpreter from importing from the current directory, until it has its parent's path."""

Main = Callable[..., None]
"""Main function of a process: called with its end of the pipe, and more."""


class _Descriptor:
    """A file descriptor that a process gets a copy of, and keeps open for its life."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return _take_over, (reduction.DupFd(self.number),)


def _take_over(copy: Any) -> _Descriptor:
    return _Descriptor(copy.detach())


class Process:
    """A process at the other end of a pipe.

    Parameters
    ----------
    main
        Its main function, of a module.
    arguments
        What that is called with, after the pipe.
    inherited
        Descriptors that it keeps open for its life.
    leads_group
        Whether it leads a process group of its own, with all that it starts: that is killed with it, and when
        its parent is gone.
    """

    _running: Final[set["Process"]] = set()

    def __init__(
        self, main: Main, arguments: Sequence[Any], inherited: Sequence[int], *, leads_group: bool = False
    ) -> None:
        self._leads_group = leads_group
        self.pipe, far = multiprocess.Pipe()
        # As long as this end is open, the process has a parent.
        there, self._here = os.pipe()
        Process._running.add(self)
        is_copy = copies.are_safe()
        kept = [_Descriptor(number) for number in (there, *inherited)]
        self._process = multiprocess.get_context("fork" if is_copy else "spawn").Process(
            target=_run, args=(is_copy, leads_group, main, far, arguments, kept), daemon=True
        )
        try:
            with contextlib.nullcontext() if is_copy else _fresh_interpreter(), _blocked_signals():
                self._process.start()
        except BaseException:
            self.close()
            raise
        finally:
            far.close()
            os.close(there)
        self.pid: int = self._process.pid
        self.sentinel: int = self._process.sentinel

    def poll(self) -> int | None:
        """Return its exit code, or nothing if it has not ended; negative is the number of a signal."""
        code: int | None = self._process.exitcode
        return code

    def join(self, seconds: float) -> None:
        """Wait until it has ended, or for some seconds."""
        self._process.join(seconds)

    def kill(self) -> None:
        """Kill it, and wait until it has ended."""
        self.kill_group()
        self._process.kill()
        self._process.join()

    def kill_group(self) -> None:
        """Kill what it has started, if it leads a group."""
        if self._leads_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close this end of everything; if the process runs, it goes."""
        if self in self._running:
            self._running.remove(self)
            self.pipe.close()
            os.close(self._here)


def _run(
    is_copy: bool,
    leads_group: bool,
    main: Main,
    pipe: connection.Connection,
    arguments: Sequence[Any],
    kept: Sequence[_Descriptor],
) -> None:
    """Begin, and run the main function: all that a process does."""
    if is_copy:
        # As long as anybody has the parent's ends of pipes, the other ends can't tell that it is gone.
        for process in list(Process._running):
            process.close()
        fresh_state.restore()
    if leads_group:
        os.setpgid(0, 0)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # What a task starts as a copy of this process has to end when the task tells it to.
    os.register_at_fork(after_in_child=_heed_signals)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(
        target=_watch, args=(kept[0].number, leads_group), name="watch-parent", daemon=True
    ).start()
    main(pipe, *arguments)


def _heed_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _watch(there: int, leads_group: bool) -> None:
    """End this process, and what it has started, as soon as its parent is gone, whatever it is doing."""
    os.read(there, 1)
    if leads_group:
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


@contextlib.contextmanager
def _fresh_interpreter() -> Iterator[None]:
    """Let a new interpreter start with nothing of this process but the path of its modules.

    Workers need nothing of the caller's main module; a script without a main guard would start all over in
    each of them.
    """
    main = sys.modules["__main__"]
    with thread_pools.environment(thread_pools.SINGLE | _SAFE_PATH):
        # The first process starts Python's tracker of shared resources, which unblocks signals in the end, so
        # that they have to be blocked after this.
        resource_tracker.ensure_running()
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Let a new process start with these signals blocked, until it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # The handler of one that has just come may raise here, when they are blocked already.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
