"""The program `aggregator`, and where each of its commands is defined."""

import click

from aggregator.command_line import group
from aggregator.console import logs

PLACES = {
    "aggregate-graph": (
        "aggregator.command_line.aggregate_graph",
        "Ingest the outputs of a graph, and write its provenance graph.",
    ),
    "build": ("aggregator.command_line.build", "Build the predicted graph of a pipeline."),
    "collect": ("aggregator.command_line.collect", "Pack what a job on another host has left."),
    "confirm": ("aggregator.command_line.confirm", "Record files that another system has brought."),
    "create": ("aggregator.command_line.create", "Make an empty repository."),
    "deliver": ("aggregator.command_line.deliver", "Bring what jobs have left to their repository."),
    "ingest-graph": (
        "aggregator.command_line.ingest_graph",
        "Make a provenance graph a part of its repository, in place of files.",
    ),
    "follow": ("aggregator.command_line.follow", "Aggregate while a graph is executed elsewhere."),
    "init-run": (
        "aggregator.command_line.init_run",
        "Write what a run has before its first quantum.",
    ),
    "pack": ("aggregator.command_line.pack", "Pack what a job on another host needs."),
    "provenance-report": (
        "aggregator.command_line.provenance_report",
        "Report on the run in a provenance graph.",
    ),
    "run": ("aggregator.command_line.run", "Execute the quanta of a graph."),
    "run-quanta": ("aggregator.command_line.run_quanta", "Execute some quanta, as a batch job."),
    "run-workflow": (
        "aggregator.command_line.run_workflow",
        "Execute a workflow for HTCondor on this machine, to try it out.",
    ),
    "scan": (
        "aggregator.command_line.scan",
        "Scan a part of a run, for an aggregation that comes later.",
    ),
    "merge": (
        "aggregator.command_line.merge",
        "Bring repositories, or parts of them, into another one.",
    ),
    "show": ("aggregator.command_line.show", "Tell what a provenance graph knows."),
    "stage": (
        "aggregator.command_line.stage",
        "Read, process and write items for each data ID, as a policy says.",
    ),
    "status": ("aggregator.command_line.status", "Tell how far an aggregation is."),
    "subset": (
        "aggregator.command_line.subset",
        "Bring a part of a repository into another one.",
    ),
    "synthesize": (
        "aggregator.command_line.synthesize",
        "Make an executed run of any size, without executing it.",
    ),
    "unpack": ("aggregator.command_line.unpack", "Make a repository of the pack of a job."),
    "write-workflow": (
        "aggregator.command_line.write_workflow",
        "Write a workflow for a batch system that executes a graph.",
    ),
}
"""Module and help of each command."""

_WITH_PROGRESS = (
    *("aggregate-graph", "follow", "ingest-graph", "run", "run-quanta", "run-workflow", "synthesize"),
    *("pack", "unpack", "collect", "deliver", "merge", "subset", "confirm", "stage"),
)
"""Commands that show their progress."""


def _split(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return values one by one that may be given with commas between them, as in the reference."""
    return tuple(value for each in given for value in each.split(",") if value)


def _labels(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Return labels by name."""
    labels = {}
    for text in _split(context, parameter, given):
        name, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text}: has no value; write KEY=VALUE", context, parameter)
        labels[name.upper()] = value
    return labels


@click.group(
    cls=group.Group,
    places=PLACES,
    context_settings={"help_option_names": ["-h", "--help"]},
    name="aggregator",
)
@click.option(
    "--log-level", multiple=True, metavar="[LOGGER=]LEVEL", callback=_split,
    help="Level of log messages, of all or of one logger: CRITICAL, ERROR, WARNING, INFO, VERBOSE, DEBUG, "
    "TRACE; may be repeated [default: INFO].",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="How standard error tells of messages and errors: as text, or as JSON, one record a line.",
)  # fmt: skip
@click.option("--long-log", is_flag=True, help="Log messages with time, process and logger.")
@click.option(
    "--log-file", multiple=True, metavar="FILE", callback=_split,
    help="Append log messages to this file, too: as JSON, one record a line, if its name ends with .json; "
    "may be repeated.",
)  # fmt: skip
@click.option(
    "--log-tty/--no-log-tty", default=True, show_default=True, help="Show log messages on the terminal."
)
@click.option(
    "--log-label", multiple=True, metavar="KEY=VALUE", callback=_labels,
    help="What log messages in JSON, and long ones, tell as well; may be repeated.",
)  # fmt: skip
@click.option(
    "--progress/--no-progress", default=None,
    help="Show progress bars, unless the command is told otherwise [default: if the terminal is one].",
)  # fmt: skip
@click.version_option(package_name="quantum-graph-aggregator")
@click.pass_context
def main(
    context: click.Context,
    log_level: tuple[str, ...],
    log_file: tuple[str, ...],
    log_label: dict[str, str],
    progress: bool | None,
    log_format: str,
    long_log: bool,
    log_tty: bool,
) -> None:
    """Ingest and record what quantum graphs have produced."""
    group.check_directory()
    json_lines = log_format == "json"
    if json_lines:
        context.obj.formatter = logs.JsonFormatter(log_label)
        progress = progress or False
    logs.set_up(log_level, log_file, log_label, long=long_log, terminal=log_tty, json_lines=json_lines)
    if progress is not None:
        context.default_map = {name: {"interactive_status": progress} for name in _WITH_PROGRESS}
