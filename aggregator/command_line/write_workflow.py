"""The command ``write-workflow``."""

import os
import shlex
import sys
from typing import Any

import click

from aggregator.command_line import invocations, next_commands, options
from aggregator.console import terminal
from aggregator.execution.workflows import workflow
from aggregator.running import workflow_request

_resources = options.Fields(workflow.Resources)


def _memories(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[int, dict[str, int]]:
    """Return the memory of all jobs, and that of single tasks."""
    common, memories = int(_resources.default("memory")), {}
    for text in given:
        label, _, number = text.rpartition("=")
        if not number.isdigit() or not int(number):
            raise click.BadParameter(f"{text}: is no number of megabytes", context, parameter)
        if label:
            memories[label] = int(number)
        else:
            common = int(number)
    return common, memories


@click.command("write-workflow")
@options.path("predicted_graph")
@options.path("repo")
@click.option(
    "--for", "system", type=click.Choice(workflow_request.SYSTEMS), required=True, help="Batch system."
)
@click.option(
    "-o", "--output", "directory", type=options.PATH, metavar="DIR", required=True,
    help="Directory for the workflow, new or empty.",
)  # fmt: skip
@click.option(
    "--cluster", "clusters", multiple=True, metavar="TASK[,TASK...][:DIMENSION[,...]]",
    help="Quanta of these tasks that agree in these dimensions share a job; may be repeated [default: one "
    "quantum a job].",
)  # fmt: skip
@click.option(
    "--exact", "is_exact", is_flag=True,
    help="For Slurm: each job waits only for those that it needs; for some thousand jobs at most [default: "
    "arrays of jobs, which wait for arrays].",
)  # fmt: skip
@click.option(
    "--provenance", type=options.PATH, metavar="FILE",
    help="Provenance graph that the final job makes [default: provenance.qg in DIR].",
)  # fmt: skip
@click.option(
    "--memory", multiple=True, metavar="[TASK=]MB", callback=_memories,
    help="Megabytes of a job, or of those with quanta of a task; may be repeated [default: 2048].",
)  # fmt: skip
@_resources.option(
    "--max-memory", type=click.IntRange(min=1),
    help="Megabytes that no job asks for more than, after too little (HTCondor).",
)  # fmt: skip
@_resources.option(
    "--retries", type=click.IntRange(min=0), help="Attempts of a job after the first (HTCondor)."
)
@_resources.option(
    "-j", "--processes", "final_processes", type=click.IntRange(min=1),
    help="Processes and processors of the final job.",
)  # fmt: skip
@_resources.option("--final-memory", type=click.IntRange(min=1), help="Megabytes of the final job.")
@options.defaults_file
@click.pass_obj
def write_workflow(
    invocation: invocations.Invocation,
    /,
    predicted_graph: str,
    repo: str,
    directory: str,
    system: str,
    clusters: tuple[str, ...],
    is_exact: bool,
    provenance: str | None,
    memory: tuple[int, dict[str, int]],
    **fields: Any,
) -> None:
    """Write a workflow that executes PREDICTED_GRAPH in a batch system: init, quanta, aggregation.

    All jobs have to see DIR, the graph, the repository and this program at the same paths.
    """
    resources = workflow.Resources(memory=memory[0], memories=memory[1], **fields)
    config = workflow_request.WorkflowConfig(system, clusters, is_exact, provenance, resources)
    program = (sys.executable, "-P", "-m", "aggregator")
    written = workflow_request.write(predicted_graph, repo, directory, program, config)
    terminal.tell([*written.lines(), *next_commands.lines(_following(invocation, written))])


def _following(
    invocation: invocations.Invocation, written: workflow_request.WrittenWorkflow
) -> list[next_commands.Next]:
    directory = written.directory
    if written.system == workflow_request.SLURM:
        return [next_commands.Next(shlex.quote(os.path.join(directory, "submit.sh")), "to submit it")]
    here = invocation.command.other("run-workflow", directory, "-j", "2")
    return [
        next_commands.Next(f"cd {shlex.quote(directory)} && condor_submit_dag workflow.dag", "to submit it"),
        next_commands.Next(here, "to try it out here"),
    ]
