"""Predicted quantum graphs, read in parts (quantum-graph-format.md section 6)."""

import hashlib
from collections.abc import Iterator
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import address_file, addresses, blocks, container, json_stream, pipeline
from aggregator.storage import errors, random_access

_BLOCKS = "quantum_datasets.mb"
_ADDRESSES = "quanta.addr"


class Dataset(msgspec.Struct, frozen=True, gc=False):
    """A predicted input or output."""

    dataset_id: str
    """UUID, dashed."""
    dataset_type_name: str
    """Parent dataset type."""
    data_coordinate: msgspec.Raw
    """JSON list of the full data ID's values."""
    run: str
    """RUN collection."""


class Quantum(msgspec.Struct, frozen=True):
    """A predicted quantum, regular or init (sections 6.2 and 6.4)."""

    quantum_id: str
    """UUID, dashed."""
    task_label: str
    """Task label; empty for the producer of `packages`."""
    inputs: dict[str, list[Dataset]]
    """Inputs by connection."""
    outputs: dict[str, list[Dataset]]
    """Outputs by connection, metadata and log included."""
    data_coordinate: msgspec.Raw = msgspec.Raw(b"[]")
    """JSON list of the full data ID's values."""
    datastore_records: dict[str, Any] = {}
    """Records of overall inputs by datastore name."""


_quantum_decoder = msgspec.json.Decoder(Quantum)
_quanta_decoder = msgspec.json.Decoder(list[Quantum])


