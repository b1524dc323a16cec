"""Options that several commands have, and defaults that are those of the values they become."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import click
from click import shell_completion

from aggregator.storage import local_files, s3_settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What adds options to a command."""


class Fields:
    """Makes options that become fields of a dataclass, and have the defaults of these fields.

    Parameters
    ----------
    source
        The dataclass.
    """

    def __init__(self, source: type) -> None:
        self._defaults = {field.name: field.default for field in dataclasses.fields(source)}

    def option(self, *names: str, **attributes: Any) -> Decorator:
        """Return an option; a default that the help describes in its own words is not shown again."""
        default = self.default(click.Option(list(names), **attributes).name)
        if default is not None:
            is_shown = default not in ("", ()) and default is not False
            attributes |= {"default": default, "show_default": is_shown}
        return click.option(*names, **attributes)

    def default(self, name: str | None) -> Any:
        """Return the default of a field."""
        return self._defaults[name or ""]


def path(name: str, **attributes: Any) -> Decorator:
    """Return an argument that is a path."""
    return click.argument(name, type=PATH, **attributes)


class _Path(click.types.StringParamType):
    """A path as it is given: whether it can be used is found out by those who use it."""

    name = "path"

    def shell_complete(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[shell_completion.CompletionItem]:
        """Let the shell complete it."""
        return [shell_completion.CompletionItem(incomplete, type="file")]


PATH = _Path()
"""Type of values that shells complete as paths."""


def _load_file(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Take the defaults of a command's options from a YAML file."""
    if value is None or context.resilient_parsing:
        return
    import yaml

    try:
        document = yaml.safe_load(local_files.read(value).decode())
    except (OSError, local_files.UnusableError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise click.BadParameter(f"{value}: can't read it ({exc})", context, parameter) from exc
    name = context.command.name
    section = document.get(name) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise click.BadParameter(f"{value}: has no section {name!r}", context, parameter)
    by_name = {
        option.lstrip("-"): p.name for p in context.command.params for option in [*p.opts, p.name or ""]
    }
    unknown = sorted(str(name) for name in section if str(name) not in by_name)
    if unknown:
        raise click.BadParameter(f"{value}: no such option: {', '.join(unknown)}", context, parameter)
    defaults = {by_name[str(name)]: setting for name, setting in section.items()}
    context.default_map = {**(context.default_map or {}), **defaults}


defaults_file = click.option(
    "-@", "--options-file", type=PATH, expose_value=False, is_eager=True, callback=_load_file,
    help="YAML file with defaults of these options, in a section named after the command.",
)  # fmt: skip


def _ask_machine(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Let this process, and those that it starts, ask the machine for credentials."""
    if value and not context.resilient_parsing:
        before = os.environ.get(s3_settings.INSTANCE_CREDENTIALS)
        os.environ[s3_settings.INSTANCE_CREDENTIALS] = "1"
        if before is None:
            context.call_on_close(lambda: os.environ.pop(s3_settings.INSTANCE_CREDENTIALS, None))


instance_credentials = click.option(
    "--s3-instance-credentials", is_flag=True, expose_value=False, is_eager=True, callback=_ask_machine,
    help="Ask the cloud machine for credentials, if none are given; it is never asked otherwise.",
)  # fmt: skip


def _take_summary(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Note where the summary goes before any other option can be wrong."""
    if value is not None and not context.resilient_parsing:
        context.obj.summarize_to(value)


summary = click.option(
    "--summary-json", type=PATH, metavar="FILE", expose_value=False, is_eager=True, callback=_take_summary,
    help="Write what was done, or went wrong, as a JSON document; - for standard output.",
)  # fmt: skip


def _take_metrics(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Note where metrics go before any other option can be wrong."""
    if value is not None and not context.resilient_parsing:
        context.obj.measure_to(value)


metrics = click.option(
    "--metrics-file", type=PATH, metavar="FILE", expose_value=False, is_eager=True, callback=_take_metrics,
    help="Write numbers for Prometheus there every few seconds, as node-exporter collects them.",
)  # fmt: skip

processes = click.option(
    "-j", "--processes", "n_processes", type=click.IntRange(min=1), default=1, show_default=True,
    help="Number of processes.",
)  # fmt: skip

database = click.option(
    "--db", "database", metavar="URL", help="Database [default: a SQLite file in the repository]."
)

namespace = click.option("--namespace", help="Schema of the database for the tables; PostgreSQL only.")

bars = click.option(
    "--interactive-status/--no-interactive-status", default=None,
    help="Show progress bars [default: if the terminal is one].",
)  # fmt: skip

_status_interval = click.option(
    "--log-status-interval", type=float, default=None,
    help="Seconds between progress messages where no bars are shown [default: 60].",
)  # fmt: skip


def progress(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how progress is shown."""
    return bars(_status_interval(command))
