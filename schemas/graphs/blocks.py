"""Compressed JSON blocks and multi-block members (quantum-graph-format.md sections 2 and 3)."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import zstandard


class Codec:
    """Compresses and decompresses blocks, with one dictionary and one level.

    Parameters
    ----------
    dictionary
        Raw bytes of a trained dictionary; empty for none.
    level
        Zstandard compression level.
    """

    def __init__(self, dictionary: bytes, level: int) -> None:
        self.dictionary = dictionary
        self.level = level
        shared = None
        if dictionary:
            shared = zstandard.ZstdCompressionDict(dictionary)
            # Without this every small block pays for loading the dictionary again.
            shared.precompute_compress(level=level)
        self._compressor = zstandard.ZstdCompressor(level=level, dict_data=shared)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=shared)

    def compress(self, data: bytes) -> bytes:
        """Return one frame that carries its content size."""
        return self._compressor.compress(data)

    def compress_stream(self, size: int, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        """Yield one frame in pieces; it carries its content size, which must be known.

        Raises
        ------
        ValueError
            If the pieces are not of that size in all.
        """
        try:
            compressor = self._compressor.compressobj(size=size)
            for piece in pieces:
                yield compressor.compress(piece)
            yield compressor.flush()
        except zstandard.ZstdError as exc:
            raise ValueError(f"the document does not have the {size} bytes announced ({exc})") from exc

    def decompress(self, frame: bytes) -> bytes:
        """Return the content of one frame.

        Raises
        ------
        ValueError
            If the frame is damaged, or needs another dictionary.
        """
        try:
            return self._decompressor.decompress(frame)
        except (zstandard.ZstdError, MemoryError) as exc:
            # A damaged header can ask for any amount of memory.
            problem = "it asks for too much memory" if isinstance(exc, MemoryError) else exc
            raise ValueError(f"damaged Zstandard frame ({problem})") from exc

    def stream(self, frame: IO[bytes], chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """Yield the content of one frame in pieces of about ``chunk_size`` bytes."""
        try:
            with self._decompressor.stream_reader(frame, read_size=chunk_size) as reader:
                while chunk := reader.read(chunk_size):
                    yield chunk
        except zstandard.ZstdError as exc:
            raise ValueError(f"damaged Zstandard frame ({exc})") from exc


def frame(payload: bytes, int_size: int) -> bytes:
    """Return a block of a multi-block member: its big-endian size, then the payload."""
    return len(payload).to_bytes(int_size, "big") + payload


def payload_at(buffer: bytes, offset: int, size: int, int_size: int) -> bytes:
    """Return the payload of the block at an address.

    Parameters
    ----------
    buffer
        Bytes of (part of) a multi-block member.
    offset, size
        Where the block lies in ``buffer``, and its size including the prefix, in bytes.
    int_size
        Size of the prefix in bytes.

    Raises
    ------
    ValueError
        If the block is cut off, or its prefix disagrees with the address.
    """
    if offset + size > len(buffer):
        raise ValueError(f"block at {offset} of {size} bytes is cut off at {len(buffer)}")
    stated = int.from_bytes(buffer[offset : offset + int_size], "big")
    if stated != size - int_size:
        raise ValueError(f"block at {offset} states {stated} bytes, its address {size - int_size}")
    return buffer[offset + int_size : offset + size]


def walk(buffer: bytes, int_size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) of every block of a multi-block member, in file order.

    Raises
    ------
    ValueError
        If the last block is cut off.
    """
    offset, end = 0, len(buffer)
    while offset < end:
        size = int_size + int.from_bytes(buffer[offset : offset + int_size], "big")
        if offset + size > end:
            raise ValueError(f"block at {offset} of {size} bytes is cut off at {end}")
        yield offset, size
        offset += size


def offsets(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where consecutive blocks of the given sizes begin."""
    result = np.zeros(len(sizes), dtype=np.int64)
    np.cumsum(sizes[:-1], out=result[1:])
    return result


_GROUP_SIZE = 1 << 22


def groups(sizes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return ranges of consecutive blocks (first, first after) that can be in memory at once.

    Parameters
    ----------
    sizes
        Sizes of the blocks in bytes, shape (n,).

    Returns
    -------
    ranges
        All blocks; those of each but the last block of a range come to a few megabytes.
    """
    first = np.flatnonzero(np.diff(offsets(sizes) // _GROUP_SIZE, prepend=-1))
    return list(itertools.pairwise([*first.tolist(), len(sizes)]))


def train_dictionary(samples: Sequence[bytes], size: int) -> bytes:
    """Return a dictionary of at most ``size`` bytes, or nothing if the samples don't give one."""
    if size <= 0 or len(samples) < 10:
        return b""
    try:
        return zstandard.train_dictionary(size, list(samples)).as_bytes()
    except zstandard.ZstdError:
        # Too few or too uniform samples: a worse compression, no reason to fail a run.
        return b""
