"""The command line."""

from typing import Any

import click

from aggregator.command_line import next_commands, shared
from aggregator.console import logs, terminal
from aggregator.storage import local_files

_COMMANDS = {
    "ingest-graph": (
        "aggregator.command_line.ingest_graph",
        "Make a provenance graph a part of its repository, in place of files.",
    ),
    "provenance-report": (
        "aggregator.command_line.provenance_report",
        "Report on the run in a provenance graph.",
    ),
    "show": ("aggregator.command_line.show", "Tell what a provenance graph knows."),
}
"""Commands in modules of their own."""


def _load_options_file(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Take the defaults of a command's options from a YAML file."""
    if value is None:
        return
    import yaml

    try:
        document = yaml.safe_load(local_files.read(value).decode())
    except (OSError, local_files.UnusableError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise click.BadParameter(f"{value}: can't read it ({exc})", context, parameter) from exc
    section = document.get(context.info_name) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise click.BadParameter(f"{value}: has no section {context.info_name!r}", context, parameter)
    by_name = {
        option.lstrip("-"): p.name for p in context.command.params for option in [*p.opts, p.name or ""]
    }
    unknown = sorted(str(name) for name in section if str(name) not in by_name)
    if unknown:
        raise click.BadParameter(f"{value}: no such option: {', '.join(unknown)}", context, parameter)
    defaults = {by_name[str(name)]: setting for name, setting in section.items()}
    context.default_map = {**(context.default_map or {}), **defaults}


def _split(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return values one by one that may be given with commas between them, as in the reference."""
    return tuple(value for each in given for value in each.split(",") if value)


@click.group(cls=shared.Group, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--log-level", multiple=True, metavar="[LOGGER=]LEVEL", callback=_split,
    help="Level of log messages, of all or of one logger: CRITICAL, ERROR, WARNING, INFO, VERBOSE, DEBUG, "
    "TRACE; may be repeated [default: INFO].",
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
    "--log-label", multiple=True, metavar="KEY=VALUE", callback=_split,
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
    log_label: tuple[str, ...],
    progress: bool | None,
    long_log: bool,
    log_tty: bool,
) -> None:
    """Ingest and record what quantum graphs have produced."""
    context.obj.name = context.invoked_subcommand
    shared.check_directory()
    labels = {}
    for text in log_label:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"--log-label {text}: has no value; write KEY=VALUE")
        labels[name.upper()] = value
    logs.set_up(log_level, log_file, labels, long=long_log, terminal=log_tty)
    if progress is not None:
        context.default_map = {name: {"interactive_status": progress} for name in shared.WITH_PROGRESS}


@main.command("aggregate-graph")
@click.argument("predicted_graph")
@click.argument("repo")
@click.option("-o", "--output", "output_path", help="Write the provenance graph here.")
@click.option(
    "-j", "--processes", "n_processes", type=click.IntRange(min=1), default=1, show_default=True,
    help="Number of scanners; 1 does everything in this process.",
)  # fmt: skip
@click.option(
    "--incomplete/--complete", default=False,
    help="Execution goes on: ingest what certainly succeeded, write no graph.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Leave the database as it is.")
@shared.status_options
@click.option(
    "--register-dataset-types/--no-register-dataset-types", default=True, show_default=True,
    help="Register the dataset types of outputs.",
)  # fmt: skip
@click.option(
    "--update-output-chain/--no-update-output-chain", default=True, show_default=True,
    help="Put the output run in front of the output chain.",
)  # fmt: skip
@click.option("--worker-log-dir", help="Directory for a log file of each worker.")
@click.option("--worker-log-level", default="VERBOSE", show_default=True, help="Level of these logs.")
@click.option("--worker-profile-dir", help="Directory for a profile of each worker process.")
@click.option("--zstd-level", type=int, default=3, show_default=True, help="Compression level of the graph.")
@click.option(
    "--zstd-dict-size", type=int, default=32768, show_default=True,
    help="Size of the compression dictionary in bytes; 0 for none.",
)  # fmt: skip
@click.option(
    "--zstd-dict-n-inputs", type=int, default=512, show_default=True,
    help="Quanta to train the dictionary with; smaller graphs get none.",
)  # fmt: skip
@click.option(
    "--mock-storage-classes/--no-mock-storage-classes", default=False,
    help="Know the storage classes of mock tasks.",
)  # fmt: skip
@click.option(
    "--promise-ingest-graph/--no-promise-ingest-graph", default=False,
    help="Leave logs, metadata and configs to a later ingestion of the graph.",
)  # fmt: skip
@click.option("--defensive-ingest", is_flag=True, help="Look for ingested datasets from the start.")
@click.option(
    "--ingest-batch-size", type=click.IntRange(min=1), default=10000, show_default=True,
    help="Datasets to gather before they are written.",
)  # fmt: skip
@click.option("--checkpoint-dir", help="Directory of the checkpoint [default: PREDICTED_GRAPH.checkpoint].")
@click.option(
    "--checkpoint/--no-checkpoint", default=True, show_default=True,
    help="Keep what is found out, so that an interrupted run can go on.",
)  # fmt: skip
@click.option("--fresh", is_flag=True, help="Start over, whatever the checkpoint holds.")
@click.option("--keep-checkpoint", is_flag=True, help="Keep the checkpoint of a complete run.")
@click.option("--verify-checkpoint", is_flag=True, help="Look at files of settled quanta again, too.")
@click.option(
    "--scan-timeout", type=float, default=None,
    help="Stop if a scanner is at one shard for longer than this many seconds.",
)  # fmt: skip
@click.option(
    "--allow-empty-run", is_flag=True,
    help="Go on if not one file of the run exists, init outputs included.",
)  # fmt: skip
@click.option(
    "--unreadable", type=click.Choice(["hold", "failed"]), default="hold", show_default=True,
    help="Hold quanta whose files can't be read for another run, or record them as failed.",
)  # fmt: skip
@click.option(
    "-@", "--options-file", expose_value=False, is_eager=True, callback=_load_options_file,
    help="YAML file with defaults of these options, in a section named after the command.",
)  # fmt: skip
@click.pass_obj
def aggregate_graph(
    command: next_commands.Command, /, predicted_graph: str, repo: str, **options: Any
) -> None:
    """Ingest the outputs of PREDICTED_GRAPH into REPO, and write its provenance graph."""
    aggregation = shared.import_single_threaded("aggregator.aggregation.aggregate")
    configuration = shared.import_single_threaded("aggregator.aggregation.configuration")
    done = aggregation.aggregate_graph(predicted_graph, repo, configuration.AggregatorConfig(**options))
    shared.last_words(done.lines(), next_commands.after_aggregation(command, repo, done))


@main.command("create")
@click.argument("repo")
@click.option("--db", "database_url", metavar="URL", help="Database [default: a SQLite file in REPO].")
@click.option("--namespace", help="Schema of the database for the tables; PostgreSQL only.")
@click.option(
    "--dimension-config", "dimension_path", metavar="FILE",
    help="YAML or JSON file with the dimension universe [default: one for synthetic runs].",
)  # fmt: skip
def create(repo: str, database_url: str | None, namespace: str | None, dimension_path: str | None) -> None:
    """Make an empty repository in the directory REPO."""
    creation = shared.import_single_threaded("aggregator.butler.creation")
    dimensions = None
    if dimension_path is not None:
        dimensions = shared.import_single_threaded("aggregator.butler.configuration.yaml_files").read(
            dimension_path
        )
    creation.create_repository(
        repo, database_url=database_url, namespace=namespace, dimension_config=dimensions
    )


@main.command("synthesize")
@click.argument("out")
@click.option("--quanta", type=click.IntRange(min=1), required=True, help="Number of quanta.")
@click.option(
    "-j", "--processes", "n_processes", type=click.IntRange(min=1), default=1, show_default=True,
    help="Number of processes.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of all content.")
@click.option("--small-files", is_flag=True, help="Logs and metadata of 2.6 kB, unless given otherwise.")
@click.option("--log-size", type=int, default=None, help="Mean size of logs in bytes [default: 22000].")
@click.option(
    "--metadata-size", type=int, default=None, help="Mean size of metadata in bytes [default: 7000]."
)  # fmt: skip
@click.option(
    "--output-size", type=int, default=0, show_default=True, help="Size of other outputs in bytes."
)  # fmt: skip
@click.option("--failed", type=float, default=0.004, show_default=True, help="Share of quanta that fail.")
@click.option(
    "--blocked", type=float, default=0.01, show_default=True, help="Share of quanta below failed ones."
)  # fmt: skip
@click.option("--retried", type=float, default=0.02, show_default=True, help="Share that fails at first.")
@click.option(
    "--caveats", type=float, default=0.02, show_default=True, help="Share that succeeds with caveats."
)  # fmt: skip
@click.option(
    "--aborted", type=float, default=0.003, show_default=True, help="Share without log, metadata, or both."
)  # fmt: skip
@click.option(
    "--corrupt", type=float, default=0.0, show_default=True, help="Share with an unreadable file."
)  # fmt: skip
@click.option("--db", "database", metavar="URL", help="Database [default: a SQLite file in OUT].")
@click.option("--namespace", help="Schema of the database for the tables; PostgreSQL only.")
@shared.bar_option
@click.option(
    "-@", "--options-file", expose_value=False, is_eager=True, callback=_load_options_file,
    help="YAML file with defaults of these options, in a section named after the command.",
)  # fmt: skip
@click.pass_obj
def synthesize(
    command: next_commands.Command,
    /,
    out: str,
    n_processes: int,
    small_files: bool,
    interactive_status: bool | None,
    **options: Any,
) -> None:
    """Make an executed run without executing it: repository, predicted graph, and all files, in OUT."""
    parameters = shared.import_single_threaded("aggregator.synthesis.parameters")
    campaign = shared.import_single_threaded("aggregator.synthesis.campaign")
    given = {name: value for name, value in options.items() if value is not None}
    sizes = parameters.SMALL if small_files else {}
    asked = parameters.Parameters(**{**sizes, **given})
    done = campaign.synthesize(out, asked, n_processes=n_processes, interactive=interactive_status)
    text = command.other("aggregate-graph", done.predicted, done.root, "-o", "provenance.qg", "-j", "2")
    shared.last_words(done.lines(), [next_commands.Next(text, "to aggregate it")])


@main.command("status")
@click.argument("path", metavar="CHECKPOINT|GRAPH")
def status(path: str) -> None:
    """Tell how far an aggregation is: what a checkpoint holds, or the one beside a graph, and who uses it."""
    terminal.tell(shared.import_single_threaded("aggregator.aggregation.checkpoint_status").describe(path))


if __name__ == "__main__":
    main()
