"""The command ``stage``."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.workers.engines import job_engines, thread_pools


@click.command("stage")
@options.path("policy")
@click.option(
    "--repo",
    "repository",
    type=options.PATH,
    metavar="REPO",
    required=True,
    help="The repository whose data IDs there are jobs for, and whose datasets are read and written.",
)
@click.option(
    "--where",
    "-d",
    default="",
    metavar="EXPRESSION",
    help="Which data IDs: \"instrument = 'Cam' AND visit IN (1..9)\".",
)
@options.processes
@click.option(
    "--engine",
    metavar="ENGINE",
    help=f"Do jobs on other hosts, which see the same files: {job_engines.WAYS}.",
)
@click.option("--dry-run", is_flag=True, help="Tell how many jobs there are, and write nothing.")
@options.progress
@options.summary
@options.defaults_file
@click.pass_obj
def stage(invocation: invocations.Invocation, /, policy: str, repository: str, **fields: Any) -> None:
    """Carry POLICY out for each data ID: read its items, call its function, write its items.

    What is there already is not written again, so that the same command goes on where it was.
    """
    stage_run = thread_pools.import_module("aggregator.staging.stage_run")
    done = stage_run.run_stage(
        policy,
        repository,
        stage_run.StageConfig(**fields),
        outputs=invocation.outputs(),
        on_progress=invocation.on_progress,
    )
    again = invocation.command.again(without="--dry-run")
    invocation.last_words(done, [next_commands.Next(again, "to do it")] if done.dry_run else [])
