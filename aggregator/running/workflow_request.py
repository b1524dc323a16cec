"""Makes the workflow of a predicted graph, and writes it for a batch system."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable

from aggregator import repository_files
from aggregator.aggregation import aggregation_request, configuration, preparation
from aggregator.execution import graph_context, graph_quanta
from aggregator.execution.workflows import clusters, condor_workflow, slurm_workflow, workflow
from aggregator.running import workflow_directory
from aggregator.schemas import output_kinds
from aggregator.storage import errors, uris

_log = logging.getLogger(__name__)

HTCONDOR = "htcondor"
SLURM = "slurm"
SYSTEMS = (HTCONDOR, SLURM)
"""Batch systems for which there are workflows."""

_PROGRAMS = frozenset({condor_workflow.POST, slurm_workflow.SUBMIT})
_PROVENANCE = "provenance.qg"


@dataclasses.dataclass(frozen=True, slots=True)
class WorkflowConfig:
    """Options of a workflow."""

    system: str = HTCONDOR
    """Batch system."""

    clusters: tuple[str, ...] = ()
    """Which quanta share a job; see `clusters.definition`."""

    is_exact: bool = False
    """For Slurm: whether each job waits only for those that it needs."""

    provenance: str | None = None
    """The provenance graph; by default in the directory of the workflow."""

    resources: workflow.Resources = dataclasses.field(default_factory=workflow.Resources)
    """What jobs ask for."""


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenWorkflow:
    """What was written."""

    directory: str
    """Where it is."""

    system: str
    """Batch system that it is for."""

    is_new: bool
    """Whether it was not there before."""

    n_quanta: int
    """Quanta."""

    n_jobs: int
    """Jobs that execute them."""

    def lines(self) -> list[str]:
        """Return it as text."""
        is_there = "was written to" if self.is_new else "is there already:"
        counts = f"{self.n_quanta} quanta in {self.n_jobs} jobs"
        return [f"A workflow for {self.system} {is_there} {self.directory}: {counts}"]


def write(
    graph_path: str, repository: str, directory: str, program: Iterable[str], config: WorkflowConfig
) -> WrittenWorkflow:
    """Write the workflow of a predicted graph.

    Parameters
    ----------
    graph_path
        The predicted graph.
    repository
        The repository.
    directory
        Where the workflow goes: a new directory, or an empty one.
    program
        Words that call the command line.
    config
        Options.

    Raises
    ------
    RefusedError
        If graph, repository or directory are not what they should be, or options do not fit to the graph.
    AggregatorError
        If something can't be written.
    """
    directory = os.path.abspath(directory)
    if config.is_exact and config.system != SLURM:
        raise errors.RefusedError(f"Jobs for {config.system} always wait only for those that they need.")
    with graph_context.GraphContext(graph_path, repository) as context, errors.explained():
        protection = repository_files.protection(context.config, context.graph.header.output_run)
        workflow_directory.check(directory, protection)
        jobs = _workflow(context, directory, tuple(program), config)
    jobs.check()
    if config.system == SLURM:
        files = slurm_workflow.files(jobs, is_exact=config.is_exact)
    else:
        files = condor_workflow.files(jobs)
    _check_provenance(jobs.provenance, directory)
    is_elsewhere = os.path.dirname(jobs.provenance) != directory
    _rehearse(graph_path, repository, jobs.provenance if is_elsewhere else None)
    is_new = workflow_directory.write(directory, config.system, files, _PROGRAMS)
    n_quanta = sum(len(cluster.quanta) for cluster in jobs.clusters)
    return WrittenWorkflow(directory, config.system, is_new, n_quanta, len(jobs.clusters))


def _check_provenance(provenance: str, directory: str) -> None:
    """Refuse to have the provenance graph in the place of something that belongs to the workflow.

    Of that nothing has the extension of graphs.
    """
    output_kinds.check_name(provenance, output_kinds.Kind.GRAPH)
    place = os.path.dirname(provenance)
    if place.startswith(os.path.join(directory, "")):
        raise errors.RefusedError(f"{provenance}: is in the workflow. Choose another path, or {directory}.")


def _rehearse(graph_path: str, repository: str, provenance: str | None) -> None:
    """Refuse what the last job would be refused, when days have passed."""
    nothing_kept = configuration.AggregatorConfig(output_path=provenance, checkpoint=False)
    try:
        with aggregation_request.check(graph_path, repository, nothing_kept) as request:
            preparation.rehearse(request)
    except errors.RefusedError:
        raise
    except errors.AggregatorError as exc:
        _log.warning("Whether the last job will be able to aggregate can't be seen from here: %s", exc)


def _workflow(
    context: graph_context.GraphContext, directory: str, program: tuple[str, ...], config: WorkflowConfig
) -> workflow.Workflow:
    definitions = [clusters.definition(text) for text in config.clusters]
    clusters.check(definitions, context.definitions)
    clusters.check([clusters.Definition(tuple(config.resources.memories), ())], context.definitions)
    members = clusters.make(graph_quanta.GraphQuanta(context), definitions)
    provenance = config.provenance or os.path.join(directory, _PROVENANCE)
    return workflow.Workflow(
        directory,
        program,
        uris.absolute(context.graph.path),
        context.config.path,
        uris.absolute(provenance),
        members,
        clusters.arrays(members),
        config.resources,
    )
