"""The command ``aggregate-graph``."""

from typing import Any

import click

from aggregator.aggregation import configuration
from aggregator.command_line import invocations, next_commands, options
from aggregator.workers.engines import thread_pools

_config = options.Fields(configuration.AggregatorConfig)


@click.command("aggregate-graph")
@options.path("predicted_graph")
@options.path("repo")
@_config.option("-o", "--output", "output_path", type=options.PATH, help="Write the provenance graph here.")
@_config.option(
    "-j", "--processes", "n_processes", type=click.IntRange(min=1),
    help="Number of scanners; 1 does everything in this process.",
)  # fmt: skip
@_config.option(
    "--requests", "n_requests", type=int,
    help="Files that each scanner has under way at a time [default: 1 where that takes no time].",
)  # fmt: skip
@_config.option(
    "--incomplete/--complete", help="Execution goes on: ingest what certainly succeeded, write no graph."
)
@_config.option("--dry-run", is_flag=True, help="Leave the database as it is.")
@options.progress
@_config.option(
    "--register-dataset-types/--no-register-dataset-types", help="Register the dataset types of outputs."
)
@_config.option(
    "--update-output-chain/--no-update-output-chain", help="Put the output run in front of the output chain."
)
@_config.option("--worker-log-dir", type=options.PATH, help="Directory for a log file of each worker.")
@_config.option("--worker-log-level", help="Level of these logs.")
@_config.option(
    "--worker-profile-dir", type=options.PATH, help="Directory for a profile of each worker process."
)
@_config.option("--zstd-level", type=int, help="Compression level of the graph.")
@_config.option("--zstd-dict-size", type=int, help="Size of the compression dictionary in bytes; 0 for none.")
@_config.option(
    "--zstd-dict-n-inputs", type=int, help="Quanta to train the dictionary with; smaller graphs get none."
)
@_config.option(
    "--mock-storage-classes/--no-mock-storage-classes", help="Know the storage classes of mock tasks."
)
@_config.option(
    "--promise-ingest-graph/--no-promise-ingest-graph",
    help="Leave logs, metadata and configs to a later ingestion of the graph.",
)
@_config.option("--defensive-ingest", is_flag=True, help="Look for ingested datasets from the start.")
@_config.option(
    "--ingest-batch-size", type=click.IntRange(min=1), help="Datasets to gather before they are written."
)
@_config.option(
    "--checkpoint-dir", type=options.PATH,
    help="Directory of the checkpoint [default: PREDICTED_GRAPH.checkpoint].",
)  # fmt: skip
@_config.option(
    "--checkpoint/--no-checkpoint", help="Keep what is found out, so that an interrupted run can go on."
)
@_config.option("--fresh", is_flag=True, help="Start over, whatever the checkpoint holds.")
@_config.option("--keep-checkpoint", is_flag=True, help="Keep the checkpoint of a complete run.")
@_config.option("--verify-checkpoint", is_flag=True, help="Look at files of settled quanta again, too.")
@_config.option(
    "--scan-timeout", type=float,
    help="Stop if a scanner is at one shard for longer than this many seconds.",
)  # fmt: skip
@_config.option(
    "--allow-empty-run", is_flag=True, help="Go on if not one file of the run exists, init outputs included."
)
@_config.option(
    "--unreadable", type=click.Choice(configuration.UNREADABLE_CHOICES),
    help="Hold quanta whose files can't be read for another run, or record them as failed.",
)  # fmt: skip
@options.summary
@options.metrics
@options.instance_credentials
@options.defaults_file
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
