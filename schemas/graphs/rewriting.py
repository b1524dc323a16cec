"""A provenance graph written anew under other names and ids, as a stream (transfer.md section 7.5).

Blocks of logs and all that has neither names nor ids in it are copied as they are. Elsewhere ids are
replaced in the text (see `id_strings`); documents that are written in unusual ways are parsed.
"""

import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Final

import msgspec
import numpy as np
from aggregator.schemas.graphs import (
    addresses,
    block_places,
    blocks,
    container,
    id_masks,
    id_strings,
    nodes,
    origins,
    provenance_graph,
    renewals,
)
from aggregator.storage import errors

_CHUNK_SIZE: Final = 1 << 22
"""Bytes of documents that are rewritten together, and of members that are copied at once."""

_LEVEL: Final = 3
"""Zstandard level of blocks that are written anew."""

_SEPARATOR: Final = b"\0"
"""Between documents; no JSON has it."""

_RUN: Final = b',"run":"'
"""Before the run in a dataset's block, as all known tools write it."""

_TIME_SIZE: Final = 6
"""Bytes at the begin of an id that no mask changes."""

_GRAPH_ID: Final = "provenance_dataset_id"
_COPIED: Final = ("pipeline_graph", "packages")


class _Dataset(msgspec.Struct, gc=False):
    dataset_id: str


_id_decoder = msgspec.json.Decoder(_Dataset)


