"""The command ``deliver``."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.workers.engines import thread_pools


@click.command("deliver")
@click.argument("pack_paths", type=options.PATH, metavar="PACK...", nargs=-1, required=True)
@options.path("repo")
@click.option(
    "--staged", type=options.PATH, metavar="FILES",
    help="Directory to which another system has brought files that are not in the packs.",
)  # fmt: skip
@click.option(
    "--graph", "graph_path", type=options.PATH, metavar="FILE",
    help="The predicted graph [default: where it was when the jobs were packed].",
)  # fmt: skip
@click.option(
    "--into", type=click.Choice(["files", "registry"]), default="files", show_default=True,
    help="Leave files for an aggregation, or ingest datasets at once, for graphs that nobody aggregates.",
)  # fmt: skip
@click.option(
    "--register-dataset-types/--no-register-dataset-types", default=False, show_default=True,
    help="Register dataset types that the repository does not know; with --into registry.",
)  # fmt: skip
@click.option(
    "--rename", multiple=True, metavar="PATTERN=NAME",
    help="Give the run another name if all of its name fits a regular expression; with --into registry.",
)  # fmt: skip
@click.option(
    "--overwrite-orphans", is_flag=True,
    help="Replace outputs of quanta of which there is neither metadata nor log.",
)  # fmt: skip
@click.option(
    "--other-repository", is_flag=True,
    help="REPO may be another one than that which the jobs were packed from, or that at another place.",
)  # fmt: skip
@options.progress
@options.summary
@options.metrics
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def deliver(
    invocation: invocations.Invocation, /, pack_paths: tuple[str, ...], repo: str, **arguments: Any
) -> None:
    """Bring what jobs have left to REPO, where their quanta would have left it."""
    delivery = thread_pools.import_module("aggregator.transfer.delivery")
    done = delivery.deliver(
        pack_paths, repo, outputs=invocation.outputs(), on_progress=invocation.on_progress, **arguments
    )
    following = []
    if arguments["into"] == "files":
        following = next_commands.after_execution(invocation.command, done.predicted_graph, repo)
    invocation.last_words(done, following)
