"""Options of the commands that bring datasets from one repository to another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from aggregator.butler.transfers import transfer_policies
from aggregator.command_line import invocations, next_commands, options
from aggregator.transfer import transfer_config, transfer_report
from aggregator.workers.engines import thread_pools


def _policy(fields: options.Fields, name: str, text: str, *names: str) -> options.Decorator:
    """Return the option of a policy."""
    return fields.option(
        *(names or (f"--{name.replace('_', '-')}",)),
        name,
        type=click.Choice(transfer_policies.CHOICES[name]),
        help=text,
    )


def _split(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return names one by one that may be given with commas between them."""
    return tuple(name for each in given for name in each.split(",") if name)


def selection(ids_option: str) -> options.Decorator:
    """Return what adds the options that say which datasets are wanted; see `chosen`.

    Parameters
    ----------
    ids_option
        Name of the option for a file with ids.
    """
    return lambda command: _all(
        command,
        [
            click.option(
                "-c",
                "--collections",
                multiple=True,
                metavar="GLOB",
                callback=_split,
                help="Collections, or patterns for them; of chains, all that is in them. May be repeated.",
            ),
            click.option(
                "-d",
                "--dataset-type",
                "dataset_types",
                multiple=True,
                metavar="GLOB",
                callback=_split,
                help="Only these dataset types, or patterns for them. May be repeated.",
            ),
            click.option(
                "--where",
                default="",
                metavar="EXPRESSION",
                help="Only data IDs for which this is true: \"instrument = 'Cam' AND visit IN (1..9)\". "
                "Types that lack its dimensions are left out.",
            ),
            click.option(
                "--find-first",
                is_flag=True,
                help="Only the first dataset of each type and data ID, in the order of the collections.",
            ),
            click.option(
                ids_option,
                "ids_path",
                type=options.PATH,
                metavar="FILE",
                help="Besides, the datasets whose ids this file has, one a line; - for standard input.",
            ),
            click.option(
                "--graph",
                "graph_path",
                type=options.PATH,
                metavar="FILE",
                help="Besides, the datasets of this graph, predicted or provenance: all of them, or those "
                "that --inputs, --outputs and --init-outputs name.",
            ),
            click.option("--inputs", is_flag=True, help="Of --graph: overall inputs."),
            click.option(
                "--outputs",
                is_flag=True,
                help="Of --graph: run and types of the outputs of quanta, and those that exist.",
            ),
            click.option("--init-outputs", is_flag=True, help="Of --graph: the same of init outputs."),
        ],
    )


def chosen(fields: dict[str, Any]) -> Any:
    """Return the selection that was asked for, and take its options out of all of them.

    Raises
    ------
    UsageError
        If nothing is selected.
    """
    selections = thread_pools.import_module("aggregator.butler.transfers.dataset_selection")
    id_lists = thread_pools.import_module("aggregator.transfer.id_lists")
    path = fields.pop("ids_path")
    ids = () if path is None else id_lists.read(path, sys.stdin.buffer)
    names = ("collections", "dataset_types", "where", "find_first")
    wanted = selections.Selection(*map(fields.pop, names), ids)
    graph_path = fields.pop("graph_path")
    parts = {name: fields.pop(name) for name in ("inputs", "outputs", "init_outputs")}
    if graph_path is not None:
        graph_selection = thread_pools.import_module("aggregator.transfer.graph_selection")
        return graph_selection.select(wanted, graph_path, **parts)
    if any(parts.values()):
        raise click.UsageError("--inputs, --outputs and --init-outputs need --graph.")
    if not (wanted.has_query or ids):
        raise click.UsageError(
            "Say what is wanted: --collections, --dataset-type, --where, --graph, or a file with ids."
        )
    return wanted


def tell(invocation: invocations.Invocation, report: transfer_report.TransferReport) -> None:
    """Print what was done, and what may come next."""
    following = []
    if report.dry_run:
        following = [next_commands.Next(invocation.command.again(without="--dry-run"), "to do it")]
    invocation.last_words(report, following)


def transfer(config: type) -> options.Decorator:
    """Return what adds the options that become fields of a `TransferConfig`, and those of all commands."""
    fields = options.Fields(config)
    return lambda command: _all(
        command,
        [
            fields.option(
                "--registry",
                type=click.Choice(transfer_config.REGISTRIES),
                help="How much of the database comes along: what the datasets need; or all dataset types, "
                "tags, and chains that have their runs, too.",
            ),
            fields.option(
                "--lineage",
                metavar="up|down[:DEPTH]",
                help="Besides, what the datasets came from, or what came of them, over that many quanta, as "
                "provenance graphs of the repository tell.",
            ),
            fields.option(
                "--all-dataset-types", is_flag=True, help="Register all dataset types of the source."
            ),
            _policy(
                fields,
                "files",
                "What becomes of files; auto links within a file system, and copies otherwise.",
            ),
            fields.option(
                "-j",
                "--jobs",
                "jobs",
                type=click.IntRange(min=1),
                help="Files that are copied at a time; by default one, or as many as suit an object store.",
            ),
            fields.option(
                "--root-map",
                multiple=True,
                metavar="OLD=NEW",
                help="Where DESTINATION sees a directory of SOURCE, with --files in-place. May be repeated.",
            ),
            fields.option(
                "--manifest",
                "manifest_path",
                type=options.PATH,
                metavar="FILE",
                help="List what another system has to bring, with --files manifest; compressed if its "
                "name ends with .zst.",
            ),
            _policy(
                fields,
                "manifest_format",
                "List it as JSON documents, or as a table (CSV) that begins with from, to, size.",
            ),
            _policy(
                fields,
                "graphs",
                "Bring whole provenance graphs; or just the part of them whose logs and metadata are "
                "selected; or none, and logs, metadata and configs as files of their own.",
            ),
            _policy(fields, "on_conflict", "When there is another dataset of a type, run and data ID."),
            _policy(
                fields,
                "on_dimension_conflict",
                "When a dimension record is there with other values; keep those, or fail.",
            ),
            _policy(fields, "storage_class", "When a dataset type has another storage class."),
            _policy(fields, "chains", "When a chain has other children."),
            _policy(fields, "on_tag_conflict", "When a tag holds another dataset of a type and data ID."),
            _policy(
                fields, "on_certification_conflict", "When another dataset is valid at some of the time."
            ),
            _policy(
                fields,
                "missing",
                "When a file is recorded, and not there: fail, leave the dataset out, or add it without.",
            ),
            fields.option(
                "--trust",
                is_flag=True,
                help="Bring files of SOURCE, too, that it has not recorded, where its templates put them.",
            ),
            fields.option(
                "--allow-delete",
                is_flag=True,
                help="Let --on-conflict newest delete older datasets of the destination, with their files.",
            ),
            fields.option(
                "--overwrite-orphans", is_flag=True, help="Replace other files that no record refers to."
            ),
            fields.option(
                "--verify-files",
                is_flag=True,
                help="Look whether the files of datasets that are there are, too.",
            ),
            options.database,
            options.namespace,
            fields.option(
                "--conflicts-file",
                "conflicts_path",
                type=options.PATH,
                metavar="FILE",
                help="Write all that stands in the way there, a JSON document a line.",
            ),
            fields.option(
                "--dry-run", is_flag=True, help="Tell what would be done, and what stands in the way."
            ),
            options.progress,
            options.summary,
            options.metrics,
            options.instance_credentials,
            options.defaults_file,
        ],
    )


def _all(command: Callable[..., Any], some: list[Callable[..., Any]]) -> Callable[..., Any]:
    for option in reversed(some):
        command = option(command)
    return command
