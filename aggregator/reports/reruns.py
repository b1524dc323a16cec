"""How listed quanta are run again: tables of their data IDs, and commands that build their graph."""

from __future__ import annotations

import dataclasses
import shlex

from aggregator.reports import data_id_tables, document, listing, samples
from aggregator.schemas import printable
from aggregator.schemas.execution import statuses

_BLOCKED = statuses.NAMES[statuses.BLOCKED]
_DONE = frozenset({statuses.NAMES[statuses.SUCCESSFUL], statuses.NAMES[statuses.ABORTED_SUCCESS]})
"""Statuses whose quanta have left metadata, by which graph builders know what is not to be done again."""

_DIRECTORY = "data-ids"
_MAX_LISTS = 150
"""Kinds of quanta that a page has commands for."""

_MAX_DATA_IDS = 2000
"""Data IDs in a page; a list is complete, or not there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rerun:
    """How quanta of one task with the same status and exception are run again."""

    task: str
    """Task label."""

    status: str
    """Name of the status."""

    count: int
    """How many quanta they are."""

    path: str
    """Where the command for all tables writes theirs."""

    table: str
    """Its content; empty if the page has no room for it, or would show other characters."""

    command: str
    """Command that builds a graph of them and of all that comes after."""


def listing_command(report: document.Report, form: str, *options: str) -> str:
    """Return a command that lists quanta in another format."""
    return shlex.join(["aggregator", "provenance-report", report.graph.path, "--format", form, *options])


def tables_command(report: document.Report, listed: listing.Listing) -> str:
    """Return the command that writes the tables of all listed quanta."""
    words = ["aggregator", "provenance-report", report.graph.path, *listed.choice.options()]
    return shlex.join([*words, "--data-id-table-dir", _DIRECTORY])


def make(
    report: document.Report, listed: listing.Listing, groups: list[samples.ExceptionGroup]
) -> list[list[Rerun]]:
    """Return for each group how its quanta are run again: for as many as a page has room for.

    Blocked quanta run again with what blocks them.
    """
    runnable = [[part for part in group.groups if part.status != _BLOCKED] for group in groups]
    parts = [part for parts in runnable for part in parts][:_MAX_LISTS]
    quotas = samples.shares([len(part.rows) for part in parts], _MAX_DATA_IDS)
    fits = iter([quota == len(part.rows) for part, quota in zip(parts, quotas, strict=True)])
    # What is beyond the room for lists has none.
    return [
        [_make(report, listed, part, has_room) for part, has_room in zip(parts, fits, strict=False)]
        for parts in runnable
    ]


def _make(report: document.Report, listed: listing.Listing, group: listing.Group, has_room: bool) -> Rerun:
    path = data_id_tables.path_of(group, _DIRECTORY)
    table = b"".join(data_id_tables.pieces(listed, group)).decode() if has_room else ""
    return Rerun(
        task=group.task.label,
        status=group.status,
        count=len(group.rows),
        path=path,
        table=table if printable.lines(table) == table else "",
        command=_graph_command(report.graph, group, path),
    )


def _graph_command(graph: document.Graph, group: listing.Group, path: str) -> str:
    """Return a command with the words REPO and PIPELINE, which no provenance graph knows."""
    words = ["pipetask", "qgraph", "-b", "REPO", "-p", "PIPELINE"]
    if graph.output is None:
        words += ["-i", ",".join([*graph.inputs, graph.output_run]), "--output-run", "NEW_RUN"]
    else:
        words += ["-o", graph.output]
    if group.status not in _DONE:
        words += ["--skip-existing-in", graph.output or graph.output_run]
    words += ["--select-tasks", f">= {group.task.label}"]
    return shlex.join([*words, "--data-id-table", path, "--save-qgraph", "rerun.qg"])
