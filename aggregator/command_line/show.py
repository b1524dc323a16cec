"""The command `aggregator show`."""

from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.console import terminal
from aggregator.workers.engines import thread_pools

_VIEWS = ("logs", "metadata", "upstream", "downstream")
_CHOICES = ("quantum_id", "node_id", "dataset", "task", "why", "failed")


@click.command("show")
@options.path("graph_or_repo", metavar="GRAPH|REPO")
@click.argument("run", required=False)
@click.option("--quantum", "quantum_id", metavar="ID", help="The quantum with this id.")
@click.option(
    "--id", "node_id", metavar="ID",
    help="The quantum or dataset that has this id or, in a graph that was merged, had it before.",
)  # fmt: skip
@click.option(
    "--dataset", metavar="ID|TYPE", help="The dataset with this id, or those of this type; see --data-id."
)
@click.option("--task", metavar="LABEL", help="The quanta of this task; see --data-id.")
@click.option(
    "--data-id", metavar="TEXT",
    help='Only those with these values, as in "visit=102 AND detector=5"; any part of the data ID will do.',
)  # fmt: skip
@click.option(
    "--why", metavar="ID|TYPE",
    help="What happened to this dataset (a type needs --data-id): produced, or why not.",
)  # fmt: skip
@click.option(
    "--failed", is_flag=True,
    help="What did not succeed, with exceptions, logs, and the first cause of what is blocked; "
    "of all tasks, or of --task.",
)  # fmt: skip
@click.option(
    "--logs", is_flag=True, help="Log records of the quantum, or of the one that writes the dataset."
)
@click.option("--metadata", is_flag=True, help="Task metadata of that quantum.")
@click.option(
    "--attempt",
    type=click.IntRange(min=0, max=2**31 - 1),
    help="Attempt for --logs and --metadata [default: last].",
)  # fmt: skip
@click.option("--upstream", is_flag=True, help="What it came from.")
@click.option("--downstream", is_flag=True, help="What came of it, or was to come.")
@click.option(
    "--depth", type=click.IntRange(min=1, max=2**31 - 1),
    help="Steps for --upstream and --downstream, from a quantum to a dataset or back [default: all].",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=0, max=2**31 - 1),
    help="Lines of lists, newest of logs; 0 for all [default: 50 in tables, all in JSON].",
)  # fmt: skip
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True,
    help="Text for people, or JSON.",
)  # fmt: skip
@options.instance_credentials
@options.defaults_file
@click.pass_obj
def show(invocation: invocations.Invocation, /, graph_or_repo: str, run: str | None, **chosen: Any) -> None:
    """Tell what a provenance graph knows.

    GRAPH is a provenance graph. REPO is a repository in which one was ingested: its directory, its
    configuration, or its alias; RUN is then the run, or a chain, and needed if several runs have a graph.

    Without options, what is in the graph: the run, and how many quanta of each task succeeded. Otherwise
    choose a quantum, datasets or a task, and perhaps what shall be shown of them:

    \b
      aggregator show GRAPH --task isr --data-id "visit=102 AND detector=5" --logs
      aggregator show GRAPH --why calexp --data-id "visit=102, detector=5"
      aggregator show REPO u/me/run --failed --format json
    """
    _check(chosen)
    module = thread_pools.import_module("aggregator.show.answer")
    reading = thread_pools.import_module("aggregator.reading.provenance")
    request = thread_pools.import_module("aggregator.show.question").Request(**chosen)
    with reading.Provenance(graph_or_repo, run) as provenance:
        output = terminal.Output()
        module.Answer(provenance, request, output).run()
        output.flush()
    if not any(chosen[name] for name in _CHOICES) and chosen["output_format"] == "table":
        place = [graph_or_repo, *([run] if run else [])]
        invocation.hint(next_commands.after_graph(invocation.command, *place, failures=True))


def _check(given: dict[str, Any]) -> None:
    """Refuse options that mean nothing together."""
    chosen = [name for name in _CHOICES if given[name]]
    if chosen == ["task", "failed"]:
        chosen = ["failed"]
    names = {"quantum_id": "--quantum", "node_id": "--id", **{name: f"--{name}" for name in _CHOICES[2:]}}
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(names[name] for name in chosen)} can't be combined.")
    choice = chosen[0] if chosen else None
    if given["data_id"] is not None and (
        choice in (None, "quantum_id", "node_id") or (given["failed"] and not given["task"])
    ):
        raise click.UsageError("--data-id needs --task, or a dataset type with --dataset or --why.")
    views = [f"--{name}" for name in _VIEWS if given[name]]
    if views and choice not in ("quantum_id", "node_id", "dataset", "task"):
        raise click.UsageError(f"{views[0]} needs --quantum, --id, --dataset or --task.")
    if given["attempt"] is not None and not (given["logs"] or given["metadata"]):
        raise click.UsageError("--attempt needs --logs or --metadata.")
    if given["depth"] is not None and not (given["upstream"] or given["downstream"]):
        raise click.UsageError("--depth needs --upstream or --downstream.")
