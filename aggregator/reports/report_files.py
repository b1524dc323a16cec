"""Finds a graph, reads it, and writes the reports that are asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from typing import Literal

import msgspec

from aggregator import repository_files
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs
from aggregator.console import terminal
from aggregator.reports import (
    blockers,
    data_id_tables,
    formats,
    listing,
    overview,
    page,
    quanta,
    selection,
    status_report,
)
from aggregator.schemas import output_kinds, output_paths, printable
from aggregator.schemas.graphs import container, provenance_graph
from aggregator.storage import durable_files, errors

Format = Literal["table", "json", "csv", "md", "html"]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What is to be reported, and where to."""

    format: Format = "table"
    """How the report itself is written."""

    output: str | None = None
    """Where the report goes; standard output by default."""

    choice: selection.Selection = dataclasses.field(default_factory=selection.Selection)
    """Which quanta are listed one by one."""

    status_report: str | None = None
    """File for the reference's report on the listed quanta, as JSON."""

    data_id_table_dir: str | None = None
    """Directory for tables of their data IDs."""

    quantum_table: bool = True
    """Whether there is the table of quanta; a page has it always."""

    exception_table: bool = True
    """Whether there is the table of exceptions; a page has it always."""


def write(location: str, collection: str | None, request: Request) -> None:
    """Write reports on a provenance graph.

    Parameters
    ----------
    location
        A graph (`.qg`), or a repository with an ingested one.
    collection
        In a repository: the run, or a chain.
    request
        What is to be reported.

    Raises
    ------
    RefusedError
        If there is no such graph, or a page would be written to a terminal.
    FormatError
        If the graph is damaged.
    AggregatorError
        If a file can't be written.
    """
    if request.format == "html" and request.output is None and terminal.is_terminal(sys.stdout):
        raise errors.RefusedError("a page is not for a terminal; name a file with --output")
    path, protection = _find(location, collection)
    _check_paths(request, protection)
    with provenance_graph.ProvenanceGraph(path) as graph:
        table = quanta.read(graph)
        listed = listing.Listing(graph, table, blockers.find(table), request.choice)
        with contextlib.ExitStack() as written:
            if request.data_id_table_dir is not None:
                data_id_tables.write(listed, container.local_path(request.data_id_table_dir), protection)
                written.enter_context(errors.after_changes())
            if request.status_report is not None:
                _write_file(request.status_report, status_report.pieces(listed), protection)
                written.enter_context(errors.after_changes())
            pieces = _pieces(graph, table, listed, request)
            if request.output is None:
                _print(pieces, request.format)
            else:
                _write_file(request.output, (piece.encode() for piece in pieces), protection)


def _print(pieces: Iterator[str], form: Format) -> None:
    output = terminal.Output()
    if form == "csv" and terminal.is_terminal(sys.stdout):
        # Other programs get the very content.
        pieces = (printable.lines(piece) for piece in pieces)
    output.writelines(pieces)
    output.flush()


def _find(location: str, collection: str | None) -> tuple[str, output_paths.Protection]:
    """Return the path of the graph, and what must stay as it is."""
    owned = output_paths.Protection()
    if not location.endswith(".qg"):
        repository = repository_config.load(location)
        owned = repository_files.protection(repository)
        location = ingested_graphs.find(repository, collection)
    elif collection is not None:
        raise errors.RefusedError(f"{location} is a graph; a collection can be chosen in a repository only")
    files = {**owned.files, location: "the graph that is reported on"}
    return location, msgspec.structs.replace(owned, files=files)


def _check_paths(request: Request, protection: output_paths.Protection) -> None:
    """Refuse what must not be written, and two reports in one file, before anything is written."""
    if request.data_id_table_dir is not None:
        directory = container.local_path(request.data_id_table_dir)
        output_paths.check_directory(directory, protection)
        output_paths.check_writeable(directory)
    for uri in (request.status_report, request.output):
        if uri is not None:
            path = container.local_path(uri)
            output_paths.check(path, output_kinds.Kind.REPORT, protection)
            output_paths.check_writeable(os.path.dirname(path))
            protection = msgspec.structs.replace(
                protection, files={**protection.files, path: "another report of this command"}
            )


def _pieces(
    graph: provenance_graph.ProvenanceGraph,
    table: quanta.QuantumTable,
    listed: listing.Listing,
    request: Request,
) -> Iterator[str]:
    if request.format == "csv":
        yield from formats.csv_rows(listed)
        return
    report = overview.make(graph, table, listed.blocked, request.choice)
    shown = {"quanta": request.quantum_table, "exceptions": request.exception_table}
    if request.format == "table":
        yield from (f"{line}\n" for line in formats.table(report, **shown))
    elif request.format == "md":
        yield from (f"{line}\n" for line in formats.markdown(report, listed, **shown))
    elif request.format == "json":
        yield from formats.json(report, listed, **shown)
    else:
        yield page.render(report, listed, graph)


def _write_file(uri: str, pieces: Iterator[bytes], protection: output_paths.Protection) -> None:
    path = container.local_path(uri)
    with durable_files.writing(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    output_paths.write(path, pieces, output_kinds.Kind.REPORT, protection)
