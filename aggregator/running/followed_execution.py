"""An aggregation that follows an execution: quanta are scanned and ingested while others run."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator
from typing import Any

from aggregator.aggregation import aggregate, aggregation_request, aggregation_summary, executed_quanta
from aggregator.console import interruption, progress
from aggregator.execution import quantum_attempts
from aggregator.storage import errors

_log = logging.getLogger(__name__)

_SHARE = 2
"""It begins when one of so many quanta is executed: the dictionary is trained with what they have left."""

_STEP_SECONDS = 0.05
"""Time between steps: whoever executes shall not wait for them."""


class Follower:
    """An aggregation that follows an execution.

    What goes wrong in it does not end the execution: it is kept until that is over.

    Parameters
    ----------
    request
        The aggregation.
    stopping
        Takes signals.
    """

    def __init__(self, request: aggregation_request.Request, stopping: interruption.Interruption) -> None:
        self.counts = aggregate.counts(request)
        self.summary: aggregation_summary.Summary | None = None
        """What was done; nothing if scanning had not begun."""
        self.error: errors.AggregatorError | None = None
        """What went wrong."""
        self._request = request
        self._stopping = stopping
        self._executed = executed_quanta.ExecutedQuanta()
        self._work: Generator[None, None, aggregation_summary.Summary] | None = None
        self._has_begun = False
        self._n_executed = self._n_quanta = 0
        self._last_step = 0.0

    @contextlib.contextmanager
    def following(self, n_quanta: int, shown: progress.Progress) -> Iterator[None]:
        """Follow what is executed within this context, and aggregate the rest at its end.

        Parameters
        ----------
        n_quanta
            Quanta that are to be executed.
        shown
            Shows progress.

        Raises
        ------
        Interrupted
            If a second signal came.
        """

        def show(*_: Any, **__: Any) -> contextlib.AbstractContextManager[progress.Progress]:
            return contextlib.nullcontext(shown)

        self._n_quanta = n_quanta
        self._work = aggregate.steps(self._request, self._stopping, show, aggregate.Began(), self._executed)
        with contextlib.closing(self._work):
            try:
                yield
            except errors.AggregatorError:
                if not self._stopping.at_once:
                    self._finish()
                raise
            shown.phase("aggregating")
            self._finish()

    def tell(self, report: quantum_attempts.Report) -> None:
        """Tell what became of a quantum."""
        self._n_executed += 1
        self._executed.add(report.quantum_id)

    def go_on(self) -> None:
        """Do what can be done now."""
        now = time.monotonic()
        if self._n_executed * _SHARE >= self._n_quanta and now - self._last_step >= _STEP_SECONDS:
            self._step()
            self._last_step = time.monotonic()

    def _finish(self) -> None:
        """Aggregate what is executed, and everything if all is."""
        self._executed.is_over = True
        if self._has_begun or self._n_executed == self._n_quanta:
            while self._step():
                pass

    def _step(self) -> bool:
        """Do a step; return whether there are more."""
        if self._work is None:
            return False
        self._has_begun = True
        try:
            next(self._work)
        except StopIteration as end:
            self._work, self.summary = None, end.value
        except errors.AggregatorError as exc:
            self._work, self.error = None, exc
            summary = exc.summary
            self.summary = summary if isinstance(summary, aggregation_summary.Summary) else None
            if isinstance(exc, interruption.Interrupted) and exc.at_once:
                raise
            _log.error("The aggregation has ended: %s", exc)
        return self._work is not None
