"""What the commands share: how they are found without importing all of them, and how they end."""

import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import click

from aggregator.command_line import next_commands
from aggregator.console import terminal
from aggregator.storage import errors
from aggregator.workers.engines import thread_pools

_log = logging.getLogger(__name__)

WITH_PROGRESS = ("aggregate-graph", "ingest-graph", "synthesize")
"""Commands that show their progress."""

_INTERRUPTED = 130


class Group(click.Group):
    """A group whose commands can lie in modules that are imported when a command is called.

    Whatever happens in a command ends here, in an exit code and in as few words as possible.

    Parameters
    ----------
    places
        Module and help of each of these commands; the module has the command under its name.
    """

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(context), *self._places})

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line, and exit; a standard stream that is full or closed ends nothing early."""
        terminal.begin()
        command = next_commands.given(sys.argv[1:] if args is None else args, prog_name)
        try:
            result = super().main(args, prog_name, complete_var, False, obj=command, **extra)
            code = result if isinstance(result, int) else 0
        except Exception as exc:
            code = _end(exc, command)
        terminal.end()
        sys.exit(code)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        if name in self._places:
            module = importlib.import_module(self._places[name][0])
            command: click.Command = getattr(module, name.replace("-", "_"))
            return command
        return super().get_command(context, name)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing those that are elsewhere."""
        names, rows = self.list_commands(context), []
        width = formatter.width - max(map(len, names)) - len("    ")
        for name in names:
            command = super().get_command(context, name)
            rows.append(
                (name, self._places[name][1] if command is None else command.get_short_help_str(width))
            )
        with formatter.section("Commands"):
            formatter.write_dl(rows)


bar_option = click.option(
    "--interactive-status/--no-interactive-status", default=None,
    help="Show progress bars [default: if the terminal is one].",
)  # fmt: skip


def status_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how it shows its progress."""
    lines = click.option(
        "--log-status-interval", type=float, default=None,
        help="Seconds between progress messages where no bars are shown [default: 60].",
    )  # fmt: skip
    return bar_option(lines(command))


def check_directory() -> None:
    """Refuse to work in a directory that was removed.

    Raises
    ------
    RefusedError
        If that is so: nobody knows what relative paths mean there.
    """
    try:
        os.getcwd()
    except OSError as exc:
        raise errors.RefusedError(
            f"the current directory can't be used ({exc.strerror}); change to another one."
        ) from exc


def last_words(lines: Iterable[str], following: Sequence[next_commands.Next] = ()) -> None:
    """Print what was done by a command that has done it, whether or not that can be printed.

    Parameters
    ----------
    lines
        What was done.
    following
        Commands that may come next.
    """
    try:
        terminal.tell([*lines, *next_commands.lines(following)])
    except terminal.OutputError as exc:
        _log.warning("Everything is done, but the summary could not be printed: %s", exc)


def hint(following: Sequence[next_commands.Next]) -> None:
    """Tell people which commands may come next, where the output itself is for whoever reads it."""
    if terminal.is_terminal(sys.stderr) and terminal.is_terminal(sys.stdout):
        for line in next_commands.lines(following):
            terminal.complain(line)


def _end(error: Exception, command: next_commands.Command) -> int:
    """Tell what went wrong; return the exit code."""
    match error:
        case terminal.OutputError(is_quiet=True):
            return error.exit_code
        case errors.AggregatorError():
            _explain(error, command)
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
            terminal.complain("Error: this is a fault of the program; please report it with the lines above.")
    return errors.AggregatorError.exit_code


def _explain(error: errors.AggregatorError, command: next_commands.Command) -> None:
    for note in getattr(error, "__notes__", ()):
        logging.getLogger("aggregator").debug("%s", note)
    if error.summary is not None:
        last_words(error.summary.lines())
    terminal.complain(f"Error: {error}")
    for line in next_commands.lines(command.after(error)):
        terminal.complain(line)


def import_single_threaded(name: str) -> Any:
    """Import a module whose libraries would otherwise start threads."""
    with thread_pools.single_threaded():
        return importlib.import_module(name)
