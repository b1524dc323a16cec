"""The command ``create``."""

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.workers.engines import thread_pools


@click.command("create")
@options.path("repo")
@options.database
@options.namespace
@click.option(
    "--dimension-config", "dimension_path", type=options.PATH, metavar="FILE",
    help="YAML or JSON file with the dimension universe [default: one for synthetic runs].",
)  # fmt: skip
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def create(
    invocation: invocations.Invocation,
    /,
    repo: str,
    database: str | None,
    namespace: str | None,
    dimension_path: str | None,
) -> None:
    """Make an empty repository in the directory REPO."""
    creation = thread_pools.import_module("aggregator.butler.creation")
    dimensions = None
    if dimension_path is not None:
        yaml_files = thread_pools.import_module("aggregator.butler.configuration.yaml_files")
        dimensions = yaml_files.read(dimension_path)
    creation.create_repository(repo, database_url=database, namespace=namespace, dimension_config=dimensions)
    invocation.hint(next_commands.after_creation(invocation.command, repo))
