"""The command ``subset``."""

from __future__ import annotations

from typing import Any

import click

from aggregator.command_line import invocations, options, transfer_options
from aggregator.transfer import transfer_config
from aggregator.workers.engines import thread_pools


@click.command("subset")
@options.path("source")
@options.path("destination")
@transfer_options.selection("--ids")
@transfer_options.transfer(transfer_config.TransferConfig)
@click.pass_obj
def subset(invocation: invocations.Invocation, /, source: str, destination: str, **fields: Any) -> None:
    """Bring datasets of SOURCE, and all that they need, into DESTINATION, which is made if need be.

    What is there already is left alone, so the same command again goes on, and brings what is new. If
    anything stands in the way, nothing is changed.
    """
    module = thread_pools.import_module("aggregator.transfer.repository_subset")
    chosen = transfer_options.chosen(fields)
    report = module.subset(
        source,
        destination,
        chosen,
        transfer_config.TransferConfig(**fields),
        outputs=invocation.outputs(),
        on_progress=invocation.on_progress,
    )
    transfer_options.tell(invocation, report)
