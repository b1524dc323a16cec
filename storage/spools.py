"""Bytes that are gathered before they can be written: in memory if they are few, else in a file."""

import os
from collections.abc import Iterator
from typing import IO

import xxhash
from aggregator.storage import durable_files

_MOST_IN_MEMORY = 1 << 23
_PIECE = 1 << 20


class Spool:
    """Bytes in the making.

    Parameters
    ----------
    path
        Beside this a file is made if need be, which has no name and so is gone with the process.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        # One piece of memory, since small ones keep freed ones around them from going back to the system.
        self._buffer = bytearray()
        self._stream: IO[bytes] | None = None
        self._state = xxhash.xxh3_128()
        self.size = 0
        """Number of bytes."""

    def close(self) -> None:
        """Give the file back."""
        if self._stream is not None:
            self._stream.close()

    def append(self, data: bytes) -> None:
        """Add bytes.

        Raises
        ------
        AggregatorError
            If there is no room for the file.
        """
        self._buffer += data
        if len(self._buffer) > _MOST_IN_MEMORY:
            self._move()

    def _move(self) -> None:
        """Move what is in memory to the file."""
        with durable_files.writing(self._path):
            if self._stream is None:
                name = durable_files.temporary_name(self._path)
                self._stream = open(name, "x+b")  # noqa: SIM115
                os.unlink(name)
            self._stream.write(self._buffer)
        self._count()
        self._buffer = bytearray()

    def _count(self) -> None:
        self._state.update(self._buffer)
        self.size += len(self._buffer)

    def finish(self) -> bytes:
        """Return the checksum, like that of digests; nothing can be added any more."""
        if self._stream is None:
            self._count()
        else:
            self._move()
        return self._state.digest()

    def content(self) -> Iterator[bytes | memoryview]:
        """Yield everything in pieces, after `finish`."""
        if self._stream is None:
            yield memoryview(self._buffer)
            return
        with durable_files.writing(self._path):
            self._stream.seek(0)
            while piece := self._stream.read(_PIECE):
                yield piece
