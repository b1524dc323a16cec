"""Workflows of shell scripts, to see what is run, in which order, and how often."""

from __future__ import annotations

import pathlib

from aggregator.schemas import output_paths

from aggregator.running import workflow_directory

_SUBMIT = """\
executable = /bin/sh
arguments = "-c '{script}' $(job_name)"
output = logs/$(job_name).$(Cluster).out
error = logs/$(job_name).$(Cluster).err
{lines}queue
"""

FINAL = """\
FINAL last last.sub
VARS last job_name="last"
SCRIPT POST last post.sh $DAG_STATUS $RETURN $FAILED_COUNT
"""
"""A last node that tells of itself, and whose script after it tells what it was told."""

_SCRIPTS = {
    "post.sh": '#!/bin/sh\necho $* >> post\n[ "$1" -ne 2 ] || exit "$1"\nexit "$2"\n',
    "pre.sh": '#!/bin/sh\necho "pre $*" >> order\n[ "$2" -ge 2 ]\n',
}


def nodes(names: str) -> str:
    """Return the lines of nodes with names of one letter."""
    return "".join(f'JOB {name} job.sub\nVARS {name} job_name="{name}"\n' for name in names)


def make(directory: pathlib.Path, dag: str, *, script: str = "true", lines: str = "") -> pathlib.Path:
    """Make a workflow.

    Parameters
    ----------
    directory
        Where it goes.
    dag
        The DAG.
    script
        What each node does, but for the last one; its first argument is the node's name.
    lines
        Other lines of the submit file.
    """
    files = {
        "job.sub": _SUBMIT.format(script=script, lines=lines),
        "last.sub": _SUBMIT.format(script="echo $0 >> order", lines=""),
        **_SCRIPTS,
        "workflow.dag": dag,
    }
    workflow_directory.check(str(directory), output_paths.Protection())
    workflow_directory.write(str(directory), "htcondor", files.items(), _SCRIPTS)
    return directory


def told(path: pathlib.Path) -> list[str]:
    """Return the lines of a file that scripts have written."""
    return path.read_text().splitlines() if path.exists() else []
