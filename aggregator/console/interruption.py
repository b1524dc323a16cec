"""Signals: once means finish what is under way and stop, twice means stop now."""

import signal
import threading
import types
from collections.abc import Callable
from typing import Any, Self, TypeVar

from aggregator.storage import errors

_T = TypeVar("_T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(errors.AggregatorError):
    """The run was stopped by a signal; the same command goes on.

    Parameters
    ----------
    number
        The signal. A terminal that is closed (SIGHUP) counts as a request to end (SIGTERM).
    at_once
        Whether not to wait for what is under way.
    """

    def __init__(self, number: int, at_once: bool) -> None:
        self.exit_code = 128 + (signal.SIGTERM if number == signal.SIGHUP else number)
        self.at_once = at_once
        name = signal.Signals(number).name
        super().__init__(f"interrupted by {name}; what was done is kept. Run the same command to go on.")


class _Stop(KeyboardInterrupt):
    """Ends what is under way, wherever it is; no handler of errors takes it for one."""


class Interruption:
    """Takes signals while a command runs; gives them back afterwards.

    Signals only come to the main thread; in any other, there are none to take. A terminal that is closed
    is nothing to a command that was told to ignore that (nohup).
    """

    def __init__(self) -> None:
        self.number = 0
        """Signal that asked to stop; 0 for none."""
        self.at_once = False
        """Whether a second one came."""
        self._gives_up = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is _Stop:
            raise Interrupted(self.number, at_once=True) from None

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        if self.at_once:
            # The end is under way already.
            return
        self.at_once = bool(self.number)
        self.number = number
        if self.at_once or self._gives_up:
            self._gives_up = False
            raise _Stop

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.number:
            raise Interrupted(self.number, at_once=self.at_once)

    def attempt(self, work: Callable[[], _T]) -> _T | None:
        """Return what some work returns; give it up as soon as a signal comes, wherever it is.

        Parameters
        ----------
        work
            Something that may be killed at any moment: nobody relies on what it has not completed.

        Returns
        -------
        result
            What it returns; nothing if it was given up, or a signal had come before.
        """
        try:
            try:
                self._gives_up = True
                return None if self.number else work()
            finally:
                self._gives_up = False
        except _Stop:
            if self.at_once:
                raise
            return None

    def told(self, work: Callable[[], _T]) -> _T:
        """Return what some work returns; a second signal in it is raised as an error of its own.

        Raises
        ------
        Interrupted
            If a second signal came.
        """
        try:
            return work()
        except _Stop:
            raise Interrupted(self.number, at_once=True) from None
