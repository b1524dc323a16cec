"""Reports as text, JSON, CSV and Markdown (docs/report.md), piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import msgspec

from aggregator.reports import document, listing, text_tables
from aggregator.schemas import printable

_MESSAGE_SIZE = 300
"""Characters of a message in Markdown."""

_COLUMNS = (
    "version", "task", "status", "quantum_id", "n_attempts", "caveats", "exception", "message", "start",
    "run_time", "memory", "log_dataset_type", "log_dataset_id", "log_offset", "log_size",
    "n_blocked", "cause",
)  # fmt: skip


def table(report: document.Report, *, quanta: bool, exceptions: bool) -> Iterator[str]:
    """Yield the lines of the tables that are asked for, with a legend of the caveats."""
    if quanta:
        quantum_table = text_tables.quanta(report)
        yield from text_tables.plain(quantum_table)
        yield ""
        if any(row[1] == text_tables.MULTIPLE for row in quantum_table):
            yield from text_tables.plain(text_tables.caveats(report))
            yield ""
        if legend := text_tables.legend(report):
            yield from legend
            yield ""
    if exceptions:
        yield from text_tables.plain(text_tables.exceptions(report))
        yield ""


def json(
    report: document.Report, listed: listing.Listing, *, quanta: bool, exceptions: bool
) -> Iterator[str]:
    """Yield the report in JSON: null for tables not asked for, one line for each listed quantum."""
    choices = {"tasks": quanta, "exceptions": exceptions}
    nulls = {name: None for name, is_chosen in choices.items() if not is_chosen}
    yield _json({**msgspec.structs.asdict(report), **nulls})[:-1]
    yield ',"quanta":['
    for i, quantum in enumerate(listed):
        yield f"{',' if i else ''}\n{_json(quantum)}"
    yield "]}\n"


def _json(value: object) -> str:
    return printable.json(msgspec.json.encode(value).decode())


def csv_rows(listed: listing.Listing) -> Iterator[str]:
    """Yield the lines of the table of listed quanta in CSV."""
    dimensions = listed.all_dimensions()
    yield _csv_row([*_COLUMNS, *dimensions])
    for quantum in listed:
        yield _csv_row([*_csv_cells(quantum), *(quantum.data_id.get(name, "") for name in dimensions)])


def _csv_row(cells: list[object]) -> str:
    text = io.StringIO()
    # Only those characters are quoted that are in the end of a line: both, as readers take either for one.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _csv_cells(quantum: listing.ListedQuantum) -> list[object]:
    log = quantum.log
    return [
        document.VERSION,
        quantum.task,
        quantum.status,
        quantum.quantum_id,
        quantum.n_attempts,
        " ".join(quantum.caveats),
        quantum.exception,
        quantum.message,
        quantum.start,
        quantum.run_time,
        quantum.memory,
        *(("",) * 4 if log is None else (log.dataset_type, log.dataset_id, log.offset, log.size)),
        quantum.n_blocked,
        quantum.cause,
    ]


def markdown(
    report: document.Report, listed: listing.Listing, *, quanta: bool, exceptions: bool
) -> Iterator[str]:
    """Yield the lines of the report in Markdown, with the tables that are asked for."""
    summary = report.summary
    yield f"# Run {text_tables.escape(report.graph.output_run)}"
    yield ""
    yield f"{summary.n_quanta} quanta of {summary.n_expected} expected, {summary.n_retried} retried."
    if summary.start:
        yield f"From {summary.start} to {summary.end}, at most {summary.peak_concurrency} at a time."
    shown = {"Quanta": text_tables.quanta(report), "Caveats": text_tables.caveats(report)} if quanta else {}
    shown["Fix first"] = text_tables.fix_first(report)
    if exceptions:
        shown["Exceptions"] = text_tables.exceptions(report)
    for title, rows in shown.items():
        yield from ("", f"## {title}", "")
        yield from text_tables.markdown(rows) if len(rows) > 1 else ["None."]
    if quanta and (legend := text_tables.legend(report)):
        yield from ("", *(f"* {text_tables.escape(line)}" for line in legend))
    yield from ("", f"## Listed quanta: {', '.join(report.selection.states)}", "")
    yield from _markdown_rows(listed) if len(listed) else ["None."]
    yield from (
        "",
        f"Logs are in {text_tables.escape(report.graph.path)}. Made {report.created} by {report.generator}, "
        f"report version {report.version}.",
    )


def _markdown_rows(listed: listing.Listing) -> Iterator[str]:
    heads = ["Task", "Data ID", "Status", "Attempts", "Exception", "Message", "Quantum", "Log dataset"]
    yield from text_tables.markdown([heads])
    for quantum in listed:
        cells = [
            quantum.task,
            ", ".join(f"{name}={value}" for name, value in quantum.data_id.items()),
            quantum.status,
            str(quantum.n_attempts),
            quantum.exception or "",
            shorten(quantum.message or "", _MESSAGE_SIZE),
            quantum.quantum_id,
            quantum.log.dataset_id if quantum.log else "none",
        ]
        yield text_tables.markdown([heads, cells])[-1]


def shorten(text: str, size: int) -> str:
    """Return the begin of a text, and how much is missing."""
    return text if len(text) <= size else f"{text[:size]}… ({len(text) - size} more characters)"
