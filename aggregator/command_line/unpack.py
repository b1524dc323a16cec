"""The command ``unpack``."""

import os
from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.workers.engines import thread_pools


@click.command("unpack")
@click.argument("pack_path", type=options.PATH, metavar="PACK")
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option(
    "--staged", type=options.PATH, metavar="FILES",
    help="Directory to which another system has brought input files that are not in the pack.",
)  # fmt: skip
@options.progress
@options.summary
@options.metrics
@options.defaults_file
@click.pass_obj
def unpack(invocation: invocations.Invocation, /, pack_path: str, directory: str, **arguments: Any) -> None:
    """Make a repository of PACK, in which its quanta can be executed; DIR is a new directory.

    PACK can be an export or an archive of the middleware, too; then DIR may be a repository that is there.
    """
    unpacking = thread_pools.import_module("aggregator.transfer.unpacking")
    done = unpacking.unpack(
        pack_path, directory, outputs=invocation.outputs(), on_progress=invocation.on_progress, **arguments
    )
    if not done.run:
        invocation.last_words(done)
        return
    graph, command = os.path.join(done.directory, "graph.qg"), invocation.command
    # All quanta of the graph are those of the job, and init outputs that are there are kept.
    run = next_commands.Next(command.other("run", graph, done.directory), "to execute its quanta")
    text = command.other("collect", done.directory, "-o", "out.pack")
    invocation.last_words(done, [run, next_commands.Next(text, "to bring home what they have left")])
