"""The command ``synthesize``."""

import os
from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.schemas import output_paths
from aggregator.synthesis import parameters
from aggregator.workers.engines import thread_pools

_run = options.Fields(parameters.SynthesisParameters)


@click.command("synthesize")
@options.path("out")
@click.option("--quanta", type=click.IntRange(min=1), required=True, help="Number of quanta.")
@options.processes
@_run.option("--seed", type=click.IntRange(min=0), help="Seed of all content.")
@click.option("--small-files", is_flag=True, help="Logs and metadata of 2.6 kB, unless given otherwise.")
@_run.option("--log-size", type=int, help="Mean size of logs in bytes.")
@_run.option("--metadata-size", type=int, help="Mean size of metadata in bytes.")
@_run.option("--output-size", type=int, help="Size of other outputs in bytes.")
@_run.option("--failed", type=float, help="Share of quanta that fail.")
@_run.option("--blocked", type=float, help="Share of quanta below failed ones.")
@_run.option("--retried", type=float, help="Share that fails at first.")
@_run.option("--caveats", type=float, help="Share that succeeds with caveats.")
@_run.option("--aborted", type=float, help="Share without log, metadata, or both.")
@_run.option("--corrupt", type=float, help="Share with an unreadable file.")
@options.database
@options.namespace
@options.bars
@options.summary
@options.instance_credentials
@options.defaults_file
@click.pass_context
def synthesize(
    context: click.Context,
    /,
    out: str,
    n_processes: int,
    small_files: bool,
    interactive_status: bool | None,
    **fields: Any,
) -> None:
    """Make an executed run without executing it: repository, predicted graph, and all files, in OUT."""
    invocation: invocations.Invocation = context.obj
    campaign = thread_pools.import_module("aggregator.synthesis.campaign")
    if small_files:
        unset = click.core.ParameterSource.DEFAULT
        fields |= {
            n: size for n, size in parameters.SMALL.items() if context.get_parameter_source(n) is unset
        }
    request = parameters.SynthesisParameters(**fields)
    made_there = output_paths.Protection(directories={os.path.abspath(out): "where the run is made"})
    output_paths.check_all(invocation.outputs(), made_there)
    run = campaign.synthesize(out, request, n_processes=n_processes, interactive_status=interactive_status)
    text = invocation.command.other(
        "aggregate-graph", run.predicted, run.root, "-o", "provenance.qg", "-j", "2"
    )
    invocation.last_words(run, [next_commands.Next(text, "to aggregate it")])
