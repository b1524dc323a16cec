"""One call of a command: what it says, and how it ends."""

import dataclasses
import io
import logging
import sys
import traceback
from collections.abc import Iterable, Sequence

import click

from aggregator.command_line import next_commands
from aggregator.console import terminal
from aggregator.storage import errors

_log = logging.getLogger(__name__)

_INTERRUPTED = 130


@dataclasses.dataclass(slots=True)
class Invocation:
    """One call of a command."""

    command: next_commands.Command
    """The command that was given."""

    def last_words(self, summary: errors.Account, following: Sequence[next_commands.Next] = ()) -> None:
        """Print what was done by a command that has done it, whether or not that can be printed.

        Parameters
        ----------
        summary
            What was done.
        following
            Commands that may come next.
        """
        self._tell([*summary.lines(), *next_commands.lines(following)])

    def _tell(self, lines: Iterable[str]) -> None:
        try:
            terminal.tell(lines)
        except terminal.OutputError as exc:
            _log.warning("Everything is done, but the summary could not be printed: %s", exc)

    def hint(self, following: Sequence[next_commands.Next]) -> None:
        """Tell people which commands may come next, where the output itself is for whoever reads it."""
        if terminal.is_terminal(sys.stderr) and terminal.is_terminal(sys.stdout):
            for line in next_commands.lines(following):
                terminal.complain(line)

    def end(self, error: BaseException) -> int:
        """Tell what went wrong; return the exit code."""
        match error:
            case terminal.OutputError(is_quiet=True):
                return error.exit_code
            case errors.AggregatorError():
                self._explain(error)
                return error.exit_code
            case click.Abort():
                terminal.complain("Error: interrupted.")
                return _INTERRUPTED
            case click.ClickException():
                text = io.StringIO()
                error.show(text)
                terminal.complain(text.getvalue().rstrip("\n"))
                return error.exit_code
            case OSError(strerror=str(reason)):
                _log.debug("%s", "".join(traceback.format_exception(error)))
                terminal.complain(f"Error: {f'{error.filename}: ' if error.filename else ''}{reason}")
            case MemoryError():
                terminal.complain("Error: there is not enough memory.")
            case _:
                terminal.complain("".join(traceback.format_exception(error)).rstrip("\n"))
                terminal.complain(
                    "Error: this is a fault of the program; please report it with the lines above."
                )
        return errors.AggregatorError.exit_code

    def _explain(self, error: errors.AggregatorError) -> None:
        for note in getattr(error, "__notes__", ()):
            logging.getLogger("aggregator").debug("%s", note)
        if error.summary is not None:
            self._tell(error.summary.lines())
        terminal.complain(f"Error: {error}")
        for line in next_commands.lines(self.command.after(error)):
            terminal.complain(line)
