"""What is logged while a quantum is executed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import IO

from aggregator.schemas.execution import log_writer

_FORMATTER = logging.Formatter()


class Capture(logging.Handler):
    """Keeps all records of this process that reach the root logger; levels are those of the loggers.

    Parameters
    ----------
    labels
        What they are about, by name.
    spool
        Gets each record as it comes, one a line, so that it outlives this process; it is not closed.
    """

    def __init__(self, labels: Mapping[str, str], spool: IO[bytes] | None = None) -> None:
        super().__init__()
        self.records: list[bytes] = []
        """JSON of each record."""
        self._labels = dict(labels)
        self._spool = spool

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        trace = _FORMATTER.formatException(record.exc_info) if record.exc_info else None
        try:
            text = log_writer.record_text(record, self._labels, trace)
        except Exception:
            # A message that does not fit to its arguments must not end what it tells of.
            record.msg, record.args = f"{record.msg!r} {record.args!r}", None
            text = log_writer.record_text(record, self._labels, trace)
        self.records.append(text)
        if self._spool is not None:
            try:
                self._spool.write(text + b"\n")
                self._spool.flush()
            except OSError:
                # Only a process that is killed now would need it.
                self._spool = None


@contextlib.contextmanager
def capturing(labels: Mapping[str, str], spool: IO[bytes] | None = None) -> Iterator[Capture]:
    """Keep what is logged in a ``with`` statement."""
    handler = Capture(labels, spool)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
