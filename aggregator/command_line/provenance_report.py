"""The command `provenance-report`."""

from __future__ import annotations

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.schemas.execution import caveats, statuses
from aggregator.workers.engines import thread_pools


@click.command("provenance-report")
@options.path("repo_or_graph")
@click.argument("collection", required=False)
@click.option(
    "--format", "format", type=click.Choice(["table", "json", "csv", "md", "html"]), default="table",
    show_default=True, help="Tables for the terminal, data for other programs, or a page to look at.",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="FILE",
    help="Write the report here [default: standard output].",
)
@click.option(
    "--state", "states", multiple=True, type=click.Choice(list(statuses.NAMES.values())),
    help="List quanta of this status, too, besides FAILED, ABORTED and ABORTED_SUCCESS; may be repeated.",
)  # fmt: skip
@click.option(
    "--no-state", "no_states", multiple=True, metavar="STATE",
    help="Do not list quanta of this status; may be repeated.",
)  # fmt: skip
@click.option(
    "--caveat", "caveat_names", multiple=True, type=click.Choice(list(caveats.NAMES.values())),
    help="List successes with this caveat, too; may be repeated.",
)  # fmt: skip
@click.option(
    "--status-report",
    type=options.PATH,
    metavar="FILE",
    help="Write the listed quanta with all attempts as JSON here.",
)
@click.option(
    "--data-id-table-dir", type=options.PATH, metavar="DIR",
    help="Write tables of the listed data IDs here, as graph builders take them.",
)  # fmt: skip
@click.option(
    "--quantum-table/--no-quantum-table", default=True, show_default=True,
    help="Print the numbers of quanta by task and status.",
)  # fmt: skip
@click.option(
    "--exception-table/--no-exception-table", default=True, show_default=True,
    help="Print the numbers of exceptions by task and type.",
)  # fmt: skip
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def provenance_report(
    invocation: invocations.Invocation,
    /,
    repo_or_graph: str,
    collection: str | None,
    states: tuple[str, ...],
    no_states: tuple[str, ...],
    caveat_names: tuple[str, ...],
    **fields: Any,
) -> None:
    """Report on a run: REPO_OR_GRAPH is its provenance graph, or a repository with it in COLLECTION."""
    report = thread_pools.import_module("aggregator.reports.report_files")
    selection = thread_pools.import_module("aggregator.reports.selection")
    selected = selection.make(states, no_states, caveat_names)
    report.write(repo_or_graph, collection, report.Request(choice=selected, **fields))
    place = [repo_or_graph, *([collection] if collection else [])]
    invocation.hint(
        [next_commands.Next(invocation.command.other("show", *place, "--failed"), "what failed, and why")]
    )
