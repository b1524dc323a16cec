"""The command ``init-run``."""

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.running import graph_run


@click.command("init-run")
@options.path("predicted_graph")
@options.path("repo")
@options.summary
@options.defaults_file
@click.pass_obj
def init_run(invocation: invocations.Invocation, /, predicted_graph: str, repo: str) -> None:
    """Write what a run of PREDICTED_GRAPH has before its first quantum; what is there is kept.

    These are configurations of tasks, versions of packages, and init outputs.
    """
    invocation.outputs()
    done = graph_run.init_run(predicted_graph, repo)
    text = invocation.command.other("run", predicted_graph, repo, "-j", "2")
    invocation.last_words(done, [next_commands.Next(text, "to execute all quanta")])
