"""Digests: what was found out about the quanta of one shard (docs/design.md, Digests).

A digest is one file: a magic number, a head, and sections. The head says what the digest belongs to and
where each section lies, with its checksum; so a reader takes just the sections that it needs.
"""

import itertools
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import msgpack
import msgspec
import numpy as np
import numpy.typing as npt
import xxhash
import zstandard
from aggregator.schemas.execution import statuses
from aggregator.storage import durable_files, errors, local_files, machine_trouble, spools

FORMAT_VERSION = 5
_MAGIC = b"QGDIGEST"
_PREFIX = struct.Struct("<8sI")
_CHECKSUM_SIZE = 16
_PIECE = 1 << 22

UNREADABLE = 0
"""Status of a quantum whose files can't be read; the other statuses are those of its last attempt."""
INIT = 2
"""Status of init quanta, which neither succeed nor fail."""

PRODUCED = 1
"""Flag of a dataset that was produced."""
ROLE_SHIFT = 1
"""The bits of a dataset's flags above `PRODUCED` are its role."""
REGULAR, LOG, METADATA, CONFIG = range(4)

COLUMNS: dict[str, np.dtype[Any]] = {
    # One row a quantum, in shard order.
    "quantum.id": np.dtype("S16"),
    "quantum.status": np.dtype("i1"),
    "quantum.task": np.dtype("<u2"),
    "quantum.settled": np.dtype("u1"),
    "quantum.block_size": np.dtype("<i8"),
    "quantum.log_size": np.dtype("<i8"),
    "quantum.metadata_size": np.dtype("<i8"),
    # One row an output, sorted by id. Quanta, types and coordinates are given by their row.
    "dataset.id": np.dtype("S16"),
    "dataset.quantum": np.dtype("<i4"),
    "dataset.type": np.dtype("<u2"),
    "dataset.flags": np.dtype("u1"),
    "dataset.coordinate": np.dtype("<i4"),
    # One row an input of a quantum, sorted by the dataset's id.
    "edge.id": np.dtype("S16"),
    "edge.quantum": np.dtype("<i4"),
    # One row an input that no quantum of the graph may have written, sorted by id.
    "input.id": np.dtype("S16"),
    "input.type": np.dtype("<u2"),
    "input.coordinate": np.dtype("<i4"),
    "input.run": np.dtype("<i4"),
    # One row a file of a produced output.
    "file.dataset": np.dtype("<i4"),
    "file.kind": np.dtype("<i4"),
    # One row a file that was read or looked for.
    "looked.quantum": np.dtype("<i4"),
}
"""Type of each column."""

LISTS = ("coordinates", "runs", "file.paths", "file.kinds", "looked.paths", "looked.tags", "problems")
"""Sections that are lists of values, packed with msgpack and compressed."""

MISSING = b""
"""In place of the tag that a store gives a file (`stores.Mark`), for one that was not there."""

UNUSABLE = b"?"
"""The same, for what is no readable file."""

BLOCKS = ("blocks.quanta", "blocks.logs", "blocks.metadata")
"""Sections of compressed blocks with their prefixes, as they go into the provenance graph."""

BLOCK_SIZES = ("quantum.block_size", "quantum.log_size", "quantum.metadata_size")
"""Columns with the sizes of a quantum's blocks in these sections; 0 where it has none."""


class Identity(msgspec.Struct, frozen=True):
    """What a digest belongs to; it is of no use to anything else."""

    graph: str
    """Identity of the predicted graph."""
    settings: str
    """Hash of what influences the content of digests."""
    dictionary: str
    """Hash of the compression dictionary, empty for none."""
    repository: str = ""
    """Hash of where the repository was whose files were looked at."""

    def differs_only_in_place(self, other: "Identity") -> bool:
        """Return whether the only difference, if any, is where the repository is."""
        return msgspec.structs.replace(self, repository=other.repository) == other


class _Head(msgspec.Struct, frozen=True):
    version: int
    identity: Identity
    shard: int
    sections: dict[str, tuple[int, int, bytes]]


