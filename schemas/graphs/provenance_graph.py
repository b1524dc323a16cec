"""Provenance quantum graphs, read in parts (quantum-graph-format.md sections 4, 5, 7 and 8)."""

import functools
import uuid
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

import msgspec
from aggregator.schemas.execution import log_records, task_metadata
from aggregator.schemas.graphs import (
    address_file,
    addresses,
    blocks,
    container,
    nodes,
    origins,
    pipeline,
    reading_time,
)
from aggregator.storage import errors, random_access

T = TypeVar("T")

_CHUNK_SIZE = 1 << 22
"""Bytes of a multi-block member that are read at once."""

_DAMAGE = (ValueError, RecursionError, msgspec.MsgspecError)
"""What decoding of a damaged block can raise."""


class ProvenanceGraph:
    """A provenance quantum graph, opened; everything is read when asked for, in bounded memory.

    Parameters
    ----------
    uri
        Path or URI of the graph.

    Raises
    ------
    RefusedError
        If it is missing, no graph, of another type, or of a newer version.
    FormatError
        If a part of it is damaged; of all methods.
    """

    def __init__(self, uri: str) -> None:
        self.path = container.graph_path(uri)
        self._container = container.Container(self.path)
        self._addresses: address_file.AddressFile | None = None
        try:
            header = self._container.read_block("header")
            self.header = pipeline.parse_header(header, self.path, "provenance")
            self.pipeline_json = self._container.read_block("pipeline_graph")
            self.pipeline = pipeline.parse_pipeline(self.pipeline_json, self.path)
            self._n_values = {t.label: len(t.dimensions) for t in self.pipeline.tasks}
            self._n_type_values = {t.name: len(t.dimensions) for t in self.pipeline.dataset_types}
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def init_quanta(self) -> list[nodes.InitQuantum]:
        """Return the init quanta, in pipeline order."""
        return self._single("init_quanta", nodes.decode_init_quanta)

    def packages(self) -> dict[str, str]:
        """Return the versions of the software that aggregated the run (section 7.5)."""
        return self._single("packages", msgspec.json.Decoder(dict[str, str]).decode)

    @property
    def fingerprint(self) -> str:
        """Hash that copies of this file share, and no other graph has."""
        return self._container.fingerprint

    @property
    def file(self) -> random_access.RandomAccess:
        """The file itself."""
        return self._container.file

    @property
    def read_since(self) -> int | None:
        """Nanoseconds since 1970 before which none of its files was read, if it says so."""
        return reading_time.decode(self._container.comment)

    @property
    def archive(self) -> container.Container:
        """The archive itself."""
        return self._container

    @functools.cached_property
    def origins(self) -> tuple[origins.Origin, ...]:
        """What it was before it came here, the oldest transfer first; nothing if it was made here."""
        return origins.read(self._container)

    def documents(self, component: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield (offset, size, JSON) of all blocks of a component, in file order."""
        return self._walk(component, bytes)

    def quanta(self) -> Iterator[nodes.Quantum]:
        """Yield all regular quanta, in file order."""
        return (quantum for _, _, quantum in self.placed_quanta(self._decode_quantum))

    def datasets(self) -> Iterator[nodes.Dataset]:
        """Yield all datasets but `packages`, in file order."""
        return (dataset for _, _, dataset in self._walk(nodes.DATASETS, self._decode_dataset))

    def placed_quanta(self, decode: Callable[[bytes], T]) -> Iterator[tuple[int, int, T]]:
        """Yield (offset, size, what `decode` makes of the JSON) of all regular quanta, in file order.

        Errors of decoding become a `FormatError` that names the place.
        """
        return self._walk(nodes.QUANTA, decode)

    def quantum_at(self, offset: int, size: int) -> nodes.Quantum:
        """Return the regular quantum at a place that `placed_quanta` gave."""
        return self._read(nodes.QUANTA, offset, size, self._decode_quantum)

    def quantum(self, quantum_id: str) -> nodes.Quantum:
        """Return a regular quantum.

        Raises
        ------
        RefusedError
            If the graph has no such quantum.
        """
        quantum = self._block(nodes.QUANTA, quantum_id, self._decode_quantum)
        if quantum is None:
            raise errors.RefusedError(f"{self.path}: {quantum_id} is a dataset, not a quantum")
        self._check_id(nodes.QUANTA, quantum.quantum_id, quantum_id)
        return quantum

    def dataset(self, dataset_id: str) -> nodes.Dataset:
        """Return a dataset.

        Raises
        ------
        RefusedError
            If the graph has no such dataset.
        """
        dataset = self._block(nodes.DATASETS, dataset_id, self._decode_dataset)
        if dataset is None:
            raise errors.RefusedError(f"{self.path}: {dataset_id} is a quantum, not a dataset")
        self._check_id(nodes.DATASETS, dataset.dataset_id, dataset_id)
        return dataset

    def address(self, node_id: str, component: int) -> tuple[int, int]:
        """Return (offset, size) of a node's block in a component (see `nodes.COMPONENTS`); size 0 for none.

        Raises
        ------
        RefusedError
            If the graph has no such node.
        """
        return self._find(node_id)[component]

    def node(self, node_id: str) -> nodes.Quantum | nodes.Dataset:
        """Return a regular quantum or a dataset.

        Raises
        ------
        RefusedError
            If the graph has neither.
        """
        if self._find(node_id)[nodes.QUANTA][1]:
            return self.quantum(node_id)
        return self.dataset(node_id)

    def logs(self, node_id: str) -> list[list[log_records.LogRecord] | None] | None:
        """Return the log records of a quantum.

        Parameters
        ----------
        node_id
            Id of the quantum or of its log dataset.

        Returns
        -------
        logs
            The records of each attempt, nothing for an attempt whose log is missing. Nothing at all
            if the quantum is blocked, or the id is that of another dataset.

        Raises
        ------
        RefusedError
            If the graph has no such node.
        """
        return self._block(nodes.LOGS, node_id, nodes.decode_logs)

    def metadata(self, node_id: str) -> list[task_metadata.TaskMetadata | None] | None:
        """Return the task metadata of a quantum; there can be one more than attempts, the last counts (10).

        Parameters
        ----------
        node_id
            Id of the quantum or of its metadata dataset.

        Returns
        -------
        metadata
            The metadata of each attempt, nothing for an attempt that left none. Nothing at all if the
            quantum is blocked, or the id is that of another dataset.

        Raises
        ------
        RefusedError
            If the graph has no such node.
        """
        return self._block(nodes.METADATA, node_id, nodes.decode_metadata)

    def document(self, component: int, node_id: str) -> bytes | None:
        """Return the JSON of a node's block, or nothing if it has none.

        Parameters
        ----------
        component
            Position in `nodes.COMPONENTS`.
        node_id
            Id of the node.

        Raises
        ------
        RefusedError
            If the graph has no such node.
        """
        return self._block(component, node_id, bytes)

    def address_rows(self) -> Iterator[addresses.AddressTable]:
        """Yield the rows of all nodes in parts, sorted by id."""
        return self._address_file().tables()

    def holds_some(self, quanta: addresses.Ids) -> bool:
        """Return whether any of some quanta, sorted by id, is in the graph."""
        return any(
            addresses.are_in(table.ids[table.sizes[:, nodes.QUANTA] > 0], quanta).any()
            for table in self.address_rows()
        )

    def read_blocks(
        self,
        component: int,
        offsets: addresses.Integers,
        sizes: addresses.Integers,
        decode: Callable[[bytes], T],
    ) -> Iterator[T]:
        """Yield what `decode` makes of the JSON of blocks at increasing offsets; neighbours are read at once.

        Parameters
        ----------
        component
            Position in `nodes.COMPONENTS`.
        offsets, sizes
            Addresses of the blocks in bytes, shape (n,).
        decode
            Its errors become a `FormatError` that names the place.
        """
        member = f"{nodes.COMPONENTS[component]}.mb"
        begins, ends = offsets.tolist(), (offsets + sizes).tolist()
        first = 0
        for last, end in enumerate(ends):
            start = begins[first]
            if last + 1 < len(begins) and begins[last + 1] == end and end - start < _CHUNK_SIZE:
                continue
            buffer = self._container.read(member, start, end - start)
            for offset, stop in zip(begins[first : last + 1], ends[first : last + 1], strict=True):
                yield self._decode(member, offset, buffer[offset - start : stop - start], decode)
            first = last + 1

    def _single(self, name: str, decode: Callable[[bytes], T]) -> T:
        document = self._container.read_block(name)
        try:
            return decode(document)
        except _DAMAGE as exc:
            raise errors.FormatError(self.path, container.single(name), str(exc)) from exc

    def _decode(self, member: str, offset: int, block: bytes, decode: Callable[[bytes], T]) -> T:
        """Return the content of a block with its prefix."""
        try:
            payload = blocks.payload_at(block, 0, len(block), self.header.int_size)
            return decode(self._container.codec.decompress(payload))
        except _DAMAGE as exc:
            raise errors.FormatError(
                self.path, member, f"block at offset {offset}: {exc}; copy or write the graph again"
            ) from exc

    def _walk(self, component: int, decode: Callable[[bytes], T]) -> Iterator[tuple[int, int, T]]:
        member = f"{nodes.COMPONENTS[component]}.mb"
        total, int_size = self._container.size(member), self.header.int_size
        offset, n_bytes = 0, _CHUNK_SIZE
        while offset < total:
            buffer = self._container.read(member, offset, min(n_bytes, total - offset))
            begin, size = 0, int_size
            while begin < len(buffer):
                size = int_size + int.from_bytes(buffer[begin : begin + int_size], "big")
                if begin + size > len(buffer):
                    break
                place = offset + begin
                yield place, size, self._decode(member, place, buffer[begin : begin + size], decode)
                begin += size
            if begin == 0 and offset + size > total:
                raise errors.FormatError(
                    self.path,
                    member,
                    f"block at offset {offset}: it is cut off; copy or write the graph again",
                )
            offset += begin
            # A block can be larger than a chunk.
            n_bytes = max(_CHUNK_SIZE, size)

    def _block(self, component: int, node_id: str, decode: Callable[[bytes], T]) -> T | None:
        """Return a node's block in a component, or nothing if it has none there."""
        offset, size = self._find(node_id)[component]
        if size == 0:
            return None
        return self._read(component, offset, size, decode)

    def _read(self, component: int, offset: int, size: int, decode: Callable[[bytes], T]) -> T:
        member = f"{nodes.COMPONENTS[component]}.mb"
        return self._decode(member, offset, self._container.read(member, offset, size), decode)

    def _address_file(self) -> address_file.AddressFile:
        if self._addresses is None:
            self._addresses = address_file.AddressFile(
                self._container, nodes.ADDRESSES, len(nodes.COMPONENTS), self.header.int_size
            )
        return self._addresses

    def _find(self, node_id: str) -> list[tuple[int, int]]:
        """Return the addresses of a node."""
        try:
            key = uuid.UUID(node_id).bytes
        except ValueError as exc:
            raise errors.RefusedError(f"{node_id!r} is not a UUID") from exc
        address = self._address_file().find(key)
        if address is None:
            raise errors.RefusedError(f"{self.path}: no quantum or dataset {node_id} in this graph")
        return address

    def _check_id(self, component: int, actual: str, expected: str) -> None:
        if actual.replace("-", "").lower() != expected.replace("-", "").lower():
            member = f"{nodes.COMPONENTS[component]}.mb"
            raise errors.FormatError(self.path, member, f"has {actual} where {expected} should be")

    def _decode_quantum(self, document: bytes) -> nodes.Quantum:
        quantum = nodes.decode_quantum(document)
        _check_coordinate(quantum.data_coordinate, self._n_values.get(quantum.task_label))
        return quantum

    def _decode_dataset(self, document: bytes) -> nodes.Dataset:
        dataset = nodes.decode_dataset(document)
        _check_coordinate(dataset.data_coordinate, self._n_type_values.get(dataset.dataset_type_name))
        return dataset


def _check_coordinate(coordinate: msgspec.Raw, expected: int | None) -> None:
    """Raise ValueError unless a data ID has as many values as its task or dataset type has dimensions."""
    if expected is None:
        raise ValueError("its task or dataset type is not in the pipeline graph")
    values = nodes.coordinate_values(coordinate)
    if len(values) != expected:
        raise ValueError(f"its data ID has {len(values)} values instead of {expected}")
