"""The command ``run-quanta``."""

import uuid
from typing import Any

import click

from aggregator.command_line import execution_options, invocations, options
from aggregator.storage import errors, local_files


@click.command("run-quanta")
@options.path("predicted_graph")
@options.path("repo")
@click.option(
    "--quantum", "quanta", multiple=True, metavar="ID[,ID...]", help="Ids of quanta; may be repeated."
)
@click.option("--quantum-file", type=options.PATH, metavar="FILE", help="File with ids, one a line or more.")
@click.option(
    "--continue-on-failure", is_flag=True,
    help="Exit with 0 although quanta have failed: each failure is on record, and dependants are blocked.",
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
    continue_on_failure: bool,
    **fields: Any,
) -> None:
    """Execute some quanta of PREDICTED_GRAPH, for a job of a batch system; init-run comes before.

    A quantum is executed only if each one before it in the graph, of this job or another, has left metadata.
    """
    texts = [text for each in quanta for text in each.split(",")]
    if quantum_file is not None:
        texts += _read(quantum_file).replace(",", " ").split()
    ids = {_parse(text) for text in texts if text}
    if not ids:
        raise click.UsageError("Give the quanta with --quantum or --quantum-file.")
    execution_options.execute(invocation, predicted_graph, repo, fields, ids, continue_on_failure)


def _read(path: str) -> str:
    try:
        return local_files.read(path).decode()
    except (OSError, local_files.UnusableError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(f"{path}: can't read the ids of quanta ({exc}).") from exc


def _parse(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as exc:
        raise errors.RefusedError(f"{text!r} is no id of a quantum.") from exc
