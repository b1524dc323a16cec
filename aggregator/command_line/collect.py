"""The command ``collect``."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options, pack_options
from aggregator.workers.engines import thread_pools


@click.command("collect")
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option(
    "--failed", type=click.Choice(["logs", "all", "none"]), default="logs", show_default=True,
    help="What of quanta that have failed is packed.",
)  # fmt: skip
@pack_options.written("files")
@options.progress
@options.summary
@options.metrics
@options.defaults_file
@click.pass_obj
def collect(invocation: invocations.Invocation, /, directory: str, pack_path: str, **arguments: Any) -> None:
    """Put what the quanta of a job have left in DIR into one file."""
    collection = thread_pools.import_module("aggregator.transfer.result_collection")
    done = collection.collect(
        directory, pack_path, outputs=invocation.outputs(), on_progress=invocation.on_progress, **arguments
    )
    text = invocation.command.other("deliver", done.pack, "REPO")
    invocation.last_words(done, [next_commands.Next(text, "where the repository is")])
