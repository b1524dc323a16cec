"""What to do next in a DAG, by the rules of DAGMan; what does it is elsewhere."""

from __future__ import annotations

import collections
import enum
from collections.abc import Collection, Iterator

from aggregator.execution.workflows import dag_files


class DagStatus(enum.IntEnum):
    """What scripts are told of the DAG (`$DAG_STATUS`)."""

    FINE = 0
    NODE_FAILED = 2
    ABORTED = 3


class DagSchedule:
    """Which nodes can run, and what became of the others.

    Parameters
    ----------
    dag
        The DAG, without faults.
    done
        Names of nodes that have succeeded before.
    """

    def __init__(self, dag: dag_files.Dag, done: Collection[str] = ()) -> None:
        self._dag = dag
        self._children: dict[str, list[str]] = {}
        self._left = dict.fromkeys(dag.nodes, 0)
        for parent, child in dag.edges:
            if parent not in done:
                self._children.setdefault(parent, []).append(child)
                self._left[child] += 1
        for name in done:
            self._left.pop(name, None)
        self._ready = collections.deque(name for name, n in self._left.items() if not n)
        self.tries: dict[str, int] = {}
        """Attempts of each node after the first."""
        self.failed: list[str] = []
        """Nodes that have failed."""
        self.result: int | None = None
        """What the DAG returns, if a node has ended it."""

    def ready(self) -> Iterator[dag_files.Node]:
        """Yield nodes that can run now; each has to be begun."""
        while self._ready and self.result is None:
            yield self._dag.nodes[self._ready.popleft()]

    def finish(self, name: str, code: int) -> bool:
        """Take note of the code with which a node has ended; return whether it has succeeded."""
        node = self._dag.nodes[name]
        if node.abort is not None and node.abort.code == code:
            self.result = node.abort.result
        if not code:
            for child in self._children.get(name, ()):
                if child in self._left:
                    self._left[child] -= 1
                    if not self._left[child]:
                        self._ready.append(child)
            return True
        tries = self.tries.get(name, 0)
        if self.result is None and tries < node.retries and code != node.unless_exit:
            self.tries[name] = tries + 1
            self._ready.append(name)
        else:
            self.failed.append(name)
        return False

    @property
    def status(self) -> DagStatus:
        """What is to be told of the DAG when nothing can run any more."""
        if self.result is not None:
            return DagStatus.ABORTED
        return DagStatus.NODE_FAILED if self.failed else DagStatus.FINE
