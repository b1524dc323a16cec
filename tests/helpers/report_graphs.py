"""Provenance graphs like the sample's, with other quanta, to make reports on."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Callable
from typing import Any

from tests.helpers import graph_files

Quantum = dict[str, Any]


def alter(
    source: pathlib.Path, target: pathlib.Path, change: Callable[[list[Quantum]], list[Quantum]]
) -> pathlib.Path:
    """Write a graph with other quanta.

    Parameters
    ----------
    source
        The graph to begin with.
    target
        Where to write.
    change
        What makes the new quanta, as the JSON documents of their blocks, from the old ones.
    """
    members = graph_files.members(source)
    dictionary = members.get("compression_dict", b"")
    quanta = change(graph_files.blocks(members, "quanta"))
    frames = [graph_files.compress(quantum, dictionary) for quantum in quanta]
    members["quanta.mb"], places = graph_files.join(frames)
    found = {uuid.UUID(q["quantum_id"]).bytes: place for q, place in zip(quanta, places, strict=True)}
    rows = _rows(members["nodes.addr"], found)
    members["nodes.addr"] = graph_files.address_file(rows, 8, 4)
    header = graph_files.single(members, "header")
    header["n_quanta"] = len(quanta)
    counts = dict.fromkeys(header["n_task_quanta"], 0)
    for quantum in quanta:
        counts[quantum["task_label"]] += 1
    header["n_task_quanta"] = counts
    members["header.json.zst"] = graph_files.compress(header, dictionary)
    return graph_files.pack(target, members)


def _rows(
    data: bytes, quanta: dict[bytes, tuple[int, int]]
) -> list[tuple[bytes, int, list[tuple[int, int]]]]:
    """Return the rows of an address file with 8-byte integers, with other places of quanta."""
    result = []
    for begin in range(17, len(data), 88):
        node = data[begin : begin + 16]
        numbers = [int.from_bytes(data[i : i + 8], "big") for i in range(begin + 24, begin + 88, 8)]
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        if places[1][1]:
            if node not in quanta:
                continue
            places[1] = quanta[node]
        result.append((node, len(result), places))
    known = {node for node, _, _ in result}
    result += [
        (node, 0, [(0, 0), place, (0, 0), (0, 0)]) for node, place in quanta.items() if node not in known
    ]
    return sorted(result)
