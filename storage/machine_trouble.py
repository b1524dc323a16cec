"""Trouble of the machine, told apart from what a file is: it may pass, and says nothing of the file."""

import errno
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from aggregator.storage import errors

P = ParamSpec("P")
T = TypeVar("T")

_OF_THE_FILE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EACCES,
        errno.EPERM,
        errno.EINVAL,
        errno.EILSEQ,
        errno.EOVERFLOW,
        errno.EFBIG,
        # Sockets, and devices without a driver.
        errno.ENXIO,
        errno.ENODEV,
        # Of places where something is going to be written.
        errno.EEXIST,
        errno.EROFS,
    }
)
"""Errors that the next attempt, and every other machine, would meet as well. All others are the machine's:
a list of those could never be complete."""

_PAUSES = (0.05, 0.2, 0.5)
"""Seconds to wait before another attempt: a restarted server or a crowd of open files may pass."""


def is_machine_trouble(exc: OSError) -> bool:
    """Return whether an error says nothing about the file that it was met at."""
    return exc.errno not in _OF_THE_FILE


def explain(exc: OSError | UnicodeError, path: str) -> errors.AggregatorError | None:
    """Return trouble of the machine as an error to be raised; nothing if it is a property of the file."""
    if isinstance(exc, UnicodeError):
        return errors.MachineError(path, "has characters that this locale can't write; set LC_ALL=C.UTF-8")
    if is_machine_trouble(exc):
        return errors.MachineError(path, exc.strerror or str(exc))
    return None


def refusal(path: str, exc: OSError, text: str) -> errors.AggregatorError:
    """Return the error for what can't be used or written: a refusal, unless the next attempt may succeed.

    Parameters
    ----------
    path
        What can't be used.
    exc
        What the system says.
    text
        What is refused, and what to do.
    """
    return explain(exc, path) or errors.RefusedError(text)


def watched(path: str, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what an action on a file gives; trouble of the machine becomes an error that says so.

    Raises
    ------
    MachineError
        If there is such trouble; other errors stay as they are.
    """
    try:
        return action(*args, **kwargs)
    except OSError as exc:
        if is_machine_trouble(exc):
            raise errors.MachineError(path, exc.strerror or str(exc)) from exc
        raise


def attempt(path: str, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what an action gives, repeated a few times as long as the machine is in trouble.

    Parameters
    ----------
    path
        What to name if the trouble stays.
    action, args, kwargs
        What to call with what.

    Raises
    ------
    OSError
        What the action raises, if it is a property of the file.
    MachineError
        If the trouble stays.
    """
    for pause in _PAUSES:
        try:
            return action(*args, **kwargs)
        except (OSError, UnicodeError) as exc:
            trouble = explain(exc, path)
            if trouble is None:
                raise
            if isinstance(exc, UnicodeError):
                raise trouble from exc
            time.sleep(pause)
    return watched(path, action, *args, **kwargs)
