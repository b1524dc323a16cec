"""Runs a command that ends with whoever runs it; a script that needs nothing but the standard library.

    python leash.py DESCRIPTOR LIFELINE COMMAND ...

The command, with all that it has started, is ended as soon as the other end of the pipe DESCRIPTOR closes,
or the file LIFELINE (empty for none) is gone: it is told to end, told again to end at once, and killed if it
does not. This ends as the command does: with its exit code, or by the same signal. A signal to end is none of
its business: the command ends when whoever runs it has taken that up.

This leads a process group, which whoever runs it kills afterwards: nothing outlives a leash that was killed.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable

NOT_STARTED = 127
"""Exit code if the command can't be started, as that of shells."""

POLL_SECONDS = 1.0
"""How often the file is looked for."""

SECONDS_TO_STOP = 0.3
"""How long a command may take to end before it is told to do that at once."""
SECONDS_TO_END = 5.0
"""How long it may take for that, to put on record what it was at."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that may be meant for the worker, and would leave the command alone."""
_SIGNAL_AT_END = 1
"""Number of the option of a process to get a signal when its parent ends (prctl)."""


def main(there: int, lifeline: str, command: list[str]) -> int:
    """Run a command; return its exit code, negative for a signal."""
    for number in _SIGNALS:
        # What is ignored is so for the command, too; nothing else changes for that.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if _is_gone(lifeline):
        return -signal.SIGKILL
    if os.getpgid(0) != os.getpid():
        # What is killed in the end must be its own.
        os.setpgid(0, 0)
    library = ctypes.CDLL(None)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # There is no other thread.
            preexec_fn=lambda: library.prctl(_SIGNAL_AT_END, signal.SIGKILL),
        )
    except OSError as exc:
        print(f"{command[0]}: can't be started ({exc.strerror})", file=sys.stderr)
        return NOT_STARTED
    ended = end_of(process.pid)
    is_alone = False
    while True:
        ready = ready_of([there, ended], POLL_SECONDS if lifeline else None)
        is_alone = there in ready
        if is_alone or ended in ready or _is_gone(lifeline):
            break
    for seconds in (SECONDS_TO_STOP, SECONDS_TO_END):
        if not ready_of([ended], 0.0):
            process.terminate()
            ready_of([ended], seconds)
    if is_alone or not ready_of([ended], 0.0):
        # Nobody else would do it.
        os.killpg(0, signal.SIGKILL)
    return process.wait()


def end_of(pid: int) -> int:
    """Return a descriptor that can be read as soon as a child has ended, whose exit code is not asked for.

    Kernels and containers of some clusters have no descriptors of processes.
    """
    reading, writing = os.pipe()

    def watch() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # Closing is not enough: a copy of this process may have it open, too.
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, b".")
        os.close(writing)

    threading.Thread(target=watch, daemon=True).start()
    return reading


def ready_of(descriptors: Iterable[int], seconds: float | None = None) -> list[int]:
    """Return those that can be read, or are closed at their other end, when the first is or time is over."""
    # There may be more of them than `select` can look at.
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in waiting.poll(None if seconds is None else 1000 * seconds)]


def _is_gone(lifeline: str) -> bool:
    if not lifeline:
        return False
    try:
        os.stat(lifeline)
    except FileNotFoundError:
        return True
    except OSError:
        # What can't be looked at is not gone.
        pass
    return False


if __name__ == "__main__":
    code = main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
