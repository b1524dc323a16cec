"""Standard output and standard error of the command line, either of which may be full, closed or missing."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from aggregator.schemas import printable
from aggregator.storage import errors

_DESCRIPTORS = {0: os.O_RDONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""How descriptors are opened that are closed: what is written to standard output fails, as it should."""


class OutputError(errors.AggregatorError):
    """What was to be printed could not be printed.

    Parameters
    ----------
    cause
        The error.
    """

    def __init__(self, cause: OSError) -> None:
        self.is_quiet = cause.errno == errno.EPIPE
        """Whether the reader has simply gone, as `head` does."""
        super().__init__(f"can't write to standard output ({cause.strerror or cause})")


class Output:
    """Standard output, whatever it is at the moment.

    Raises
    ------
    OutputError
        If it can't be written.
    """

    def write(self, text: str) -> None:
        """Write a text as it is."""
        with _explained():
            _stream("stdout").write(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write texts as they are."""
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        """Make sure that what was written has arrived."""
        with _explained():
            _stream("stdout").flush()


def tell(lines: Iterable[str]) -> None:
    """Print lines to standard output.

    Raises
    ------
    OutputError
        If they can't be printed.
    """
    output = Output()
    output.writelines(f"{printable.lines(line, '  ')}\n" for line in lines)
    output.flush()


def complain(text: str) -> None:
    """Print a text to standard error, if there is one."""
    with contextlib.suppress(OSError, ValueError):
        stream = _stream("stderr")
        stream.write(printable.lines(text, "  ") + "\n")
        stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream, which may be missing or closed, leads to a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def begin() -> None:
    """Make standard streams usable.

    A closed descriptor would be given to the next file that is opened, and that file get what is meant for
    the terminal.
    """
    for number, mode in _DESCRIPTORS.items():
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, so this is it.
            os.set_inheritable(os.open(os.devnull, mode), True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False, buffering=1))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            # Not every terminal's encoding has all characters of logs and paths.
            stream.reconfigure(errors="backslashreplace")


def end() -> None:
    """Flush standard streams; what can't be written is dropped, so that Python does not try it again."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        try:
            _stream(name).flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                if _stream(name).fileno() == number:
                    sink = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(sink, number)
                    os.close(sink)


def _stream(name: str) -> TextIO:
    stream: TextIO | None = getattr(sys, name)
    if stream is None:
        raise ValueError(f"there is no {name}")
    return stream


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(exc) from exc
    except ValueError as exc:
        if isinstance(exc, UnicodeError):
            raise
        raise OutputError(OSError(errno.EBADF, os.strerror(errno.EBADF))) from exc
