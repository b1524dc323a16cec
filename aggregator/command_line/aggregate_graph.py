"""The command ``aggregate-graph``."""

from typing import Any

import click

from aggregator.aggregation import configuration
from aggregator.command_line import aggregation_options, invocations, next_commands, options
from aggregator.workers.engines import thread_pools

_config = options.Fields(configuration.AggregatorConfig)


@click.command("aggregate-graph")
@options.path("predicted_graph")
@options.path("repo")
@_config.option(
    "--incomplete/--complete", help="Execution goes on: ingest what certainly succeeded, write no graph."
)
@_config.option("--dry-run", is_flag=True, help="Leave the database as it is.")
@_config.option(
    "--checkpoint/--no-checkpoint", help="Keep what is found out, so that an interrupted run can go on."
)
@_config.option("--verify-checkpoint", is_flag=True, help="Look at files of settled quanta again, too.")
@aggregation_options.aggregation
@click.pass_obj
def aggregate_graph(
    invocation: invocations.Invocation, /, predicted_graph: str, repo: str, **fields: Any
) -> None:
    """Ingest the outputs of PREDICTED_GRAPH into REPO, and write its provenance graph."""
    aggregation = thread_pools.import_module("aggregator.aggregation.aggregate")
    config = configuration.AggregatorConfig(**fields)
    summary = aggregation.aggregate_graph(
        predicted_graph, repo, config, outputs=invocation.outputs(), on_progress=invocation.on_progress
    )
    invocation.last_words(summary, next_commands.after_aggregation(invocation.command, repo, summary))
