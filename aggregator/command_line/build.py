"""The command ``build``."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.workers.engines import thread_pools


def _split(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return names one by one that may be given with commas between them."""
    return tuple(name for each in given for name in each.split(",") if name)


@click.command("build")
@options.path("pipeline")
@options.path("repo")
@click.option(
    "-o",
    "--graph",
    "graph_path",
    type=options.PATH,
    metavar="FILE",
    required=True,
    help="Where the predicted graph goes; nothing may be there yet.",
)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="COLLECTION",
    required=True,
    callback=_split,
    help="Collections that inputs are looked for in, in this order; may be repeated.",
)
@click.option(
    "--output",
    "--output-run",
    "output_run",
    metavar="RUN",
    required=True,
    help="RUN collection of all outputs.",
)
@click.option(
    "--output-chain",
    metavar="CHAIN",
    help="CHAINED collection that is to begin with the run, once it is aggregated.",
)
@click.option(
    "-d",
    "--data-query",
    default="",
    metavar="EXPRESSION",
    help="Which data IDs: \"instrument = 'Cam' AND visit IN (1..9) AND detector.purpose = 'SCIENCE'\".",
)
@click.option(
    "--skip-existing-in",
    multiple=True,
    metavar="COLLECTION",
    callback=_split,
    help="Leave out quanta whose metadata is in these collections; may be repeated.",
)
@click.option("--clobber-outputs", is_flag=True, help="Let outputs that are in the run already be replaced.")
@click.option(
    "--overlaps",
    type=options.PATH,
    metavar="FILE",
    help="CSV table of what overlaps on the sky, with a column for each dimension.",
)
@click.option("--allow-python-config", is_flag=True, help="Run Python code in configurations.")
@click.option("--dry-run", is_flag=True, help="Tell how many quanta there would be, and write nothing.")
@options.summary
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def build(invocation: invocations.Invocation, /, pipeline: str, repo: str, **fields: Any) -> None:
    """Build the predicted graph of PIPELINE, a YAML file, for the data of REPO.

    The repository is only read. PIPELINE may name a part of itself: file.yaml#label, #subset, #first..last.
    """
    graph_build = thread_pools.import_module("aggregator.building.graph_build")
    done = graph_build.build(
        pipeline, repo, command=invocation.command.again(), outputs=invocation.outputs(), **fields
    )
    command = invocation.command
    if done.dry_run:
        following = [next_commands.Next(command.again(without="--dry-run"), "to write the graph")]
    else:
        text = command.other("run", done.predicted_graph, repo, "-j", "2")
        following = [next_commands.Next(text, "to execute all quanta")]
    invocation.last_words(done, following if done.n_quanta else [])
