"""The command ``run-quanta``."""

from typing import Any

import click

from aggregator.command_line import execution_options, invocations, options, quantum_options


@click.command("run-quanta")
@options.path("predicted_graph")
@options.path("repo")
@quantum_options.quanta
@click.option(
    "--continue-on-failure", is_flag=True,
    help="Exit with 0 although quanta have failed: each failure is on record, and dependants are blocked. "
    "With 1 if processes were killed (SIGKILL): more memory may help.",
)  # fmt: skip
@execution_options.execution
@click.pass_obj
def run_quanta(
    invocation: invocations.Invocation,
    /,
    predicted_graph: str,
    repo: str,
    quanta: tuple[str, ...],
    quantum_file: str | None,
    line: int | None,
    continue_on_failure: bool,
    **fields: Any,
) -> None:
    """Execute some quanta of PREDICTED_GRAPH, for a job of a batch system; init-run comes before.

    A quantum is executed only if each one before it in the graph, of this job or another, has left metadata.
    """
    ids = quantum_options.ids(quanta, quantum_file, line)
    if not ids:
        raise click.UsageError("Give the quanta with --quantum or --quantum-file.")
    execution_options.execute(invocation, predicted_graph, repo, fields, ids, continue_on_failure)
