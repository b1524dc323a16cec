"""How a process begins: as a copy of this one where that is safe, else as a new interpreter.

It is deaf to signals, has nothing of the caller's main module, and is gone when its parent is.
"""

import contextlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, Final, Protocol

from aggregator.workers.engines import copies, fresh_state, thread_pools

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that reach the whole process group; the coordinator decides when workers stop."""

_CODE: Final = (
    "import sys; fds = map(int, sys.argv[1:4]); sys.path[:] = sys.argv[4:]; "
    "from aggregator.workers.engines import launch; launch.begin(*fds)"
)
"""What a new interpreter is told: nothing is imported before it has its parent's path."""

Main = Callable[..., None]
"""Main function of a process: called with its end of the pipe, and more."""


class _Child(Protocol):
    """What there is of `subprocess.Popen` for any process."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...


class _Copy:
    """A copy of this process.

    Parameters
    ----------
    pid
        Its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or nothing if it has not ended; negative is the number of a signal."""
        return self._look(os.WNOHANG)

    def wait(self) -> int:
        """Wait until it has ended."""
        return self._look(0) or 0

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _look(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:
                # Somebody has this process ignore how its children end.
                pid, status = self.pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


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
    """

    _running: Final[set["Process"]] = set()

    def __init__(self, main: Main, arguments: Sequence[Any], inherited: Sequence[int]) -> None:
        self.pipe, far = connection.Pipe()
        # The end of the one tells this process that the new one has ended, that of the other the new one.
        self.sentinel, alive = os.pipe()
        there, self._here = os.pipe()
        Process._running.add(self)
        is_copy = copies.are_safe()
        try:
            with _blocked_signals():
                self._child: _Child = (
                    _Copy(self._fork(main, arguments, far, there))
                    if is_copy
                    else _interpreter([far.fileno(), alive, there], inherited)
                )
        except BaseException:
            self.close()
            raise
        finally:
            far.close()
            os.close(alive)
            os.close(there)
        self.pid = self._child.pid
        if not is_copy:
            # A process that ends before it has read this shows in its sentinel.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.pipe.send_bytes(pickle.dumps((main, arguments)))

    @staticmethod
    def _fork(main: Main, arguments: Sequence[Any], far: connection.Connection, there: int) -> int:
        if pid := os.fork():
            return pid
        try:
            # As long as anybody has our ends of pipes, the other ends can't tell that we are gone.
            for process in list(Process._running):
                process.close()
            fresh_state.restore()
            _run(main, arguments, far, there)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def poll(self) -> int | None:
        """Return its exit code, or nothing if it has not ended; negative is the number of a signal."""
        return self._child.poll()

    def join(self, seconds: float) -> None:
        """Wait until it has ended, or for some seconds."""
        if connection.wait([self.sentinel], seconds):
            self._child.wait()

    def kill(self) -> None:
        """Kill it, and wait until it has ended."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """Close this end of everything; if the process runs, it goes."""
        if self in self._running:
            self._running.remove(self)
            self.pipe.close()
            os.close(self.sentinel)
            os.close(self._here)


def _interpreter(own: Sequence[int], inherited: Sequence[int]) -> _Child:
    """Start an interpreter, which gets what to run by its pipe."""
    # Whoever makes copies does not need this.
    import subprocess

    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = [place for place in sys.path if isinstance(place, str)]
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _CODE, *map(str, own), *path],
        env=os.environ | thread_pools.SINGLE,
        pass_fds=[*own, *inherited],
    )


def begin(pipe: int, _alive: int, there: int) -> None:
    """Run what comes by a pipe: all that a new interpreter does."""
    far: connection.Connection = connection.Connection(pipe)
    try:
        main, arguments = pickle.loads(far.recv_bytes())
    except EOFError:
        return
    _run(main, arguments, far, there)


def _run(main: Main, arguments: Sequence[Any], far: connection.Connection, there: int) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_watch, args=(there,), name="watch-parent", daemon=True).start()
    main(far, *arguments)


def _watch(there: int) -> None:
    """End this process as soon as its parent is gone, whatever it is doing."""
    os.read(there, 1)
    os._exit(1)


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Let a new process start with these signals blocked, until it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
