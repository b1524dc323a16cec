"""Follows a campaign: aggregates what has succeeded while others execute it, and ends with the graph."""

import logging
import os
import time

from aggregator.aggregation import (
    aggregate,
    aggregation_summary,
    file_plans,
    shards,
)
from aggregator.butler import run_lock
from aggregator.butler.registry import ingested_graphs, registry
from aggregator.console import interruption, progress
from aggregator.following import (
    campaign_state,
    campaign_survey,
    change_watch,
    forecast,
    pace,
    patience,
    repeated_aggregation,
)
from aggregator.storage import errors, fault_points, in_flight, local_files
from aggregator.workers.roles.scanning import execution_files

_log = logging.getLogger(__name__)

_FORCED_SECONDS = 3600.0
"""How often to look at every file although nothing seems to have changed: not all file systems tell."""

_SHARE = 20
"""Looks and aggregations take one of so many seconds of a processor, at most."""

_EARLY = 0.25
"""Share of quanta with which a compression dictionary is trained too early: graphs become larger."""

_ENOUGH = 0.5
"""Share of quanta that have to be over before another one is trained."""

_IDLE_SECONDS = 60.0
"""How long nothing has to be new before it is told."""

_NAP_SECONDS = 0.5
"""How long a cancellation may have to wait."""

_COUNTS = ("over", "succeeded", "failed", "unreadable", "blocked", "ready", "waiting")
"""What is counted, as `campaign_state.CampaignState` does."""


