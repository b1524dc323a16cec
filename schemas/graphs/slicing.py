"""A part of a provenance graph as a graph of its own: some quanta, their datasets (transfer.md section 7.3).

All init quanta stay. What the quanta of the part read from others is an overall input of the part, and
relations to quanta outside of it are left out, as the middleware's reader takes whatever a block names for a
node.
"""

import collections
import dataclasses
import hashlib
import itertools
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, Final

import msgspec
import numpy as np
from aggregator.schemas.graphs import (
    addresses,
    block_places,
    blocks,
    container,
    nodes,
    origins,
    provenance_graph,
)

_LEVEL: Final = 3
"""Zstandard level of blocks that are written anew."""

_COPIED: Final = ("pipeline_graph", "packages", "init_quanta")
_SHARED: Final = (nodes.QUANTA, nodes.LOGS, nodes.METADATA)
"""Components whose blocks are copied as they are."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """Some nodes and their addresses."""

    ids: addresses.Ids
    """Sorted ids, shape (n,)."""

    offsets: addresses.Integers
    """Offsets in bytes, shape (n, components)."""

    sizes: addresses.Integers
    """Sizes in bytes, shape (n, components)."""


def write(graph: provenance_graph.ProvenanceGraph, quanta: addresses.Ids, stream: IO[bytes]) -> None:
    """Write a part of a graph; that it is one it does not tell.

    Parameters
    ----------
    graph
        The graph.
    quanta
        Sorted ids of the regular quanta of the part, shape (n,); others are not minded.
    stream
        Where to.

    Raises
    ------
    FormatError
        If a part of the graph is damaged.
    """
    codec = blocks.Codec(graph.archive.codec.dictionary, _LEVEL)
    int_size = graph.header.int_size
    rows = _rows(graph, quanta, nodes.QUANTA)
    chosen = list(_quanta(graph, rows))
    init_quanta = graph.init_quanta()
    datasets = _rows(graph, _datasets(chosen, init_quanta), nodes.DATASETS)
    inside = {quantum.quantum_id for quantum in chosen}
    inside.update(quantum.quantum_id for quantum in init_quanta)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        block_places.put(archive, container.DICTIONARY, codec.dictionary)
        header = _header(graph, chosen, len(datasets.ids))
        block_places.put(archive, container.single("header"), codec.compress(header))
        for name in map(container.single, _COPIED):
            if name in graph.archive:
                block_places.put(archive, name, graph.archive.read(name))
        places: list[block_places.Places] = [_write_datasets(archive, graph, codec, datasets, inside)]
        places += [_copy(archive, graph, rows, component) for component in _SHARED]
        with block_places.member(archive, nodes.ADDRESSES) as out:
            for piece in _addresses([rows, datasets], places, int_size):
                out.write(piece)
        if graph.origins:
            block_places.put(archive, origins.MEMBER, origins.encode(graph.origins))
        archive.comment = graph.archive.comment


def part(graph: provenance_graph.ProvenanceGraph, quanta: addresses.Ids) -> origins.Slice:
    """Return which part of a graph has some quanta."""
    digest = hashlib.blake2b(quanta.tobytes(), digest_size=16).hexdigest()
    return origins.Slice(len(quanta), graph.header.n_quanta, digest)


def quanta_of(graph: provenance_graph.ProvenanceGraph, datasets: addresses.Ids) -> addresses.Ids:
    """Return the sorted ids of the quanta whose logs or metadata some datasets, sorted by id, are."""
    found: dict[int, list[addresses.Integers]] = {nodes.LOGS: [], nodes.METADATA: []}
    for table in graph.address_rows():
        wanted = addresses.are_in(table.ids, datasets)
        for component, offsets in found.items():
            offsets.append(table.offsets[wanted & (table.sizes[:, component] > 0), component])
    places = {component: np.concatenate([np.zeros(0, "i8"), *some]) for component, some in found.items()}
    ids = [np.zeros(0, addresses.ID_TYPE)]
    for table in graph.address_rows():
        is_one = np.zeros(len(table.ids), dtype=bool)
        for component, some in places.items():
            is_one |= np.isin(table.offsets[:, component], some) & (table.sizes[:, component] > 0)
        ids.append(table.ids[is_one & (table.sizes[:, nodes.QUANTA] > 0)])
    return np.concatenate(ids)


def _rows(graph: provenance_graph.ProvenanceGraph, ids: addresses.Ids, component: int) -> _Rows:
    """Return those of some nodes, sorted by id, that have a block of a component."""
    parts = [(np.zeros(0, addresses.ID_TYPE), *2 * [np.zeros((0, len(nodes.COMPONENTS)), "i8")])]
    for table in graph.address_rows():
        keep = addresses.are_in(table.ids, ids) & (table.sizes[:, component] > 0)
        parts.append((table.ids[keep], table.offsets[keep], table.sizes[keep]))
    return _Rows(*map(np.concatenate, zip(*parts, strict=True)))


def _quanta(graph: provenance_graph.ProvenanceGraph, rows: _Rows) -> Iterator[nodes.Quantum]:
    order = np.argsort(rows.offsets[:, nodes.QUANTA])
    offsets, sizes = (each[order, nodes.QUANTA] for each in (rows.offsets, rows.sizes))
    return graph.read_blocks(nodes.QUANTA, offsets, sizes, nodes.decode_quantum)


def _datasets(quanta: Iterable[nodes.Quantum], init_quanta: Iterable[nodes.InitQuantum]) -> addresses.Ids:
    """Return the sorted ids of all datasets that some quanta read or write."""
    regular = (connections.values() for q in quanta for connections in (q.inputs, q.outputs))
    ids = {each for lists in regular for each in itertools.chain.from_iterable(lists)}
    ids.update(each for q in init_quanta for each in (*q.inputs.values(), *q.outputs.values()))
    return np.sort(addresses.parse_ids(list(ids)))


def _header(graph: provenance_graph.ProvenanceGraph, quanta: list[nodes.Quantum], n_datasets: int) -> bytes:
    header = msgspec.json.decode(graph.archive.read_block("header"))
    counts = collections.Counter(quantum.task_label for quantum in quanta)
    header["n_quanta"] = len(quanta)
    header["n_task_quanta"] = {label: counts[label] for label in graph.header.n_task_quanta}
    # The `packages` are counted, though no graph tells of them.
    header["n_datasets"] = n_datasets + 1
    return msgspec.json.encode(header)


def _write_datasets(
    archive: zipfile.ZipFile,
    graph: provenance_graph.ProvenanceGraph,
    codec: blocks.Codec,
    rows: _Rows,
    inside: set[str],
) -> block_places.Places:
    """Write the blocks of datasets without relations to other quanta."""
    order = np.argsort(rows.offsets[:, nodes.DATASETS])
    old, sizes = rows.offsets[order, nodes.DATASETS], rows.sizes[order, nodes.DATASETS]
    written = []
    with block_places.member(archive, f"{nodes.COMPONENTS[nodes.DATASETS]}.mb") as out:
        for whole in graph.read_blocks(nodes.DATASETS, old, sizes, nodes.decode_dataset):
            dataset = msgspec.structs.replace(
                whole,
                producer=whole.producer if whole.producer in inside else None,
                consumers=[each for each in whole.consumers if each in inside],
            )
            block = blocks.frame(codec.compress(msgspec.json.encode(dataset)), graph.header.int_size)
            out.write(block)
            written.append(len(block))
    return block_places.Places(old, np.array(written, dtype=np.int64))


def _copy(
    archive: zipfile.ZipFile, graph: provenance_graph.ProvenanceGraph, rows: _Rows, component: int
) -> block_places.Places:
    """Copy the blocks of quanta."""
    name = f"{nodes.COMPONENTS[component]}.mb"
    has_block = rows.sizes[:, component] > 0
    old, sizes = rows.offsets[has_block, component], rows.sizes[has_block, component]
    order = np.argsort(old)
    with block_places.member(archive, name) as out:
        for offset, size in zip(old[order].tolist(), sizes[order].tolist(), strict=True):
            out.write(graph.archive.read(name, offset, size))
    return block_places.Places(old[order], sizes[order])


def _addresses(tables: list[_Rows], places: list[block_places.Places], int_size: int) -> Iterator[bytes]:
    """Yield the address file."""
    ids = np.concatenate([table.ids for table in tables])
    columns = np.concatenate([block_places.moved(table.offsets, table.sizes, places) for table in tables])
    order = np.argsort(ids, kind="stable")
    yield addresses.encode_header(int_size, len(ids), len(places))
    yield addresses.encode_rows(ids[order], 0, columns[order], int_size)
