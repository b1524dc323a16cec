"""The group of all commands, which are imported when they are called."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click
from click import shell_completion

from aggregator.command_line import invocations, next_commands
from aggregator.console import interruption, terminal
from aggregator.storage import errors, fault_points
from aggregator.workers.engines import copies


class Group(click.Group):
    """A group whose commands lie in modules of their own.

    Whatever happens in a command ends here, in an exit code and in as few words as possible.

    Parameters
    ----------
    places
        Module and help of each command, which the module has under its own name.
    """

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(self._places)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        if name not in self._places:
            return None
        place, _ = self._places[name]
        command: click.Command = getattr(importlib.import_module(place), place.rpartition(".")[2])
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called, and note which one it is."""
        resolved = super().resolve_command(context, args)
        if context.obj is not None and resolved[1] is not None:
            context.obj.command.name = resolved[1].name
        return resolved

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._places[name][1]) for name in self.list_commands(context)])

    def shell_complete(
        self, context: click.Context, incomplete: str
    ) -> list[shell_completion.CompletionItem]:
        """Return the commands and options that begin with a text, without importing any command."""
        commands = [
            shell_completion.CompletionItem(name, help=self._places[name][1])
            for name in self.list_commands(context)
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, context, incomplete)

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
        plugged = extra.pop("given", None)
        given, is_process = plugged or next_commands.given(args, prog_name), bool(plugged) or args is None
        if args is None and not plugged:
            copies.allow()
        invocation = invocations.Invocation(given)
        signals = interruption.CommandSignals()
        try:
            signals.begin()
            fault_points.reached("command")
            try:
                result = super().main(args, prog_name, complete_var, False, obj=invocation, **extra)
            finally:
                signals.work_is_over()
            code = result if isinstance(result, int) else 0
            invocation.end(None)
        except (Exception, interruption.Stop) as exc:
            code = invocation.end(exc, signals.number)
        terminal.end()
        signals.end(is_last=is_process)
        sys.exit(code)


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
