"""The command ``pack``."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options, pack_options, quantum_options
from aggregator.schemas import packs
from aggregator.workers.engines import thread_pools


@click.command("pack")
@options.path("repo")
@options.path("predicted_graph")
@quantum_options.quanta
@pack_options.written("input files")
@click.option(
    "--registry", is_flag=True,
    help="Let the node have a database, too, for those who want to query it; executions don't need it.",
)  # fmt: skip
@click.option(
    "--format", "pack_format", type=click.Choice(packs.FORMATS), default=packs.FORMATS[0], show_default=True,
    help="Write a pack; or what the middleware imports: a new directory with an export, or an archive.",
)  # fmt: skip
@options.progress
@options.summary
@options.metrics
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def pack(
    invocation: invocations.Invocation,
    /,
    repo: str,
    predicted_graph: str,
    quanta: tuple[str, ...],
    quantum_file: str | None,
    line: int | None,
    **arguments: Any,
) -> None:
    """Put what some quanta of PREDICTED_GRAPH need of REPO into one file, for a host that sees nothing of
    REPO.

    Without any quanta given, all that have not succeeded are packed.
    """
    ids = quantum_options.ids(quanta, quantum_file, line)
    packing = thread_pools.import_module("aggregator.transfer.packing")
    done = packing.pack(
        repo,
        predicted_graph,
        quanta=ids or None,
        outputs=invocation.outputs(),
        on_progress=invocation.on_progress,
        **arguments,
    )
    text = invocation.command.other("unpack", done.pack, "DIR")
    invocation.last_words(done, [next_commands.Next(text, "on the node, in a new directory")])
