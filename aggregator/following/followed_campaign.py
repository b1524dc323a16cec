"""The function `follow`: aggregates what succeeds while a graph is executed elsewhere, and all at the end."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

from aggregator.aggregation import aggregate, aggregation_request, aggregation_summary, configuration
from aggregator.console import interruption, progress
from aggregator.following import campaign_follower, pace, repeated_aggregation
from aggregator.schemas import argument_types, output_paths
from aggregator.storage import errors, in_flight


def follow(
    predicted_path: str | os.PathLike[str],
    butler_path: str | os.PathLike[str],
    config: configuration.AggregatorConfig | None = None,
    *,
    until: datetime.datetime | None = None,
    settle_time: float = pace.SETTLE_TIME,
    interval: float = pace.INTERVAL,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> aggregation_summary.Summary:
    """Aggregate what succeeds while a graph is executed elsewhere, and everything at the end.

    Parameters
    ----------
    predicted_path, butler_path, on_progress, cancellation, outputs
        As for `aggregate_graph`.
    config
        Options of the aggregation at the end, and of those before as far as they are about them.
    until
        When the campaign counts as over, whatever has run; by default when everything has been attempted. A
        time without a zone is that of this machine.
    settle_time
        Seconds without any change after which quanta that have failed count as not tried again, when all
        others have succeeded or can't run.
    interval
        Seconds between looks, at least.

    Returns
    -------
    summary
        Of the aggregation at the end, with the datasets that were ingested before it.

    Raises
    ------
    AggregatorError
        As `aggregate_graph` does; calling again goes on. Trouble that may pass is waited for.
    """
    argument_types.check(follow, locals())
    when = pace.Pace(
        interval=interval,
        settle_time=settle_time,
        until=None if until is None else until.astimezone(datetime.UTC),
    )
    when.check()
    config = config or configuration.AggregatorConfig()
    began = aggregate.Began()
    graph, repository = os.fspath(predicted_path), os.fspath(butler_path)
    with (
        interruption.Interruption(cancellation) as stopping,
        aggregation_request.check(graph, repository, config, outputs) as request,
        in_flight.Requests(config.n_requests) as requests,
    ):
        work = repeated_aggregation.RepeatedAggregation(request, stopping, began, on_progress)
        # What is wrong from the start is told at once.
        work.first()
        try:
            follower = campaign_follower.CampaignFollower(work, when, stopping, began, on_progress, requests)
            return follower.run()
        except errors.AggregatorError as exc:
            exc.summary = work.summary_now() or exc.summary
            if isinstance(exc, errors.RefusedError):
                # Something was changed by the first aggregation.
                raise exc.as_failure() from exc
            raise
