"""Shows how far a run is: bars on a terminal, otherwise a line now and then; and tells callers."""

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TextIO

from aggregator.console import terminal
from aggregator.storage import errors

_log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 60.0

_IDLE = 10
"""How many times as rare lines are as long as nothing changes."""

_TEXT = "text"
"""What is shown in place of bars."""

ENDED = "ended"
"""Stage of the last update."""

_UPDATE_SECONDS = 0.5
"""Least time between updates for a callback, unless another stage begins."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """How far a run is.

    Attributes
    ----------
    stage
        What is going on, for instance "scanning"; "ended" in the last update.
    elapsed
        Seconds since the beginning.
    done, total
        Numbers that were and are to be done, by what is counted, for instance "scanned".
    rates
        Numbers done a second.
    memory
        Bytes that each process holds; "all" if there is just one.
    summary
        What was done so far, an object that goes on changing; of some runs there is none.
    """

    stage: str
    elapsed: float
    done: Mapping[str, int]
    total: Mapping[str, int]
    rates: Mapping[str, float]
    memory: Mapping[str, int]
    summary: errors.Account | None


Callback = Callable[[ProgressUpdate], object]
"""Is told of progress by the thread that runs: twice a second at most, and at the begin of each stage.

It is waited for. If it raises an `Exception`, that is logged, the callback is not called again, and the run
goes on: a fault of a display costs no work.
"""


class Progress:
    """Progress of one run.

    Parameters
    ----------
    totals
        What is counted, in the order of display, with its total.
    began
        Time (`time.monotonic`) when the work began.
    interval
        Seconds between lines in the log.
    interactive
        Whether to show bars instead; by default if standard error is a terminal.
    callback
        Is told of progress.
    summary
        What was done so far.
    memory
        Tells how much memory each process holds.
    text
        Tells in one line how far it is; shown in place of bars, and of counts in the log, where nothing is
        written as long as no count changes but a line now and then.
    """

    def __init__(
        self,
        totals: dict[str, int],
        began: float,
        interval: float | None,
        interactive: bool | None,
        callback: Callback | None = None,
        summary: errors.Account | None = None,
        memory: Callable[[], Mapping[str, int]] = dict,
        text: Callable[[], str] | None = None,
    ) -> None:
        self._totals = dict(totals)
        self._done = dict.fromkeys(totals, 0)
        self._interval = interval or _INTERVAL_SECONDS
        self._started = self._last = time.monotonic()
        self._phase = "starting"
        self._began = self._phase_began = began
        self._callback = callback
        self._summary, self._memory = summary, memory
        self._text = text
        self._written: dict[str, int] = {}
        self._told = began
        self.seconds: dict[str, float] = {}
        """How long each phase took; the last one is added at the end."""
        self._shows_bars = terminal.is_terminal(sys.stderr) if interactive is None else interactive
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def _make_bars(self) -> Any:
        # Only here, since importing it takes as long as a small aggregation.
        from rich import console, progress

        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("{task.description:>15}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
        ]
        if self._text is not None:
            columns = [progress.SpinnerColumn(), progress.TextColumn("{task.description}", markup=False)]
        return progress.Progress(
            *columns,
            console=console.Console(stderr=True, highlight=False, soft_wrap=True),
            # The summary tells more than bars that some quanta never fill.
            transient=True,
            redirect_stdout=terminal.is_terminal(sys.stdout),
        )

    def _move_handlers(self, before: TextIO) -> None:
        """Let log handlers of this process write above the bars, as everything does that uses sys.stderr."""
        loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
        for logger in loggers:
            for handler in getattr(logger, "handlers", ()):
                if isinstance(handler, logging.StreamHandler) and handler.__dict__.get("stream") is before:
                    handler.setStream(sys.stderr)
                    self._moved.append((handler, before))

    def phase(self, name: str) -> None:
        """Tell that something else begins."""
        self._end_phase()
        self._phase = name
        _log.info("%s", name.capitalize())
        self._tell(name)

    def _end_phase(self) -> None:
        now = time.monotonic()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._phase_began
        self._phase_began = now

    def advance(self, name: str, count: int) -> None:
        """Count."""
        self._done[name] += count
        if self._bars is not None and self._text is None:
            rate = self._done[name] / max(time.monotonic() - self._started, 1e-3)
            self._bars.update(self._tasks[name], completed=self._done[name], rate=f"{rate:,.0f}/s")

    def beat(self, describe: Callable[[], str]) -> None:
        """Write lines if it is time.

        Parameters
        ----------
        describe
            Tells what the workers are at.
        """
        now = time.monotonic()
        if now - self._told >= _UPDATE_SECONDS:
            self._tell(self._phase)
        if self._text is not None:
            self._beat_text(self._text, now)
        elif self._bars is None and now - self._last >= self._interval:
            self._last = now
            _log.info("%s", self.line(now - self._started))
            _log.info("%s", describe())

    def _beat_text(self, text: Callable[[], str], now: float) -> None:
        """Show a text, or write it if it is time."""
        if self._bars is not None:
            self._bars.update(self._tasks[_TEXT], description=text())
            return
        is_new = self._written != self._done
        if now - self._last >= self._interval * (1 if is_new else _IDLE):
            self._last, self._written = now, dict(self._done)
            _log.info("%s", text())

    def _tell(self, stage: str) -> None:
        """Tell the callback how far the run is."""
        if self._callback is None:
            return
        self._told = time.monotonic()
        working = max(self._told - self._started, 1e-3)
        rates = {name: n / working for name, n in self._done.items()}
        # The caller may keep it, so it has copies.
        done, total, elapsed = dict(self._done), dict(self._totals), self._told - self._began
        update = ProgressUpdate(stage, elapsed, done, total, rates, self._memory(), self._summary)
        try:
            self._callback(update)
        except Exception:
            self._callback = None
            _log.warning(
                "The progress callback failed; it is not called again, the run goes on", exc_info=True
            )

    def line(self, elapsed: float) -> str:
        """Return the state as text, after so many seconds."""
        parts = []
        for name, total in self._totals.items():
            done = self._done[name]
            rate = done / max(elapsed, 1e-3)
            left = f", {(total - done) / rate:.0f} s left" if done and done < total else ""
            parts.append(f"{name} {done} of {total} ({rate:.0f}/s{left})")
        return f"{self._phase}, {elapsed:.0f} s: {'; '.join(parts)}"

    def __enter__(self) -> Self:
        self._tell(self._phase)
        if self._shows_bars:
            before = sys.stderr
            self._bars = self._make_bars()
            # No bars are better than no run.
            with contextlib.suppress(OSError):
                self._bars.start()
            self._move_handlers(before)
            if self._text is not None:
                self._tasks[_TEXT] = self._bars.add_task(self._text(), total=None)
                return self
            for name, total in self._totals.items():
                self._tasks[name] = self._bars.add_task(name, total=total, rate="")
        return self

    def __exit__(self, *exc: object) -> None:
        self._end_phase()
        self._tell(ENDED)
        if self._bars is not None:
            for handler, stream in self._moved:
                handler.setStream(stream)
            with contextlib.suppress(OSError):
                self._bars.stop()
            self._bars = None
