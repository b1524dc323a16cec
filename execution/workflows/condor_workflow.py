"""A workflow as files for HTCondor: a DAG, and a submit file for the jobs of each kind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from aggregator.execution.workflows import clusters as clusters_module
from aggregator.execution.workflows import dag_files, submit_files, workflow

DAG = "workflow.dag"
"""The DAG's file."""

_INIT = "init"
_FINAL = "aggregate"
POST = "final_post.sh"
"""The script after the last node."""

_POST_SCRIPT = """\
#!/bin/sh
# A DAG whose last node has succeeded is a success; if a job has failed before, it shall be none.
# usage: final_post.sh DAG_STATUS RETURN
[ "$1" -eq 0 ] || exit "$1"
exit "$2"
"""

_FINAL_LINES = (
    "# An eviction interrupts it, and leaves it five minutes; it is matched again, and goes on.",
    "kill_sig = SIGTERM",
    "job_max_vacate_time = 300",
)


def files(jobs: workflow.Workflow) -> Iterator[tuple[str, str]]:
    """Yield path and content of each file; the one that is submitted is the last."""
    yield from jobs.id_files()
    resources = jobs.resources
    yield f"jobs/{_INIT}.sub", submit_files.write(submit_files.Job(jobs.init(), jobs.directory), resources)
    submits = _submits(jobs.arrays)
    for labels, path in submits.items():
        job = submit_files.Job(jobs.payload(), jobs.directory, True, resources.of(labels))
        yield path, submit_files.write(job, resources)
    log = os.path.join(jobs.directory, submit_files.LOG)
    final = submit_files.Job(
        jobs.final("--job-records", log),
        jobs.directory,
        False,
        resources.final_memory,
        resources.final_processes,
        _FINAL_LINES,
    )
    yield f"jobs/{_FINAL}.sub", submit_files.write(final, resources)
    yield POST, _POST_SCRIPT
    # The last job reads it, also where jobs are executed without HTCondor.
    yield submit_files.LOG, ""
    yield DAG, "".join(dag_files.write(_dag(jobs, submits)))


def _submits(arrays: Sequence[clusters_module.Array]) -> dict[tuple[str, ...], str]:
    """Return the submit files for clusters of the same tasks, by their labels."""
    kinds = list(dict.fromkeys(array.labels for array in arrays))
    return {
        labels: f"jobs/{clusters_module.name(number, len(str(len(kinds))), *labels)}.sub"
        for number, labels in enumerate(kinds, 1)
    }


def _dag(jobs: workflow.Workflow, submits: Mapping[tuple[str, ...], str]) -> dag_files.Dag:
    places = jobs.places()
    nodes = {_INIT: dag_files.Node(_INIT, f"jobs/{_INIT}.sub", {"job_name": _INIT})}
    edges = []
    for position, cluster in enumerate(jobs.clusters):
        place = places[position]
        macros = {"job_name": cluster.name, "quantum_file": place.file, "quantum_line": str(place.line)}
        nodes[cluster.name] = dag_files.Node(cluster.name, submits[cluster.labels], macros)
        parents = [jobs.clusters[each].name for each in cluster.parents] or [_INIT]
        edges += [(parent, cluster.name) for parent in parents]
    final = dag_files.Node(
        _FINAL,
        f"jobs/{_FINAL}.sub",
        {"job_name": _FINAL},
        post=(POST, "$DAG_STATUS", "$RETURN"),
    )
    return dag_files.Dag(nodes, tuple(edges), final)
