"""Plain reading of graph files, with nothing but zipfile, zstandard and json, and checks of them."""

from __future__ import annotations

import functools
import itertools
import json
import pathlib
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import zstandard

MULTIBLOCKS = ("datasets", "quanta", "logs", "metadata")
"""Multi-block members of a provenance graph, in the order of the columns of its address file."""


class Container:
    """A graph file, read into memory as it is needed."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._zip = zipfile.ZipFile(path)
        self.names = self._zip.namelist()
        data = self._zip.read("compression_dict") if "compression_dict" in self.names else b""
        dictionary = zstandard.ZstdCompressionDict(data) if data else None
        self._decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
        self.dictionary_id = dictionary.dict_id() if dictionary is not None else 0
        self.int_size: int = self.single("header").get("int_size", 8)

    def infos(self) -> list[zipfile.ZipInfo]:
        """Return the entries of the archive's directory."""
        return self._zip.infolist()

    def decode(self, frame: bytes) -> Any:
        """Decompress and parse one block."""
        assert zstandard.frame_content_size(frame) >= 0, f"{self.path}: a frame has no content size"
        text = self._decompressor.decompress(frame)
        return json.loads(text.decode())

    def frame(self, name: str) -> bytes:
        """Return the compressed content of a single-block member."""
        return self._zip.read(name + ".json.zst")

    def single(self, name: str) -> Any:
        """Return the content of a single-block member."""
        return self.decode(self.frame(name))

    @functools.cache  # noqa: B019  (few containers, all short-lived)
    def payload(self, member: str) -> bytes:
        """Return the bytes of a multi-block member."""
        return self._zip.read(member + ".mb")

    def addresses(self, name: str) -> list[tuple[uuid.UUID, int, list[tuple[int, int]]]]:
        """Return id, index and ``(offset, size)`` addresses of each row of an address file, in order."""
        data, size = self._zip.read(name + ".addr"), self.int_size
        assert data[0] == size, f"{self.path}: integers of {data[0]} bytes in {name}.addr"
        count, columns = (int.from_bytes(data[1 + k * size :][:size], "big") for k in (0, 1))
        width = 16 + size * (1 + 2 * columns)
        assert len(data) == 1 + 2 * size + count * width, f"{self.path}: length of {name}.addr"
        rows = []
        for start in range(1 + 2 * size, len(data), width):
            row = data[start : start + width]
            values = [int.from_bytes(row[16 + k * size :][:size], "big") for k in range(1 + 2 * columns)]
            pairs = list(zip(values[1::2], values[2::2], strict=True))
            rows.append((uuid.UUID(bytes=row[:16]), values[0], pairs))
        return rows

    def block(self, member: str, address: tuple[int, int]) -> Any:
        """Return the content of the block at an address, or None if that is empty."""
        offset, size = address
        if not size:
            return None
        data = self.payload(member)[offset : offset + size]
        stated = int.from_bytes(data[: self.int_size], "big")
        assert len(data) == size == stated + self.int_size, f"{self.path}: {member} block at {address}"
        return self.decode(data[self.int_size :])

    def walk(self, member: str) -> Iterator[tuple[int, int]]:
        """Yield the addresses of all blocks, found by their own sizes."""
        data, offset = self.payload(member), 0
        while offset < len(data):
            size = int.from_bytes(data[offset : offset + self.int_size], "big") + self.int_size
            yield offset, size
            offset += size
        assert offset == len(data), f"{self.path}: {member} ends within a block"


def check_provenance(path: pathlib.Path, predicted_path: pathlib.Path) -> dict[str, int]:
    """Check the structure of a provenance graph without its reader (quantum-graph-format.md sections 1-5, 7).

    Parameters
    ----------
    path
        The provenance graph.
    predicted_path
        The predicted graph it comes from.

    Returns
    -------
    counts
        Number of blocks of each multi-block member, and of rows.
    """
    graph, predicted = Container(path), Container(predicted_path)
    _check_members(graph)
    rows = graph.addresses("nodes")
    ids = [node for node, _, _ in rows]
    assert ids == sorted(set(ids), key=lambda node: node.int), f"{path}: rows are not sorted and unique"
    assert [index for _, index, _ in rows] == list(range(len(rows))), f"{path}: index column"
    for column, member in enumerate(MULTIBLOCKS):
        uses = Counter(pairs[column] for _, _, pairs in rows if pairs[column][1])
        expected = 1 if member in ("datasets", "quanta") else 2
        wrong = {address: n for address, n in uses.items() if n != expected}
        assert not wrong, f"{path}: blocks of {member} not addressed {expected} time(s): {wrong}"
        unequal = set(uses) ^ set(graph.walk(member))
        assert not unequal, f"{path}: dead or missing blocks in {member}: {sorted(unequal)[:5]}"
    assert all(any(size for _, size in pairs) for _, _, pairs in rows), f"{path}: a row without addresses"
    _check_header(graph, predicted)
    _check_nodes(graph, predicted, {node: pairs for node, _, pairs in rows})
    return {**{member: len(list(graph.walk(member))) for member in MULTIBLOCKS}, "rows": len(rows)}


