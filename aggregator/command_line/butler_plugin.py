"""The commands as plugins of the reference's `butler` program, under names that it has not taken itself."""

import click

from aggregator.command_line import group, main, next_commands

PREFIX = "aggregator-"
"""What the names of all commands begin with there."""

_GROUP = group.Group(
    "butler",
    places={PREFIX + name: place for name, place in main.PLACES.items()},
    context_settings=main.main.context_settings,
)


class _Plugin(click.Command):
    """A command that is imported when it is called, and gets its arguments as they are."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Leave them to the command itself."""
        context.args = args
        return args

    def invoke(self, context: click.Context) -> None:
        """Run the command, and exit."""
        program = context.find_root().info_name
        _GROUP.main([self.name or "", *context.args], program, given=next_commands.given(prefix=PREFIX))


def commands() -> list[click.Command]:
    """Return all commands; this is an entry point of the group `butler.cli`."""
    return [_Plugin(PREFIX + name, help=text) for name, (_, text) in main.PLACES.items()]
