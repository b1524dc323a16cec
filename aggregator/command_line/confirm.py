"""The command ``confirm``."""

from __future__ import annotations

from typing import Any

import click

from aggregator.command_line import invocations, options
from aggregator.workers.engines import thread_pools


@click.command("confirm")
@options.path("repo")
@options.path("manifest")
@click.option(
    "--verify", type=click.Choice(("size", "checksum", "none")), default="size", show_default=True,
    help="What of a file has to be right, as far as it is known.",
)  # fmt: skip
@options.progress
@options.summary
@options.metrics
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def confirm(invocation: invocations.Invocation, /, repo: str, manifest: str, **arguments: Any) -> None:
    """Record in REPO the files of MANIFEST that another system has brought.

    What is not there yet, or not right, is listed beside the manifest (MANIFEST.rest.jsonl), and the exit
    code is 1; the same command again goes on.
    """
    module = thread_pools.import_module("aggregator.transfer.manifest_confirmation")
    report = module.confirm(
        repo, manifest, outputs=invocation.outputs(), on_progress=invocation.on_progress, **arguments
    )
    invocation.last_words(report)
