"""The command ``ingest-graph``."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.graph_ingestion import transfers
from aggregator.workers.engines import thread_pools


@click.command("ingest-graph")
@options.path("repo")
@options.path("provenance_graph", required=False)
@click.option(
    "-t", "--transfer", type=click.Choice(transfers.MODES), default=transfers.DEFAULT, show_default=True,
    help="How the graph gets into the repository.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=transfers.BATCH_SIZE, show_default=True,
    help="Datasets in a transaction.",
)  # fmt: skip
@click.option("--output-run", help="The run, to finish what was begun without giving the graph.")
@click.option(
    "--verify/--no-verify", default=True, show_default=True,
    help="Read every block of the graph before the file is deleted that it replaces.",
)  # fmt: skip
@options.progress
@options.summary
@options.metrics
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def ingest_graph(
    invocation: invocations.Invocation, /, repo: str, provenance_graph: str | None, **arguments: Any
) -> None:
    """Make PROVENANCE_GRAPH a part of REPO, in place of the metadata, log and config files that it holds."""
    ingestion = thread_pools.import_module("aggregator.graph_ingestion.ingest")
    summary = ingestion.ingest_graph(
        repo, provenance_graph, outputs=invocation.outputs(), on_progress=invocation.on_progress, **arguments
    )
    following = next_commands.after_graph(invocation.command, repo, summary.run, failures=True)
    invocation.last_words(summary, following)