class CampaignFollower:
    """Follows one campaign, of which something is known already.

    Parameters
    ----------
    work
        The aggregation, which was done for the first time.
    when
        When to look, and until when.
    stopping
        Takes signals.
    began
        When all began.
    on_progress
        Is told of progress.
    requests
        Does several operations on files at a time where they take long.
    """

    def __init__(
        self,
        work: repeated_aggregation.RepeatedAggregation,
        when: pace.Pace,
        stopping: interruption.Interruption,
        began: aggregate.Began,
        on_progress: progress.Callback | None,
        requests: in_flight.Requests,
    ) -> None:
        self._work = work
        self._when = when
        self._stopping = stopping
        self._began = began
        self._on_progress = on_progress
        request = work.request
        self._patience = patience.Patience(when.interval, request.checkpoint.ownership, self._is_closed)
        plans = file_plans.plan(request.graph, request.repository, request.config.mock_storage_classes)
        self._watch = change_watch.ChangeWatch(
            execution_files.ExecutionFiles(plans.types, requests),
            [os.fspath(path) for path in request.config.job_records],
        )
        table = request.graph.address_table()
        division = shards.divide(table, request.graph.edge_pieces(table))
        self._survey = campaign_survey.CampaignSurvey(request.checkpoint.layout, division)
        self.state = self._survey.read()
        """How far the campaign is."""
        self._is_trained_again = False
        """Whether the compression dictionary was trained once more."""
        self._forecast = forecast.Forecast(len(division.ids))
        self._last_change = self._last_look = time.monotonic()
        self._pause = 0.0
        """Seconds to wait after the last look or aggregation, for what it took."""

    def run(self) -> aggregation_summary.Summary:
        """Follow the campaign to its end, and aggregate everything."""
        config, began = self._work.request.config, time.monotonic()
        with progress.Progress(
            dict.fromkeys(_COUNTS, self.state.n_quanta),
            self._began.time,
            config.log_status_interval,
            config.interactive_status,
            self._on_progress,
            self._work.summary,
            text=self._line,
        ) as shown:
            shown.phase("following")
            self._show(shown, None)
            try:
                self._follow(shown)
                self._tell_end()
            finally:
                self._work.add_phase("following", time.monotonic() - began)
        while (done := self._patience.attempt(self._work.last)) is None:
            self._sleep(None)
        return done

    def _follow(self, shown: progress.Progress) -> None:
        """Look, and aggregate what is new, until the campaign is over."""
        is_due, last_time = self._is_early(), time.monotonic()
        while is_due or not self._is_over():
            self._sleep(shown)
            began, cpu = time.monotonic(), time.process_time()
            is_due = is_due or bool(self._patience.attempt(self.look))
            if is_due or time.monotonic() - last_time > _FORCED_SECONDS:
                before = self.state
                if self._patience.attempt(self.go_on):
                    is_due, last_time = False, time.monotonic()
                    self._show(shown, before)
            self._pause = max(time.monotonic() - began, (time.process_time() - cpu) * _SHARE)

    def _is_over(self) -> bool:
        """Return whether everything has been attempted, or time is up."""
        state = self.state
        if state.is_settled or self._when.seconds_left() <= 0:
            return True
        # While nobody can look, nothing is known to have stayed as it was.
        is_quiet = state.is_attempted and self._last_look - self._last_change >= self._when.settle_time
        return is_quiet and self._patience.attempt(self._executor) == ""

    def _executor(self) -> str:
        """Return who executes quanta; empty if nobody is known to."""
        request = self._work.request
        return run_lock.executor(request.graph.header.output_run, request.repository.datastores)

    def _is_closed(self) -> bool:
        """Return whether a graph has been ingested that holds these quanta, so that nothing can be added."""
        request = self._work.request
        run, ids = request.graph.header.output_run, request.graph.address_table().ids
        try:
            with registry.open_repository(request.repository, writeable=False) as source:
                return ingested_graphs.holding(request.repository, source, run, ids) is not None
        except errors.AggregatorError:
            # Nobody can tell at the moment.
            return False

    def look(self) -> bool:
        """Return whether anything may have changed.

        Raises
        ------
        MachineError
            If nobody can tell.
        """
        fault_points.reached("look")
        now = time.monotonic()
        self._check_presence()
        has_changed = self._watch.look(self._survey)
        self._last_look = now
        if has_changed:
            self._last_change = now
        return has_changed

    def _check_presence(self) -> None:
        """Conclude nothing from a run of which nothing is there any more."""
        request = self._work.request
        places = run_lock.directories(request.graph.header.output_run, request.repository.datastores)
        if self.state.n_succeeded and places and not any(map(local_files.is_taken, places)):
            raise errors.MachineError(places[0], "not one file of the run is there any more")

    def go_on(self) -> bool:
        """Aggregate what is new."""
        self._work.again()
        self.state = self._survey.read()
        if self._is_early():
            self._is_trained_again = True
            _log.info(
                "Half of the quanta have run: all files are read again, to compress the graph with them"
            )
            self._work.anew()
            self.state = self._survey.read()
        return True

    def _is_early(self) -> bool:
        """Return whether the dictionary was trained when there was little, of which there is more now."""
        n_run = self.state.n_succeeded + self.state.n_failed
        is_small = self._survey.trained_share < _EARLY and n_run > self.state.n_quanta * _ENOUGH
        return is_small and not self._is_trained_again

    def _show(self, shown: progress.Progress, before: campaign_state.CampaignState | None) -> None:
        """Show what has changed."""
        self._forecast.add(time.monotonic(), self.state.n_over)
        for name in _COUNTS:
            attribute = f"n_{name}"
            count = getattr(self.state, attribute)
            shown.advance(name, count - (getattr(before, attribute) if before else 0))

    def _sleep(self, shown: progress.Progress | None) -> None:
        """Wait until it is time for another look, and show progress meanwhile."""
        wait, left = max(self._patience.wait, self._pause), self._when.seconds_left()
        if left > 0 or not self._patience.trouble:
            # When time is up, trouble still is to be waited for.
            wait = min(wait, max(0.0, left))
        deadline = time.monotonic() + wait
        while True:
            self._stopping.check()
            if shown is not None:
                shown.beat(str)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._stopping.attempt(lambda: time.sleep(min(left, _NAP_SECONDS)))  # noqa: B023

    def _line(self) -> str:
        """Return how far the campaign is, as text."""
        state, now = self.state, time.monotonic()
        parts = [
            f"{state.n_over:,} of {state.n_quanta:,} quanta are over: {state.n_succeeded:,} succeeded",
            *(
                f"{number:,} {name}"
                for number, name in (
                    (state.n_failed, "failed"),
                    (state.n_unreadable, "can't be read"),
                    (state.n_blocked, "blocked"),
                )
                if number
            ),
        ]
        texts = [", ".join(parts)]
        if not state.is_attempted:
            texts.append(f"{state.n_ready:,} ready or running, {state.n_waiting:,} wait for them")
        if ahead := self._forecast.text(now):
            texts.append(ahead)
        idle = now - self._last_change
        if idle > max(_IDLE_SECONDS, self._when.interval * 2):
            texts.append(f"nothing new for {forecast.duration(idle)}")
        if self._patience.trouble:
            texts.append(f"trouble: {self._patience.trouble}")
        return "; ".join(texts)

    def _tell_end(self) -> None:
        """Tell why it is over."""
        state = self.state
        _log.info("%s", self._line())
        if state.is_settled:
            return
        if state.is_attempted:
            _log.info(
                "Everything has been attempted, and nothing has changed for a while: completing the run"
            )
        else:
            _log.warning(
                "Time is up: %d quanta have left nothing, and are recorded as failed or blocked",
                state.n_ready + state.n_waiting,
            )
