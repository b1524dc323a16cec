"""The command ``status``."""

import click
import msgspec

from aggregator.command_line import options
from aggregator.console import terminal
from aggregator.workers.engines import thread_pools


@click.command("status")
@options.path("path", metavar="CHECKPOINT|GRAPH")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Text for people, or a JSON document.",
)  # fmt: skip
@options.instance_credentials
@options.defaults_file
def status(path: str, form: str) -> None:
    """Tell how far an aggregation is: what a checkpoint holds, or the one beside a graph, and who uses it."""
    state = thread_pools.import_module("aggregator.aggregation.checkpoint_status").find(path)
    if form == "text":
        terminal.tell(state.lines())
        return
    output = terminal.Output()
    output.write(msgspec.json.encode(state.document()).decode() + "\n")
    output.flush()
