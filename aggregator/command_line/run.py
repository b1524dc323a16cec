"""The command ``run``."""

from typing import Any

import click

from aggregator.command_line import execution_options, invocations, options


@click.command("run")
@options.path("predicted_graph")
@options.path("repo")
@execution_options.execution
@click.pass_obj
def run(invocation: invocations.Invocation, /, predicted_graph: str, repo: str, **fields: Any) -> None:
    """Execute the quanta of PREDICTED_GRAPH on the files of REPO, but for those that have succeeded before.

    The database of the repository is not touched. Init outputs are written first, as init-run does.
    """
    execution_options.execute(invocation, predicted_graph, repo, fields)
