"""Where log messages go: a file or the terminal, neither of which ends a run if it can't be written."""

import collections
import logging
import sys
import time
from typing import TextIO

from schemas import messages, printable

_N_KEPT = 100
"""Messages of libraries to keep, at most; the last ones."""


class LogFile(logging.FileHandler):
    """A log file; when it can't be written any more, the log says so once, and goes on without it.

    Raises
    ------
    OSError
        If it can't be opened.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Give up."""
        error = sys.exception()
        logging.getLogger().removeHandler(self)
        self.setLevel(logging.CRITICAL + 1)
        reason = getattr(error, "strerror", None) or error
        logging.getLogger(__name__).warning(
            "%s: can't write the log there any more (%s)", self.baseFilename, reason
        )


class Terminal(logging.StreamHandler[TextIO]):
    """Standard error, whatever that is at the moment: while bars are shown, it is what is above them."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Where messages go."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on: there is no other place to tell it."""


class Collector(logging.Handler):
    """Keeps warnings and errors of libraries in a worker, for the coordinator: only that has the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: collections.deque[messages.Logged] = collections.deque(maxlen=_N_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        try:
            text = self.format(record)
        except Exception as exc:
            # As other handlers do: what can't be told must not end what it tells of.
            text = f"{record.msg!r} ({exc})"
        self._records.append(messages.Logged(record.name, record.levelno, text))

    def take(self) -> list[messages.Logged]:
        """Return what has come since the call before."""
        return [self._records.popleft() for _ in range(len(self._records))]


class Formatter(logging.Formatter):
    """Messages that can be shown to people; lines after the first are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with its traceback."""
        return printable.lines(super().format(record), "  ")


class WorkerFormatter(Formatter):
    """Times as ISO 8601, UTC, with milliseconds."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
