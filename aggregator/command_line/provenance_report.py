"""The command `provenance-report`."""

from __future__ import annotations

from typing import Any

import click

from aggregator.command_line import next_commands, shared
from aggregator.schemas.execution import caveats, statuses


@click.command("provenance-report")
@click.argument("repo_or_graph")
@click.argument("collection", required=False)
@click.option(
    "--format", "format", type=click.Choice(["table", "json", "csv", "md", "html"]), default="table",
    show_default=True, help="Tables for the terminal, data for other programs, or a page to look at.",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write the report here [default: standard output].")
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
    "--status-report", metavar="FILE", help="Write the listed quanta with all attempts as JSON here."
)
@click.option(
    "--data-id-table-dir", metavar="DIR",
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
@click.pass_obj
def provenance_report(
    command: next_commands.Command,
    /,
    repo_or_graph: str,
    collection: str | None,
    states: tuple[str, ...],
    no_states: tuple[str, ...],
    caveat_names: tuple[str, ...],
    **options: Any,
) -> None:
    """Report on a run: REPO_OR_GRAPH is its provenance graph, or a repository with it in COLLECTION."""
    report = shared.import_single_threaded("aggregator.reports.report_files")
    selection = shared.import_single_threaded("aggregator.reports.selection")
    wanted = selection.make(states, no_states, caveat_names)
    report.write(repo_or_graph, collection, report.Request(wanted=wanted, **options))
    place = [repo_or_graph, *([collection] if collection else [])]
    shared.hint([next_commands.Next(command.other("show", *place, "--failed"), "what failed, and why")])