def _check_members(graph: Container) -> None:
    infos = graph.infos()
    assert len(set(graph.names)) == len(graph.names), f"{graph.path}: a member twice: {graph.names}"
    assert all(info.compress_type == zipfile.ZIP_STORED for info in infos), f"{graph.path}: deflated member"
    singles = {f"{name}.json.zst" for name in ("header", "pipeline_graph", "packages", "init_quanta")}
    wanted = singles | {f"{name}.mb" for name in MULTIBLOCKS} | {"nodes.addr"}
    unequal = wanted ^ (set(graph.names) - {"compression_dict"})
    assert not unequal, f"{graph.path}: members {unequal}"
    for name in singles:
        frame = graph.frame(name.removesuffix(".json.zst"))
        used = zstandard.get_frame_parameters(frame).dict_id
        assert used == graph.dictionary_id, f"{graph.path}: dictionary {used} of {name}"


def _check_header(graph: Container, predicted: Container) -> None:
    header, original = graph.single("header"), predicted.single("header")
    assert header.pop("graph_type") == "provenance"
    assert original.pop("graph_type") == "predicted"
    assert header == original, f"{graph.path}: header"


def _check_nodes(graph: Container, predicted: Container, rows: dict[uuid.UUID, Any]) -> None:
    """Check that each predicted node is there once, and that lists over attempts are parallel."""
    quanta, datasets = predicted_nodes(predicted)
    found = {node for node, pairs in rows.items() if pairs[1][1]}
    assert found == set(quanta), f"{graph.path}: quanta"
    found = {node for node, pairs in rows.items() if pairs[0][1]}
    assert found == datasets, f"{graph.path}: datasets: {sorted(found ^ datasets)[:5]}"
    for node, (_, address, logs, metadata) in rows.items():
        if not address[1]:
            continue
        quantum = graph.block("quanta", address)
        assert uuid.UUID(quantum["quantum_id"]) == node, f"{graph.path}: block of {node}"
        attempts, what = quantum["attempts"], f"{graph.path}: attempts of {node}"
        assert [a["attempt"] for a in attempts] == list(range(len(attempts))), what
        for member, connection, block in (("logs", "_log", logs), ("metadata", "_metadata", metadata)):
            dataset = uuid.UUID(quantum["outputs"][connection][0])
            assert rows[dataset][MULTIBLOCKS.index(member)] == block, f"{what}: {member} of {dataset}"
            entries = (graph.block(member, block) or {"attempts": []})["attempts"]
            # A log that was written as a stream can leave an empty entry before the last one.
            assert len(entries) - len(attempts) in ((0, 1) if member == "metadata" else (0,)), what


def predicted_nodes(predicted: Container) -> tuple[list[uuid.UUID], set[uuid.UUID]]:
    """Return the ids of the regular quanta, and of all datasets but ``packages``, of a predicted graph."""
    models = [predicted.block("quantum_datasets", address) for address in predicted.walk("quantum_datasets")]
    quanta = [uuid.UUID(model["quantum_id"]) for model in models]
    models += [model for model in predicted.single("init_quanta") if model["task_label"]]
    groups = [group for model in models for kind in ("inputs", "outputs") for group in model[kind].values()]
    return quanta, {uuid.UUID(dataset["dataset_id"]) for dataset in itertools.chain.from_iterable(groups)}


def rewrite(source: pathlib.Path, destination: pathlib.Path, change: Callable[[str, Any], Any]) -> None:
    """Write a provenance graph again with other blocks, without dictionary.

    Parameters
    ----------
    source, destination
        The graph to read and the one to write.
    change
        Called with the name of a member and the content of each of its blocks, which it returns or replaces.
    """
    graph, compressor = Container(source), zstandard.ZstdCompressor(1)
    size = graph.int_size

    def compressed(member: str, content: Any) -> bytes:
        return compressor.compress(json.dumps(change(member, content)).encode())

    payloads = {member: bytearray() for member in MULTIBLOCKS}
    moved: dict[tuple[str, int], tuple[int, int]] = {}
    for member, payload in payloads.items():
        for address in graph.walk(member):
            frame = compressed(member, graph.block(member, address))
            moved[member, address[0]] = (len(payload), len(frame) + size)
            payload += len(frame).to_bytes(size, "big") + frame
    rows = graph.addresses("nodes")
    table = bytes([size]) + len(rows).to_bytes(size, "big") + len(MULTIBLOCKS).to_bytes(size, "big")
    for node, index, pairs in rows:
        new = [moved[m, offset] if n else (0, 0) for m, (offset, n) in zip(MULTIBLOCKS, pairs, strict=True)]
        values = [index, *itertools.chain.from_iterable(new)]
        table += node.bytes + b"".join(value.to_bytes(size, "big") for value in values)
    with zipfile.ZipFile(destination, "w") as archive:
        for name in ("header", "pipeline_graph", "packages", "init_quanta"):
            archive.writestr(f"{name}.json.zst", compressed(name, graph.single(name)))
        for member, payload in payloads.items():
            archive.writestr(f"{member}.mb", bytes(payload))
        archive.writestr("nodes.addr", table)
