"""What a node of a graph came from, and what came of it."""

import collections
import dataclasses
from collections.abc import Callable, Iterator

from aggregator.schemas.graphs import nodes

Node = nodes.Quantum | nodes.InitQuantum | nodes.Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A node that a lineage leads to."""

    depth: int
    """Steps from the start to it; one step leads from a quantum to a dataset, or back."""

    node: Node
    """The quantum, init quantum or dataset."""

    via: str
    """Id of the node one step nearer to the start."""


def node_id(node: Node) -> str:
    """Return the id of a node."""
    return node.dataset_id if isinstance(node, nodes.Dataset) else node.quantum_id


def neighbours(node: Node, up: bool) -> list[str]:
    """Return the ids of the nodes one step up or down."""
    if isinstance(node, nodes.Dataset):
        if up:
            return [] if node.producer is None else [node.producer]
        return node.consumers
    connections = node.inputs if up else node.outputs
    ids: list[str] = []
    for connection_ids in connections.values():
        ids += [connection_ids] if isinstance(connection_ids, str) else connection_ids
    return ids


def walk(get: Callable[[str], Node], start: Node, up: bool, depth: int | None) -> Iterator[Step]:
    """Yield the nodes above or below a node, nearest first, each once; the start is none of them.

    Parameters
    ----------
    get
        Returns the node of an id.
    start
        Where to begin.
    up
        Whether to go to what it came from, otherwise to what came of it.
    depth
        Steps to go at most; as many as there are by default.
    """
    seen = {node_id(start)}
    queue = collections.deque([(start, 0)])
    while queue:
        node, steps = queue.popleft()
        if steps == depth:
            continue
        for each in neighbours(node, up):
            if each not in seen:
                seen.add(each)
                neighbour = get(each)
                yield Step(steps + 1, neighbour, node_id(node))
                queue.append((neighbour, steps + 1))
