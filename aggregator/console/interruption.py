"""Signals and cancellation: once means finish what is under way and stop; a second signal means stop now."""

import signal
import threading
import types
from collections.abc import Callable
from typing import Any, Self, TypeVar

from aggregator.storage import errors

_T = TypeVar("_T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_code(number: int) -> int:
    """Return the exit code of a command that a signal has ended; 0 counts as Ctrl-C."""
    return 128 + (signal.SIGTERM if number == signal.SIGHUP else number or signal.SIGINT)


def _take_signals(handler: Callable[[int, types.FrameType | None], None]) -> dict[signal.Signals, Any]:
    """Have signals handled, and return what has handled each of them before.

    Signals only come to the main thread; in any other, there are none to take. A terminal that is closed
    is nothing to a command that was told to ignore that (nohup).
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    return before


class Interrupted(errors.AggregatorError):
    """The run was stopped, by a signal or a `Cancellation`; the same command or call goes on.

    Parameters
    ----------
    number
        The signal; 0 for a cancellation, which counts as Ctrl-C. A terminal that is closed (SIGHUP) counts as
        a request to end (SIGTERM).
    at_once
        Whether not to wait for what is under way.
    """

    __module__ = "aggregator"

    def __init__(self, number: int, at_once: bool) -> None:
        self.exit_code = exit_code(number)
        self.at_once = at_once
        how, again = ("cancelled", "Make the same call")
        if number:
            how, again = f"interrupted by {signal.Signals(number).name}", "Run the same command"
        super().__init__(f"{how}; what was done is kept. {again} to go on.")


class Cancellation:
    """Stops a run from another thread, a progress callback, or a notebook, as one Ctrl-C does.

    What is under way is finished, then the run raises `Interrupted`; the same call goes on. It stays
    cancelled, so each run needs one of its own.
    """

    __slots__ = ("_is_cancelled",)

    def __init__(self) -> None:
        self._is_cancelled = False

    def __repr__(self) -> str:
        return f"<Cancellation: {'cancelled' if self._is_cancelled else 'not cancelled'}>"

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Ask the run to stop, and return at once; may be called by any thread, and more than once."""
        self._is_cancelled = True


class Stop(KeyboardInterrupt):
    """Ends what is under way, wherever it is; no handler of errors takes it for one."""


class CommandSignals:
    """Takes signals as long as no `Interruption` does.

    Before the work, or in a command that needs no more, one ends the command. After the work all is as it
    shall be: one changes nothing. But a second one ends the process: nobody may ever read what it prints.
    """

    def __init__(self) -> None:
        self.number = 0
        """The signal that has ended the command; 0 if none has."""
        self._is_over = self._is_heard = False
        self._before: dict[signal.Signals, Any] = {}

    def begin(self) -> None:
        """Take signals from now on."""
        self._before = _take_signals(self._take)

    def work_is_over(self) -> None:
        """End the command with nothing that comes from now on."""
        self._is_over = True

    def end(self, *, is_last: bool) -> None:
        """Take no signals any more.

        Parameters
        ----------
        is_last
            Whether the process ends now; while Python does that, it would let signals kill it.
        """
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if is_last else handler)

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        if not self._is_over:
            self._is_over = True
            self.number = number
            raise Stop
        if self._is_heard:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._is_heard = True


class Interruption:
    """Takes signals while a command works, and gives them back afterwards; looks at a cancellation, too.

    Parameters
    ----------
    cancellation
        What may ask to stop as well.
    """

    def __init__(self, cancellation: Cancellation | None = None) -> None:
        self.at_once = False
        """Whether a second signal came."""
        self._cancellation = cancellation or Cancellation()
        self._number = 0
        self._gives_up = False
        self._before: dict[signal.Signals, Any] = {}

    @property
    def is_asked(self) -> bool:
        """Whether a signal or a cancellation has asked to stop."""
        return bool(self._number) or self._cancellation.is_cancelled

    def __enter__(self) -> Self:
        self._before = _take_signals(self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        for number, handler in self._before.items():
            command = getattr(handler, "__self__", None)
            if isinstance(command, CommandSignals):
                command.work_is_over()
            signal.signal(number, handler)
        if kind is Stop:
            raise Interrupted(self._number, at_once=True) from None

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        if self.at_once:
            # The end is under way already.
            return
        self.at_once = bool(self._number)
        self._number = number
        if self.at_once or self._gives_up:
            self._gives_up = False
            raise Stop

    def check(self) -> None:
        """Raise Interrupted if a signal or a cancellation has asked to stop."""
        if self.is_asked:
            raise Interrupted(self._number, at_once=self.at_once)

    def attempt(self, work: Callable[[], _T]) -> _T | None:
        """Return what some work returns; give it up as soon as a signal comes, wherever it is.

        A cancellation is seen before it only.

        Parameters
        ----------
        work
            Something that may be killed at any moment: nobody relies on what it has not completed.

        Returns
        -------
        result
            What it returns; nothing if it was given up, or asked to stop before.
        """
        try:
            try:
                self._gives_up = True
                return None if self.is_asked else work()
            finally:
                self._gives_up = False
        except Stop:
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
        except Stop:
            raise Interrupted(self._number, at_once=True) from None
