"""Where log messages go: a file or the terminal, neither of which ends a run if it can't be written."""

import errno
import logging
import os
import sys
import time
from typing import TextIO

from aggregator.schemas import printable


class LogFile(logging.FileHandler):
    """A log file; when it can't be written any more, the log says so once, and goes on without it.

    One that is not there is made with the first message: until then, a command may find out that the place
    is not for logs.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OSError
        If it can't be opened, or made.
    """

    def __init__(self, path: str) -> None:
        is_new = not os.path.lexists(path)
        if is_new and not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK | os.X_OK):
            # The system knows best why not.
            os.stat(os.path.dirname(os.path.abspath(path)))
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        super().__init__(path, delay=is_new)

    def emit(self, record: logging.LogRecord) -> None:
        """Append a message."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

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
