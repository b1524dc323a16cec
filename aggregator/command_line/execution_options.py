"""Options of the commands that execute quanta."""

from collections.abc import Callable, Collection
from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.running import graph_run
from aggregator.storage import errors

_config = options.Fields(graph_run.RunConfig)

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
) -> None:
    """Execute quanta, and tell what may come next.

    Parameters
    ----------
    invocation
        The call of the command.
    predicted_graph, repo, ids
        As for `graph_run.execute`.
    fields
        Options, by the names of their fields in a `graph_run.RunConfig`.
    is_forgiven
        Whether failures that are on record are no failure of the command.
    """
    config = graph_run.RunConfig(**fields)
    try:
        done = graph_run.execute(
            predicted_graph,
            repo,
            config,
            ids=ids,
            outputs=invocation.outputs(),
            on_progress=invocation.on_progress,
        )
    except graph_run.ExecutionError as exc:
        if not is_forgiven or exc.exit_code != errors.AggregatorError.exit_code or exc.summary is None:
            raise
        invocation.last_words(exc.summary)
        return
    following = (
        [] if ids is not None else next_commands.after_execution(invocation.command, predicted_graph, repo)
    )
    invocation.last_words(done, following)
