"""Options of the commands that execute quanta."""

from collections.abc import Callable, Collection
from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.running import execution_summary, graph_run, run_config
from aggregator.storage import errors
from aggregator.workers.engines import thread_pools

_config = options.Fields(run_config.RunConfig)

_OPTIONS = (
    _config.option(
        "-j", "--processes", "n_processes", type=click.IntRange(min=1), help="Number of worker processes."
    ),
    _config.option("--in-process", is_flag=True, help="Execute in this process, without workers."),
    _config.option("--timeout", type=click.FloatRange(min=0.0, min_open=True),
        help="End a quantum that takes longer than this many seconds; it has failed then."),
    _config.option("--fail-fast", is_flag=True, help="End with the first failure."),
    _config.option("--existing-outputs/--no-existing-outputs", default=True,
        help="Look at what earlier attempts have left; otherwise it is replaced, and its story is lost."),
    _config.option("--raise-on-partial-outputs/--no-raise-on-partial-outputs",
        help="Take a quantum that could not write all outputs for a failure."),
    _config.option("--provenance", "provenance_directory", type=options.PATH, metavar="DIR",
        help="Write a file ID.json here for each quantum that runs: which datasets it has read and written."),
    _config.option("--summary", "report_path", type=options.PATH, metavar="FILE",
        help="Write a report on all quanta, in the form of the middleware's, as JSON."),
    options.progress,
    options.summary,
    options.metrics,
    options.defaults_file,
)  # fmt: skip


def execution(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how quanta are executed."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def execute(
    invocation: invocations.Invocation,
    predicted_graph: str,
    repo: str,
    fields: dict[str, Any],
    ids: Collection[Any] | None = None,
    is_forgiven: bool = False,
    *,
    aggregates: bool = False,
    output_path: str | None = None,
) -> None:
    """Execute quanta, and tell what may come next.

    Parameters
    ----------
    invocation
        The call of the command.
    predicted_graph, repo, ids
        As for `graph_run.execute`.
    fields
        Options, by the names of their fields in a `run_config.RunConfig`.
    is_forgiven
        Whether failures that are on record are no failure of the command, unless more memory may help.
    aggregates
        Whether an aggregation follows.
    output_path
        Where its provenance graph goes.
    """
    config = run_config.RunConfig(**fields)
    aggregation = None
    if aggregates:
        configuration = thread_pools.import_module("aggregator.aggregation.configuration")
        aggregation = configuration.AggregatorConfig(output_path=output_path, n_processes=config.n_processes)
    try:
        done = graph_run.execute(
            predicted_graph,
            repo,
            config,
            ids=ids,
            aggregation=aggregation,
            outputs=invocation.outputs(),
            on_progress=invocation.on_progress,
        )
    except graph_run.ExecutionError as exc:
        is_usual = exc.exit_code == errors.AggregatorError.exit_code
        if not (is_forgiven and is_usual and isinstance(exc.summary, execution_summary.ExecutionSummary)):
            raise
        if exc.summary.n_killed or exc.summary.n_in_use:
            raise
        invocation.last_words(exc.summary)
        return
    following = []
    if done.aggregation is not None:
        following = next_commands.after_aggregation(invocation.command, repo, done.aggregation)
    elif ids is None:
        following = next_commands.after_execution(invocation.command, predicted_graph, repo)
    invocation.last_words(done, following)
