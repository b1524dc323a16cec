"""The command ``run-workflow``."""

import click

from aggregator.command_line import options
from aggregator.console import terminal
from aggregator.running import workflow_run


@click.command("run-workflow")
@options.path("directory", metavar="DIR")
@click.option(
    "-j", "--jobs", "n_jobs", type=click.IntRange(min=1), default=1, show_default=True,
    help="Jobs that run at a time, whatever they ask for.",
)  # fmt: skip
@options.bars
@options.defaults_file
def run_workflow(directory: str, n_jobs: int, interactive_status: bool | None) -> None:
    """Execute the workflow for HTCondor in DIR on this machine.

    This is no scheduler: it knows neither memory nor other machines, and is made for trying a workflow out
    on a laptop. If it was interrupted, or jobs have failed, the same command goes on with what is left.
    """
    terminal.tell(workflow_run.run(directory, n_jobs, interactive_status=interactive_status).lines())
