"""The command ``follow``."""

import datetime
from typing import Any

import click

from aggregator.aggregation import configuration
from aggregator.command_line import aggregation_options, invocations, next_commands, options
from aggregator.following import pace
from aggregator.workers.engines import thread_pools

_pace = options.Fields(pace.Pace)


def _moment(
    context: click.Context, parameter: click.Parameter, given: str | None
) -> datetime.datetime | None:
    return None if given is None else pace.moment(given)


@click.command("follow")
@options.path("predicted_graph")
@options.path("repo")
@_pace.option(
    "--until", metavar="TIME", callback=_moment,
    help="When the campaign is over, whatever has run, as 2026-12-31T18:00 [default: when all quanta have "
    "been attempted].",
)  # fmt: skip
@_pace.option(
    "--settle-time", type=float,
    help="Seconds without any change after which quanta that have failed count as not tried again.",
)  # fmt: skip
@_pace.option("--interval", type=float, help="Seconds between looks, at least.")
@aggregation_options.aggregation
@click.pass_obj
def follow(
    invocation: invocations.Invocation,
    /,
    predicted_graph: str,
    repo: str,
    until: datetime.datetime | None,
    settle_time: float,
    interval: float,
    **fields: Any,
) -> None:
    """Do the work of aggregate-graph while the quanta of PREDICTED_GRAPH are executed elsewhere.

    What has succeeded is ingested; what has failed may be tried again until the end. When all have been
    attempted, the rest is done, and the provenance graph written. Interrupted or killed, the same command
    goes on.
    """
    campaign = thread_pools.import_module("aggregator.following.followed_campaign")
    summary = campaign.follow(
        predicted_graph,
        repo,
        configuration.AggregatorConfig(**fields),
        until=until,
        settle_time=settle_time,
        interval=interval,
        outputs=invocation.outputs(),
        on_progress=invocation.on_progress,
    )
    invocation.last_words(summary, next_commands.after_aggregation(invocation.command, repo, summary))
