"""What is wrong with a DAG and its files, of which HTCondor itself notices little before jobs run."""

from __future__ import annotations

import graphlib
import os
from collections.abc import Iterator, Mapping

from aggregator.execution.workflows import dag_files, submit_files
from aggregator.storage import local_files


def find(
    dag: dag_files.Dag, directory: str
) -> tuple[Mapping[str, submit_files.Submit], list[dag_files.Fault]]:
    """Return all submit files of a DAG, and what is wrong with its structure and with files.

    Parameters
    ----------
    dag
        The DAG.
    directory
        Where its files are.
    """
    faults = list(_circles(dag))
    submits: dict[str, submit_files.Submit] = {}
    nodes = [*dag.nodes.values(), *([dag.final] if dag.final else [])]
    if not nodes:
        faults.append(dag_files.Fault("the DAG", "has no nodes"))
    for path in dict.fromkeys(node.submit for node in nodes):
        try:
            submits[path] = submit_files.read(local_files.read(os.path.join(directory, path)).decode())
        except (OSError, local_files.UnusableError) as exc:
            faults.append(dag_files.Fault(path, f"can't be read ({local_files.reason(exc)})"))
        except ValueError as exc:
            faults.append(dag_files.Fault(path, str(exc)))
    for script in dict.fromkeys(command[0] for node in nodes for command in (node.pre, node.post) if command):
        if not os.access(os.path.join(directory, script), os.X_OK):
            faults.append(dag_files.Fault(script, "is no program"))
    return submits, faults


def _circles(dag: dag_files.Dag) -> Iterator[dag_files.Fault]:
    parents: dict[str, set[str]] = {name: set() for name in dag.nodes}
    for parent, child in dag.edges:
        parents[child].add(parent)
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as exc:
        yield dag_files.Fault("the DAG", f"nodes need each other in a circle: {' '.join(exc.args[1])}")
