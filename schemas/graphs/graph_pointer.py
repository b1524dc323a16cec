"""A file in a run's directory that tells where the run's ingested provenance graph is.

The database knows, but jobs that execute quanta do not ask it, since thousands of them may begin at a time.
It is needed where the name of the graph's file can't be told from that of the run.
"""

from __future__ import annotations

import msgspec

_FORMAT = "aggregator-graph-pointer"

_NAME = ".provenance_graph.json"


class GraphPointer(msgspec.Struct, frozen=True):
    """What the file tells."""

    graph: str
    """Path of the graph relative to the datastore's root, or its URI."""

    format: str = _FORMAT
    """What the file is."""


def key(directory: str) -> str:
    """Return where the file is, relative to the datastore's root as is the directory of a run."""
    return f"{directory}/{_NAME}"


def encode(graph: str) -> bytes:
    """Return the content of the file for a graph."""
    return msgspec.json.encode(GraphPointer(graph)) + b"\n"


def decode(content: bytes) -> str | None:
    """Return the graph that a file tells of; nothing if it does not tell."""
    try:
        pointer = msgspec.json.decode(content, type=GraphPointer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return pointer.graph if pointer.format == _FORMAT and pointer.graph else None
