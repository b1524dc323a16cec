"""The command ``status``."""

import click

from aggregator.command_line import options
from aggregator.console import terminal
from aggregator.workers.engines import thread_pools


@click.command("status")
@options.path("path", metavar="CHECKPOINT|GRAPH")
@options.defaults_file
def status(path: str) -> None:
    """Tell how far an aggregation is: what a checkpoint holds, or the one beside a graph, and who uses it."""
    terminal.tell(thread_pools.import_module("aggregator.aggregation.checkpoint_status").describe(path))