class PredictedGraph:
    """A predicted quantum graph, opened; everything is read when asked for.

    Parameters
    ----------
    uri
        Path or URI of the graph.

    Raises
    ------
    RefusedError
        If it is missing, no graph, of another type, or of a newer version.
    FormatError
        If a part of it is damaged.
    """

    def __init__(self, uri: str) -> None:
        self.path = container.graph_path(uri)
        self._container = container.Container(self.path)
        try:
            self._header_json = self._container.read_block("header")
            self.header = pipeline.parse_header(self._header_json, self.path, "predicted")
            self.pipeline_json = self._container.read_block("pipeline_graph")
            self.pipeline = pipeline.parse_pipeline(self.pipeline_json, self.path)
        except BaseException:
            self._container.close()
            raise

    @property
    def fingerprint(self) -> str:
        """Hash that copies of this file share, and no other graph has."""
        return self._container.fingerprint

    @property
    def file(self) -> random_access.RandomAccess:
        """The file itself."""
        return self._container.file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def header_json(self) -> bytes:
        """The header's JSON document, decoded from its block."""
        return self._header_json

    def address_table(self) -> addresses.AddressTable:
        """Return the table of all regular quanta, sorted by id."""
        file = address_file.AddressFile(self._container, _ADDRESSES, 1, self.header.int_size)
        table = file.table(with_index=self.header.version == 0)
        if len(table.ids) != self.header.n_quanta:
            raise errors.FormatError(
                self.path, _ADDRESSES, f"has {len(table.ids)} quanta, the header says {self.header.n_quanta}"
            )
        return table

    @property
    def dictionary(self) -> bytes:
        """Compression dictionary of all blocks; empty if there is none."""
        return self._container.codec.dictionary

    @property
    def init_quanta_json(self) -> bytes:
        """The JSON document of the init quanta, decoded from its block."""
        return self._container.read_block("init_quanta")

    def init_quanta(self) -> list[Quantum]:
        """Return the init quanta, the producer of `packages` (if there is one) included."""
        try:
            return _quanta_decoder.decode(self.init_quanta_json)
        except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise errors.FormatError(self.path, container.single("init_quanta"), str(exc)) from exc

    def read_quanta(
        self, offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> Iterator[tuple[Quantum, bytes]]:
        """Yield predicted quanta at the given places.

        Parameters
        ----------
        offsets, sizes
            Addresses in bytes, shape (n,). One read serves consecutive blocks, some megabytes of them.

        Yields
        ------
        quantum
            The decoded quantum.
        document
            Its JSON text.

        Raises
        ------
        FormatError
            If a block is damaged; names the block.
        """
        if len(offsets) and (offsets[1:] == offsets[:-1] + sizes[:-1]).all():
            for first, end in blocks.groups(sizes):
                yield from self._read_quanta(offsets[first:end], sizes[first:end], True)
        else:
            yield from self._read_quanta(offsets, sizes, False)

    def read_quantum(self, offset: int, size: int) -> Quantum:
        """Return the predicted quantum at an address in bytes.

        Raises
        ------
        FormatError
            If its block is damaged.
        """
        return self._decoded(self._container.read(_BLOCKS, offset, size), offset)[0]

    def _read_quanta(
        self, offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], contiguous: bool
    ) -> Iterator[tuple[Quantum, bytes]]:
        start = int(offsets[0]) if len(offsets) else 0
        buffer = self._container.read(_BLOCKS, start, int(sizes.sum())) if contiguous else b""
        for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
            if contiguous:
                block = buffer[offset - start : offset - start + size]
            else:
                block = self._container.read(_BLOCKS, offset, size)
            yield self._decoded(block, offset)

    def _decoded(self, block: bytes, offset: int) -> tuple[Quantum, bytes]:
        try:
            payload = blocks.payload_at(block, 0, len(block), self.header.int_size)
            document = self._container.codec.decompress(payload)
            return _quantum_decoder.decode(document), document
        except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise errors.FormatError(
                self.path, _BLOCKS, f"block at offset {offset}: {exc}; build the graph again"
            ) from exc

    def edges(self, table: addresses.AddressTable) -> npt.NDArray[np.int32]:
        """Return the edges between regular quanta, all that `edge_pieces` yields."""
        return np.concatenate([np.empty((0, 2), dtype=np.int32), *self.edge_pieces(table)])

    def edge_pieces(self, table: addresses.AddressTable) -> Iterator[npt.NDArray[np.int32]]:
        """Yield the edges between regular quanta in pieces.

        Parameters
        ----------
        table
            The graph's address table.

        Yields
        ------
        edges
            Rows of `table` of (producer, consumer), shape (n, 2).
        """
        member = container.single("thin_graph")
        integers = self.header.version == 0
        by_index = np.argsort(table.index) if integers else None
        try:
            for ends in json_stream.edge_pairs(self._container.stream_block("thin_graph"), integers):
                if by_index is not None:
                    rows = by_index[np.searchsorted(table.index[by_index], ends)]
                    all_there = (table.index[rows] == ends).all()
                else:
                    rows = np.minimum(np.searchsorted(table.ids, ends), max(len(table.ids) - 1, 0))
                    all_there = len(table.ids) and (table.ids[rows] == ends).all()
                if not all_there:
                    raise ValueError("an edge names a quantum that is not in the graph")
                yield rows.astype(np.int32).reshape(-1, 2)
        except (ValueError, IndexError) as exc:
            raise errors.FormatError(self.path, member, str(exc)) from exc

    def dimension_rows(self, elements: set[str]) -> Iterator[tuple[str, list[Any]]]:
        """Yield (element, row) of the dimension records of some elements (section 6.3)."""
        member = container.single("dimension_data")
        try:
            for element, row in json_stream.table_rows(self._container.stream_block("dimension_data")):
                if element in elements:
                    yield element, msgspec.json.decode(row)
        except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise errors.FormatError(self.path, member, str(exc)) from exc

    def identity(self, table: addresses.AddressTable) -> str:
        """Return a hash that is the same for every file with this graph (design.md, Checkpoint)."""
        state = hashlib.blake2b(digest_size=16)
        document = msgspec.json.decode(self._header_json)
        state.update(msgspec.json.encode(document, order="sorted"))
        state.update(table.ids.view(np.uint8).data)
        for quantum in self.init_quanta():
            state.update(quantum.quantum_id.encode())
        return state.hexdigest()
