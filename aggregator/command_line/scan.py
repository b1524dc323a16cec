"""The command ``scan``."""

from typing import Any

import click

from aggregator.aggregation import configuration
from aggregator.command_line import invocations, options
from aggregator.console import terminal
from aggregator.workers.engines import thread_pools

_config = options.Fields(configuration.AggregatorConfig)


@click.command("scan")
@options.path("predicted_graph")
@options.path("repo")
@click.option(
    "--shards", "part", metavar="I/N", required=True, help="Which part of how many; 1/N is the first."
)
@_config.option(
    "--checkpoint-dir", type=options.PATH,
    help="Directory of the checkpoint [default: PREDICTED_GRAPH.checkpoint].",
)  # fmt: skip
@_config.option(
    "--requests", "n_requests", type=int,
    help="Files that are under way at a time [default: 1 where that takes no time].",
)  # fmt: skip
@_config.option("--zstd-level", type=int, help="Compression level of the graph.")
@_config.option("--zstd-dict-size", type=int, help="Size of the compression dictionary in bytes; 0 for none.")
@_config.option(
    "--zstd-dict-n-inputs", type=int, help="Quanta to train the dictionary with; smaller graphs get none."
)
@_config.option(
    "--mock-storage-classes/--no-mock-storage-classes", help="Know the storage classes of mock tasks."
)
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def scan(
    invocation: invocations.Invocation, /, predicted_graph: str, repo: str, part: str, **fields: Any
) -> None:
    """Scan one of N parts of a run of PREDICTED_GRAPH in REPO, alone or beside others.

    An aggregation with the same checkpoint, and the same options, finds it done; what has changed since, it
    scans again. Quanta may still be executed. The database is not touched.
    """
    partial_scan = thread_pools.import_module("aggregator.aggregation.partial_scan")
    config = configuration.AggregatorConfig(**fields)
    done = partial_scan.scan(predicted_graph, repo, partial_scan.part(part), config, invocation.outputs())
    terminal.tell(done.lines())
