"""Signals: once means finish what is under way and stop, twice means stop now."""

import signal
import threading
import types
from typing import Any, Self

from schemas import errors

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(errors.AggregatorError):
    """The run was stopped by a signal; the same command goes on.

    Parameters
    ----------
    number
        The signal.
    at_once
        Whether not to wait for what is under way.
    """

    def __init__(self, number: int, at_once: bool) -> None:
        self.exit_code = 128 + number
        self.at_once = at_once
        name = signal.Signals(number).name
        super().__init__(f"interrupted by {name}; what was done is kept. Run the same command to go on.")


class Interruption:
    """Takes signals while an aggregation runs; gives them back afterwards.

    Signals only come to the main thread; in any other, there are none to take.
    """

    def __init__(self) -> None:
        self.number = 0
        """Signal that asked to stop; 0 for none."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        if self.number:
            raise Interrupted(number, at_once=True)
        self.number = number

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.number:
            raise Interrupted(self.number, at_once=False)
