"""The end of a log, for people."""

from __future__ import annotations

from aggregator.reports import formats, listing
from aggregator.schemas.execution import log_records
from aggregator.schemas.graphs import provenance_graph

_N_RECORDS = 8
_MESSAGE_SIZE = 400
_TRACEBACK_SIZE = 1500
_MAX_BLOCK = 1 << 22
"""Larger blocks are not opened, bytes."""


def read(graph: provenance_graph.ProvenanceGraph, quantum: listing.ListedQuantum) -> str:
    """Return the last records of a quantum's last attempt; nothing if it left no log.

    Parameters
    ----------
    graph
        The graph.
    quantum
        The quantum.
    """
    if quantum.log is None:
        return ""
    if quantum.log.size > _MAX_BLOCK:
        return f"The log is too large to be shown here: {quantum.log.size / 1e6:.0f} MB compressed."
    attempts = graph.logs(quantum.log.dataset_id)
    records = attempts[-1] if attempts else None
    if not records:
        return "The log has no records."
    lines = [line for record in records[-_N_RECORDS:] for line in _lines(record)]
    if len(records) > _N_RECORDS:
        lines.insert(0, f"… {len(records) - _N_RECORDS} earlier records")
    return "\n".join(lines)


def _lines(record: log_records.LogRecord) -> list[str]:
    time = record.asctime.strftime("%H:%M:%S")
    message = formats.shorten(record.message, _MESSAGE_SIZE)
    lines = [f"{time} {record.levelname} {record.name}: {message}"]
    if record.exc_info:
        # The end of a traceback says what happened.
        end = record.exc_info[-_TRACEBACK_SIZE:]
        lines.append(f"…{end}" if len(end) < len(record.exc_info) else end)
    return lines
