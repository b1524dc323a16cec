"""The command ``merge``."""

from __future__ import annotations

from typing import Any

import click

from aggregator.command_line import invocations, options, transfer_options
from aggregator.transfer import merge_config
from aggregator.workers.engines import thread_pools

_fields = options.Fields(merge_config.MergeConfig)


@click.command("merge")
@click.argument("repositories", type=options.PATH, nargs=-1, required=True, metavar="SOURCE... DESTINATION")
@transfer_options.selection("--ids-file")
@_fields.option(
    "--ids", "ids", type=click.Choice(merge_config.IDS),
    help="Keep ids, or renew them, so that the datasets are copies that lead a life of their own.",
)  # fmt: skip
@_fields.option(
    "--rename", multiple=True, metavar="PATTERN=NAME",
    help="Give collections whose whole name fits a regular expression another one, which can have groups of "
    "it, as \\1; the first rule that fits counts. May be repeated.",
)  # fmt: skip
@_fields.option("--salt", metavar="TEXT", help="Get other new ids than without it.")
@transfer_options.transfer(merge_config.MergeConfig)
@click.pass_obj
def merge(invocation: invocations.Invocation, /, repositories: tuple[str, ...], **fields: Any) -> None:
    """Bring datasets of each SOURCE, and all that they need, into DESTINATION, which is made if need be.

    Collections can get other names, and datasets other ids. What is there already is left alone, so the same
    command again goes on, and brings what is new. If anything stands in the way, nothing is changed.
    """
    *sources, destination = repositories
    if not sources:
        raise click.UsageError("Name one repository to merge at least, and the one that it goes to.")
    module = thread_pools.import_module("aggregator.transfer.repository_merge")
    chosen = transfer_options.chosen(fields)
    report = module.merge(
        sources,
        destination,
        chosen,
        merge_config.MergeConfig(**fields),
        outputs=invocation.outputs(),
        on_progress=invocation.on_progress,
    )
    transfer_options.tell(invocation, report)
