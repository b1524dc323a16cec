"""The command ``ingest-graph``."""

from typing import Any

import click

from aggregator.command_line import next_commands, shared
from aggregator.graph_ingestion import placement


@click.command("ingest-graph")
@click.argument("repo")
@click.argument("provenance_graph", required=False)
@click.option(
    "-t", "--transfer", type=click.Choice(placement.MODES), default="move", show_default=True,
    help="How the graph gets into the repository.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=10000, show_default=True,
    help="Datasets in a transaction.",
)  # fmt: skip
@click.option("--output-run", help="The run, to finish what was begun without giving the graph.")
@click.option(
    "--verify/--no-verify", default=True, show_default=True,
    help="Read every block of the graph before the file is deleted that it replaces.",
)  # fmt: skip
@shared.status_options
@click.pass_obj
def ingest_graph(
    command: next_commands.Command, /, repo: str, provenance_graph: str | None, **options: Any
) -> None:
    """Make PROVENANCE_GRAPH a part of REPO, in place of the metadata, log and config files that it holds."""
    ingestion = shared.import_single_threaded("aggregator.graph_ingestion.ingest")
    done = ingestion.ingest_graph(repo, provenance_graph, **options)
    shared.last_words(done.lines(), next_commands.after_graph(command, repo, done.run, failures=True))