def absent(
    quantum_statuses: npt.NDArray[np.int8], flags: npt.NDArray[np.uint8], owners: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Return which quanta have left neither log nor metadata.

    Parameters
    ----------
    quantum_statuses
        Column `quantum.status`.
    flags, owners
        Columns `dataset.flags` and `dataset.quantum`.
    """
    roles = flags >> ROLE_SHIFT
    special = ((flags & PRODUCED) != 0) & ((roles == LOG) | (roles == METADATA))
    result: npt.NDArray[np.bool_] = quantum_statuses == statuses.FAILED
    result[owners[special]] = False
    return result


def checksum(data: bytes | memoryview) -> bytes:
    """Return the checksum of some bytes: 128 bits, made to notice damage, not forgery."""
    return xxhash.xxh3_128_digest(data)


def encode(
    identity: Identity,
    shard: int,
    columns: dict[str, npt.NDArray[Any]],
    lists: dict[str, list[Any]],
    blocks: Mapping[str, spools.Spool],
) -> tuple[bytes, Iterator[bytes | memoryview]]:
    """Return the head of a digest, and its sections in pieces.

    Parameters
    ----------
    identity
        What it belongs to.
    shard
        Number of the shard.
    columns, lists, blocks
        Every section of `COLUMNS`, `LISTS` and `BLOCKS`.
    """
    compressor = zstandard.ZstdCompressor(level=1)
    contents: dict[str, bytes] = {}
    sections, offset = {}, 0
    for name, kind in COLUMNS.items():
        contents[name] = np.ascontiguousarray(columns[name], dtype=kind).tobytes()
    for name in LISTS:
        contents[name] = compressor.compress(msgpack.packb(lists[name]))
    for name, data in contents.items():
        sections[name] = (offset, len(data), checksum(data))
        offset += len(data)
    for name in BLOCKS:
        sum_of_blocks = blocks[name].finish()
        sections[name] = (offset, blocks[name].size, sum_of_blocks)
        offset += blocks[name].size
    head = msgspec.to_builtins(_Head(FORMAT_VERSION, identity, shard, sections), builtin_types=(bytes,))
    packed: bytes = msgpack.packb(head)
    prefix = _PREFIX.pack(_MAGIC, len(packed))
    pieces: Iterator[bytes | memoryview] = itertools.chain(
        contents.values(), *(blocks[name].content() for name in BLOCKS)
    )
    return prefix + packed + checksum(packed), pieces


def write(path: str, head: bytes, sections: Iterable[bytes | memoryview]) -> str:
    """Write a digest under a temporary name, sync it and rename it; return the checksum of its head.

    The head holds the checksums of all sections, so its own stands for the whole content.
    """
    durable_files.write_atomically(path, itertools.chain([head], sections))
    return head[-_CHECKSUM_SIZE:].hex()


class Digest:
    """A digest opened for reading.

    Parameters
    ----------
    path
        Path of the file.
    identity
        What it must belong to.
    shard
        Which shard it must be of.
    elsewhere
        Whether it may have been made with another repository; then its files are to be looked at again.

    Raises
    ------
    FormatError
        If it is missing, damaged, of another version, or belongs to something else.
    MachineError
        If the machine is in trouble; of all methods.
    """

    def __init__(self, path: str, identity: Identity, shard: int, elsewhere: bool = False) -> None:
        self.path = path
        try:
            self._fd = local_files.open_file(path)
        except (OSError, local_files.UnusableError) as exc:
            raise errors.FormatError(path, "", f"can't open the digest ({exc})") from exc
        try:
            head = self._read_head()
            if head.identity != identity:
                moved = head.identity.differs_only_in_place(identity)
                if not moved:
                    raise errors.FormatError(path, "head", "belongs to another graph or to other settings")
                if not elsewhere:
                    raise errors.FormatError(
                        path, "head", "made with another repository, or in another place"
                    )
            if head.shard != shard:
                raise errors.FormatError(path, "head", f"is of shard {head.shard}, not of {shard}")
        except BaseException:
            os.close(self._fd)
            raise
        self.identity = head.identity
        self.shard = head.shard
        self._sections = head.sections

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def _read_head(self) -> _Head:
        prefix = self._read(0, _PREFIX.size)
        if len(prefix) < _PREFIX.size or prefix[:8] != _MAGIC:
            raise errors.FormatError(self.path, "", "not a digest")
        _, length = _PREFIX.unpack(prefix)
        data = self._read(_PREFIX.size, length + _CHECKSUM_SIZE)
        packed = data[:length]
        if checksum(packed) != data[length:]:
            raise errors.FormatError(self.path, "head", "checksum differs")
        try:
            document = msgpack.unpackb(packed)
            if document["version"] != FORMAT_VERSION:
                raise errors.FormatError(self.path, "head", f"unknown version {document['version']}")
            head = msgspec.convert(document, _Head, builtin_types=(bytes,))
        except (msgspec.ValidationError, KeyError, TypeError) as exc:
            raise errors.FormatError(self.path, "head", str(exc)) from exc
        self._start = _PREFIX.size + length + _CHECKSUM_SIZE
        self.checksum = data[length:].hex()
        return head

    def _read(self, offset: int, size: int) -> bytes:
        return machine_trouble.watched(self.path, durable_files.read_range, self._fd, offset, size)

    def _section(self, name: str) -> bytes:
        offset, length, expected = self._sections[name]
        data = self._read(self._start + offset, length)
        if checksum(data) != expected:
            raise self._damaged(name)
        return data

    def _damaged(self, name: str) -> errors.FormatError:
        return errors.FormatError(self.path, name, "checksum differs; the section is damaged")

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column, verified."""
        return np.frombuffer(self._section(name), dtype=COLUMNS[name])

    def part(self, name: str, begin: int, end: int) -> npt.NDArray[Any]:
        """Return rows of a column, not verified: only for digests that this run wrote or verified."""
        kind = COLUMNS[name]
        start = self._start + self._sections[name][0] + begin * kind.itemsize
        data = self._read(start, (end - begin) * kind.itemsize)
        return np.frombuffer(data, dtype=kind)

    def values(self, name: str) -> list[Any]:
        """Return a list, verified."""
        packed = zstandard.ZstdDecompressor().decompress(self._section(name))
        return list(msgpack.unpackb(packed, use_list=False))

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield a section of blocks in pieces, since it may be large; verified when all have been taken."""
        _, length, expected = self._sections[name]
        state = xxhash.xxh3_128()
        for begin in range(0, length, _PIECE):
            piece = self.block(name, begin, min(_PIECE, length - begin))
            state.update(piece)
            yield piece
        if state.digest() != expected:
            raise self._damaged(name)

    def verify_blocks(self, name: str) -> None:
        """Check a section of blocks."""
        for _ in self.blocks(name):
            pass

    def block(self, name: str, offset: int, size: int) -> bytes:
        """Return bytes of a section of blocks, not verified: only for sections that were."""
        return self._read(self._start + self._sections[name][0] + offset, size)

    def verify(self) -> None:
        """Check all sections."""
        for name in self._sections:
            if name in BLOCKS:
                self.verify_blocks(name)
            else:
                self._section(name)
