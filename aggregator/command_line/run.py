"""The command ``run``."""

from typing import Any

import click

from aggregator.command_line import execution_options, invocations, options
from aggregator.workers.engines import job_engines


@click.command("run")
@options.path("predicted_graph")
@options.path("repo")
@click.option(
    "--aggregate",
    is_flag=True,
    help="Do the work of aggregate-graph, too: quanta are read and ingested while others run.",
)
@click.option(
    "-o",
    "--output",
    "output_path",
    type=options.PATH,
    help="With --aggregate: write the provenance graph here.",
)
@click.option(
    "--engine",
    metavar="ENGINE",
    help=f"Execute quanta in jobs on other hosts, which see the same files: {job_engines.WAYS}. -j is the "
    "number of processes of each job then.",
)
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    metavar="TASK[,TASK...][:DIMENSION[,...]]",
    help="With --engine: quanta of these tasks that agree in these dimensions share a job; may be repeated "
    "[default: one quantum a job].",
)
@execution_options.execution
@click.pass_obj
def run(
    invocation: invocations.Invocation,
    /,
    predicted_graph: str,
    repo: str,
    aggregate: bool,
    output_path: str | None,
    **fields: Any,
) -> None:
    """Execute the quanta of PREDICTED_GRAPH on the files of REPO, but for those that have succeeded before.

    Init outputs are written first, as init-run does. The database of the repository is not touched without
    --aggregate.
    """
    if output_path is not None and not aggregate:
        raise click.UsageError("A provenance graph is written with --aggregate only.")
    execution_options.execute(
        invocation, predicted_graph, repo, fields, aggregates=aggregate, output_path=output_path
    )