class Rewriter:
    """Writes one graph anew.

    Parameters
    ----------
    graph
        The graph as it is.
    renewal
        What becomes of its names and ids.
    origin
        What the new graph tells of that, without names and ids.
    """

    def __init__(
        self, graph: provenance_graph.ProvenanceGraph, renewal: renewals.Renewal, origin: origins.Origin
    ) -> None:
        self._graph = graph
        self._begun = origin
        self._renewal = renewal
        self._ids = renewals.NewIds(graph, renewal)
        self._int_size = graph.header.int_size
        self._codec = blocks.Codec(graph.archive.codec.dictionary, _LEVEL)
        self._renamed = {
            _RUN + json.dumps(run)[1:].encode() + b",": _RUN
            + json.dumps(renewal.name(run))[1:].encode() + b","
            for run in self._ids.runs
            if renewal.name(run) != run
        }  # fmt: skip

    def write(self, stream: IO[bytes], tick: Callable[[], None] = lambda: None) -> None:
        """Write it.

        Parameters
        ----------
        stream
            Where to.
        tick
            Called every few megabytes; what it raises ends the work.

        Raises
        ------
        FormatError
            If a part of the graph is damaged.
        """
        graph = self._graph
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            block_places.put(archive, container.DICTIONARY, self._codec.dictionary)
            block_places.put(archive, container.single("header"), self._codec.compress(self._header()))
            init_quanta = self._documents([graph.archive.read_block("init_quanta")], is_dataset=False)
            block_places.put(archive, container.single("init_quanta"), self._codec.compress(init_quanta[0]))
            for name in map(container.single, _COPIED):
                if name in graph.archive:
                    block_places.put(archive, name, graph.archive.read(name))
            places = [self._rewrite(archive, component, tick) for component in range(len(nodes.COMPONENTS))]
            with block_places.member(archive, nodes.ADDRESSES) as out:
                for piece in self._addresses(places):
                    out.write(piece)
            block_places.put(archive, origins.MEMBER, origins.encode((*graph.origins, self._origin())))
            archive.comment = graph.archive.comment

    def _header(self) -> bytes:
        header = msgspec.json.decode(self._graph.archive.read_block("header"))
        if isinstance(header.get(_GRAPH_ID), str):
            mask = self._renewal.mask(self._graph.header.output_run)
            header[_GRAPH_ID] = addresses.dashed(id_masks.apply_to_digits(mask, header[_GRAPH_ID]))
        header["output_run"] = self._renewal.name(self._graph.header.output_run)
        header["inputs"] = [self._renewal.name(name) for name in self._graph.header.inputs]
        if self._graph.header.output:
            header["output"] = self._renewal.name(self._graph.header.output)
        return msgspec.json.encode(header)

    def _origin(self) -> origins.Origin:
        output = self._graph.header.output_run
        runs = sorted(self._ids.runs & set(self._renewal.runs), key=lambda run: (run != output, run))
        return msgspec.structs.replace(
            self._begun,
            runs=tuple(self._renewal.runs[run] for run in runs),
            replaced={would.hex(): has.hex() for would, has in self._renewal.replaced.items()},
        )

    def _rewrite(
        self, archive: zipfile.ZipFile, component: int, tick: Callable[[], None]
    ) -> "block_places.Places | None":
        """Write the blocks of a component; return where they were, and are."""
        name = f"{nodes.COMPONENTS[component]}.mb"
        with block_places.member(archive, name) as out:
            if component == nodes.LOGS:
                for piece in _pieces(self._graph.archive, name):
                    tick()
                    out.write(piece)
                return None
            old: list[int] = []
            sizes: list[int] = []
            for offsets, documents in _chunks(self._graph.documents(component)):
                tick()
                old += offsets
                framed = [
                    blocks.frame(self._codec.compress(document), self._int_size)
                    for document in self._documents(documents, component == nodes.DATASETS)
                ]
                sizes += map(len, framed)
                out.write(b"".join(framed))
        return block_places.Places(np.array(old, dtype=np.int64), np.array(sizes, dtype=np.int64))

    def _documents(self, documents: list[bytes], is_dataset: bool) -> list[bytes]:
        """Return the JSON of blocks with new ids and names."""
        text = bytearray(_SEPARATOR.join(documents))
        if id_strings.are_escaped(text) or (is_dataset and text.count(_RUN) != len(documents)):
            documents = [self._normal(document, is_dataset) for document in documents]
            text = bytearray(_SEPARATOR.join(documents))
        kept = [self._is_kept(document) for document in documents] if is_dataset else []
        id_strings.replace(text, self._ids.of)
        changed = bytes(text).split(_SEPARATOR)
        if not is_dataset:
            return changed
        if any(kept):
            return [
                document if stays else self._with_new_run(document)
                for document, stays in zip(changed, kept, strict=True)
            ]
        return self._with_new_run(bytes(text)).split(_SEPARATOR)

    def _is_kept(self, document: bytes) -> bool:
        """Return whether a dataset keeps its run."""
        if not self._renewal.kept:
            return False
        return uuid.UUID(_id_decoder.decode(document).dataset_id).bytes in self._renewal.kept

    def _with_new_run(self, text: bytes) -> bytes:
        """Return datasets' documents under the new names of their runs."""
        for old, new in self._renamed.items():
            text = text.replace(old, new)
        return text

    def _normal(self, document: bytes, is_dataset: bool) -> bytes:
        """Return a document that is written in an unusual way, without escapes in ids, its run renamed."""
        value = json.loads(document)
        if is_dataset and not self._is_kept(document):
            value["run"] = self._renewal.name(value["run"])
        return json.dumps(value, separators=(", ", ": ")).encode()

    def _addresses(self, places: list["block_places.Places | None"]) -> Iterator[bytes]:
        """Yield the address file, sorted by the new ids."""
        n_rows = sum(len(table.ids) for table in self._graph.address_rows())
        yield addresses.encode_header(self._int_size, n_rows, len(places))
        begin = 0
        for ids, columns in self._sortable(places):
            order = np.argsort(ids, kind="stable")
            if not (ids[order[:-1]] < ids[order[1:]]).all():
                raise errors.RefusedError(
                    f"{self._graph.path}: two of its datasets would get one id. Leave one of them out."
                )
            yield addresses.encode_rows(ids[order], begin, columns[order], self._int_size)
            begin += len(ids)

    def _sortable(
        self, places: list["block_places.Places | None"]
    ) -> Iterator[tuple[addresses.Ids, addresses.Integers]]:
        """Yield new ids and their addresses in parts, all of one before all of the next one."""
        parts: list[tuple[addresses.Ids, addresses.Integers]] = []
        for table in self._graph.address_rows():
            parts.append((self._ids.of(table.ids), block_places.moved(table.offsets, table.sizes, places)))
            if not self._ids.keep_times:
                continue
            ids, columns = map(np.concatenate, zip(*parts, strict=True))
            times = id_masks.as_rows(ids)[:, :_TIME_SIZE]
            # Ids of one time may still come in the next part.
            n_done = len(ids) - int((times == times[-1]).all(axis=1).sum())
            yield ids[:n_done], columns[:n_done]
            parts = [(ids[n_done:], columns[n_done:])]
        if parts:
            ids, columns = map(np.concatenate, zip(*parts, strict=True))
            yield ids, columns


def _pieces(source: container.Container, name: str) -> Iterator[bytes]:
    """Yield a member in pieces."""
    total = source.size(name)
    for begin in range(0, total, _CHUNK_SIZE):
        yield source.read(name, begin, min(_CHUNK_SIZE, total - begin))


def _chunks(placed: Iterator[tuple[int, int, bytes]]) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yield offsets and documents of blocks, some megabytes at a time."""
    offsets: list[int] = []
    documents: list[bytes] = []
    n_bytes = 0
    for offset, _, document in placed:
        offsets.append(offset)
        documents.append(document)
        n_bytes += len(document)
        if n_bytes > _CHUNK_SIZE:
            yield offsets, documents
            offsets, documents, n_bytes = [], [], 0
    if documents:
        yield offsets, documents
