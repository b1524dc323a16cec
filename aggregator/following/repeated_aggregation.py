"""One aggregation again and again while a campaign goes on, and a last time when it is over."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Iterator

from aggregator.aggregation import aggregate, aggregation_request, aggregation_summary, configuration
from aggregator.console import interruption, progress
from aggregator.storage import errors
from aggregator.workers.engines import processor_time

_log = logging.getLogger(__name__)


class RepeatedAggregation:
    """Aggregates with one checkpoint, which stays locked from the first time to the last.

    Parameters
    ----------
    request
        The last aggregation.
    stopping
        Takes signals.
    began
        When the first one began.
    on_progress
        Is told of the progress of those that may take long.
    """

    def __init__(
        self,
        request: aggregation_request.Request,
        stopping: interruption.Interruption,
        began: aggregate.Began,
        on_progress: progress.Callback | None,
    ) -> None:
        self.request = request
        if request.config.job_records:
            # Few runs have such records.
            from aggregator.schemas.jobs import growing_logs

            self.request = dataclasses.replace(request, logs=growing_logs.GrowingLogs())
        self._config = request.config
        self._stopping = stopping
        self._began = began
        self._on_progress = on_progress
        self.summary: aggregation_summary.Summary | None = None
        """What was done so far; nothing before scanning began for the first time."""
        self._conflicts = ""
        """What the database refused the last time."""
        self.phases: dict[str, float] = {}
        """Seconds that each phase of all of them has taken."""

    def first(self) -> None:
        """Aggregate what has succeeded, as much as that may be.

        Raises
        ------
        AggregatorError
            As `aggregate.aggregate_graph` does; also of the other methods.
        """
        self._gather(self._incomplete(), self._config.interactive_status, self._on_progress)

    def again(self) -> None:
        """Aggregate what has succeeded since the last time, which is little, and without a word."""
        # An engine takes longer to start than that.
        config = dataclasses.replace(self._incomplete(), fresh=False, engine=None, exchange=None)
        if config.scan_timeout is None:
            # Processes would take longer to start than that.
            config = dataclasses.replace(config, n_processes=1)
        with _quiet():
            self._gather(config, False, None)

    def anew(self) -> None:
        """Aggregate what has succeeded, as if nothing of it were known."""
        self._gather(dataclasses.replace(self._incomplete(), fresh=True), False, None)

    def last(self) -> aggregation_summary.Summary:
        """Aggregate everything, and write the graph; return the summary."""
        config = dataclasses.replace(self._config, fresh=False)
        return self._aggregate(config, config.interactive_status, self._on_progress)

    def summary_now(self) -> aggregation_summary.Summary | None:
        """Return the summary with all time until now, not just until the last aggregation."""
        done = self.summary
        if done is not None:
            done.phases = dict(self.phases)
            done.elapsed = time.monotonic() - self._began.time
            done.cpu = processor_time.seconds() - self._began.cpu
        return done

    def add_phase(self, name: str, seconds: float) -> None:
        """Add to the time that a phase has taken."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds

    def _incomplete(self) -> configuration.AggregatorConfig:
        return dataclasses.replace(self._config, incomplete=True, output_path=None)

    def _gather(
        self,
        config: configuration.AggregatorConfig,
        interactive: bool | None,
        on_progress: progress.Callback | None,
    ) -> None:
        """Aggregate what has succeeded."""
        try:
            self._aggregate(config, interactive, on_progress)
        except errors.ConflictError as exc:
            # All others are saved, and more may succeed. At the end it is an error.
            if self._conflicts != str(exc):
                self._conflicts = str(exc)
                _log.warning("%s", exc)

    def _aggregate(
        self,
        config: configuration.AggregatorConfig,
        interactive: bool | None,
        on_progress: progress.Callback | None,
    ) -> aggregation_summary.Summary:
        show = functools.partial(
            progress.Progress,
            began=self._began.time,
            interval=config.log_status_interval,
            interactive=interactive,
            callback=on_progress,
        )
        earlier = time.monotonic() - self._began.time
        with contextlib.ExitStack() as opened:
            request = dataclasses.replace(
                self.request,
                config=config,
                output=None if config.incomplete else self.request.output,
                # Copies of remote graphs are opened each time.
                open_things=opened,
                is_followed=True,
            )
            try:
                return self._note(aggregate.whole(request, self._stopping, show, self._began), earlier)
            except errors.AggregatorError as exc:
                if isinstance(exc.summary, aggregation_summary.Summary):
                    self._note(exc.summary, earlier)
                raise

    def _note(self, done: aggregation_summary.Summary, earlier: float) -> aggregation_summary.Summary:
        """Add what was done before to a summary, which is kept; some seconds of its beginning are others'."""
        for name, seconds in done.phases.items():
            self.add_phase(name, seconds - (earlier if name == "starting" else 0.0))
        done.phases = dict(self.phases)
        before = self.summary
        if before is not None:
            # What this process has brought in was there when it looked again.
            done.n_ingested += before.n_ingested
            done.n_skipped = max(0, done.n_skipped - before.n_ingested)
            done.n_again += before.n_again
            done.n_reused = before.n_reused
            done.peaks = {
                name: max(done.peaks.get(name, 0), before.peaks.get(name, 0))
                for name in {**before.peaks, **done.peaks}
            }
            # Whoever was given it sees it change.
            for field in dataclasses.fields(done):
                setattr(before, field.name, getattr(done, field.name))
        self.summary = before or done
        return self.summary


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let nothing below warnings be logged, unless more is than usual."""
    logger = logging.getLogger("aggregator")
    before, effective = logger.level, logger.getEffectiveLevel()
    if effective >= logging.INFO:
        logger.setLevel(max(effective, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)
