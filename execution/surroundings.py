"""What a task may change of the process that it runs in, and what comes after it must not notice."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Set back working directory, mask of permissions and logging after a task.

    A process that the task has forked ends where it comes back from the task: it would write what its parent
    writes, and answer in its place.
    """
    process, directory, mask = os.getpid(), _directory(), os.umask(0)
    os.umask(mask)
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    try:
        yield
    except BaseException as exc:
        if os.getpid() != process:
            _end(_code(exc))
        raise
    finally:
        if os.getpid() != process:
            _end(0)
        os.umask(mask)
        if directory is not None and _directory() != directory:
            with contextlib.suppress(OSError):
                os.chdir(directory)
        root.handlers[:] = handlers
        if (root.level, root.manager.disable) != (level, disabled):
            root.setLevel(level)
            logging.disable(disabled)


def _directory() -> str | None:
    """Return the working directory; nothing if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _code(exc: BaseException) -> int:
    """Return the exit code of a process that ends with an exception, after telling what Python would."""
    if not isinstance(exc, SystemExit):
        traceback.print_exception(exc)
        return 1
    return exc.code if isinstance(exc.code, int) else int(exc.code is not None)


def _end(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
