"""Options of the commands that aggregate."""

from collections.abc import Callable
from typing import Any

import click

from aggregator.aggregation import configuration
from aggregator.command_line import options

_config = options.Fields(configuration.AggregatorConfig)

_OPTIONS = (
    _config.option(
        "-o", "--output", "output_path", type=options.PATH, help="Write the provenance graph here."
    ),
    _config.option(
        "-j", "--processes", "n_processes", type=click.IntRange(min=1),
        help="Number of scanners; 1 does everything in this process.",
    ),
    _config.option(
        "--engine", metavar="ENGINE",
        help="Scan on other hosts: dask:tcp://HOST:PORT or parsl:CONFIG.py; all else stays here. With "
        "--scan-timeout, a shard that takes longer is given to another scanner, too.",
    ),
    _config.option(
        "--exchange", metavar="URI",
        help="With --engine: place in an object store through which hosts get the graph and return what they "
        "find out [default: the checkpoint, which all of them see].",
    ),
    _config.option(
        "--requests", "n_requests", type=int,
        help="Files that each scanner has under way at a time [default: 1 where that takes no time].",
    ),
    options.progress,
    _config.option(
        "--register-dataset-types/--no-register-dataset-types", help="Register the dataset types of outputs."
    ),
    _config.option(
        "--update-output-chain/--no-update-output-chain",
        help="Put the output run in front of the output chain.",
    ),
    _config.option("--worker-log-dir", type=options.PATH, help="Directory for a log file of each worker."),
    _config.option("--worker-log-level", help="Level of these logs."),
    _config.option(
        "--worker-profile-dir", type=options.PATH, help="Directory for a profile of each worker process."
    ),
    _config.option("--zstd-level", type=int, help="Compression level of the graph."),
    _config.option(
        "--zstd-dict-size", type=int, help="Size of the compression dictionary in bytes; 0 for none."
    ),
    _config.option(
        "--zstd-dict-n-inputs", type=int, help="Quanta to train the dictionary with; smaller graphs get none."
    ),
    _config.option(
        "--mock-storage-classes/--no-mock-storage-classes", help="Know the storage classes of mock tasks."
    ),
    _config.option(
        "--promise-ingest-graph/--no-promise-ingest-graph",
        help="Leave logs, metadata and configs to a later ingestion of the graph.",
    ),
    _config.option("--defensive-ingest", is_flag=True, help="Look for ingested datasets from the start."),
    _config.option(
        "--ingest-batch-size", type=click.IntRange(min=1), help="Datasets to gather before they are written."
    ),
    _config.option(
        "--checkpoint-dir", type=options.PATH,
        help="Directory of the checkpoint [default: PREDICTED_GRAPH.checkpoint].",
    ),
    _config.option("--fresh", is_flag=True, help="Start over, whatever the checkpoint holds."),
    _config.option("--keep-checkpoint", is_flag=True, help="Keep the checkpoint of a complete run."),
    _config.option(
        "--scan-timeout", type=float,
        help="Stop if a scanner is at one shard for longer than this many seconds.",
    ),
    _config.option(
        "--job-records", multiple=True, type=options.PATH, metavar="FILE",
        help="Event log of HTCondor, or accounting of Slurm, which tells what became of quanta without "
        "files; may be repeated.",
    ),
    _config.option(
        "--allow-empty-run", is_flag=True,
        help="Go on if not one file of the run exists, init outputs included.",
    ),
    _config.option(
        "--unreadable", type=click.Choice(configuration.UNREADABLE_CHOICES),
        help="Hold quanta whose files can't be read for another run, or record them as failed.",
    ),
    options.summary,
    options.metrics,
    options.instance_credentials,
    options.defaults_file,
)  # fmt: skip


def aggregation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how and where outputs are aggregated."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
