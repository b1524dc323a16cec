"""What the commands share, and how they are found without importing all of them."""

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from schemas import errors
from workers import thread_pools


class LazyGroup(click.Group):
    """A group whose commands can lie in modules that are imported when a command is called.

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


def status_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how it shows its progress."""
    bars = click.option(
        "--interactive-status/--no-interactive-status", default=None,
        help="Show progress bars [default: if the terminal is one].",
    )  # fmt: skip
    lines = click.option(
        "--log-status-interval", type=float, default=None,
        help="Seconds between progress messages where no bars are shown [default: 60].",
    )  # fmt: skip
    return bars(lines(command))


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turn errors into one line on the terminal and an exit code."""
    try:
        yield
    except errors.AggregatorError as exc:
        for note in getattr(exc, "__notes__", ()):
            logging.getLogger("aggregator").debug("%s", note)
        click.echo(f"Error: {exc}", err=True)
        sys.exit(exc.exit_code)


def import_single_threaded(name: str) -> Any:
    """Import a module whose libraries would otherwise start threads."""
    with thread_pools.single_threaded():
        return importlib.import_module(name)
