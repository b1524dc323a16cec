"""Files that are read here and there, wherever they are: of a large remote one little is fetched."""

from __future__ import annotations

import abc
import collections
import errno
import io
import logging
import os
import time
from collections.abc import Iterator
from typing import Final, Self

from aggregator.storage import (
    durable_files,
    errors,
    in_flight,
    local_files,
    local_store,
    machine_trouble,
    stores,
)

_log = logging.getLogger(__name__)

_BLOCK: Final = 1 << 13
"""Bytes that are fetched at least, from a multiple of them on."""

_TAIL: Final = (1 << 16) + 2 * _BLOCK
"""Bytes at the end that are fetched together: archives tell there what they hold, and where."""

_MOST_KEPT: Final = 512
"""Blocks that are kept for the next read."""

_LARGE: Final = 1 << 18
"""Bytes from which on a read is not kept: whoever goes through all of a file comes by just once."""


_PART: Final = 1 << 23
"""Bytes of a part, if all of a file is fetched; too many to be kept."""

_PARTS_AT_ONCE: Final = 4

_TOLD_SECONDS: Final = 30.0
"""How often it is told how far that is."""


class RandomAccess(abc.ABC):
    """A file, open for reading; used by one thread at a time."""

    name: str
    """Its path or URI."""

    size: int
    """Its bytes when it was opened."""

    tag: bytes
    """Tells it from others that have its place before or afterwards (see `stores.Mark`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Close it; may be called again."""

    @abc.abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Return bytes; fewer if it ends before.

        Raises
        ------
        MachineError
            If nobody knows them: trouble of the machine, or another file has taken its place.
        """

    def stream(self) -> io.RawIOBase:
        """Return it as a file with a position, which need not be closed."""
        return _Stream(self)


class LocalFile(RandomAccess):
    """A file of this host, which stays the same if another one gets its name.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError, UnusableError, MachineError
        As for `local_files.open_file`.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._fd, status = local_files.open_with_status(path)
        mark = local_store.mark_of(status)
        self.size, self.tag = mark.size, mark.tag

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes."""
        return machine_trouble.watched(self.name, durable_files.read_range, self._fd, offset, size)


class StoredFile(RandomAccess):
    """An object of a store, as it was when it was opened.

    Parameters
    ----------
    store, key
        Where it is.

    Raises
    ------
    FileNotFoundError
        If it is certainly not there.
    UnusableError, MachineError
        As for `Store.mark`.
    """

    def __init__(self, store: stores.Store, key: str) -> None:
        self.name = store.location(key)
        self._store = store
        self._key = key
        mark = store.mark(key)
        if mark is None:
            raise FileNotFoundError(2, "No such object", self.name)
        self.size, self.tag = mark.size, mark.tag
        self._kept: collections.OrderedDict[int, bytes] = collections.OrderedDict()

    def close(self) -> None:
        """Forget what was kept."""
        self._kept.clear()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes, kept ones if possible."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        if size > _LARGE:
            return self._fetch(offset, offset + size)
        numbers = range(offset // _BLOCK, (offset + size - 1) // _BLOCK + 1)
        if missing := [number for number in numbers if number not in self._kept]:
            self._load(missing[0], missing[-1])
        for number in numbers:
            self._kept.move_to_end(number)
        data = b"".join(map(self._kept.__getitem__, numbers))
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        begin = offset - numbers[0] * _BLOCK
        return data[begin : begin + size]

    def _load(self, first: int, last: int) -> None:
        """Fetch and keep blocks."""
        end = (last + 1) * _BLOCK
        if end >= self.size:
            first = min(first, max(0, self.size - _TAIL) // _BLOCK)
        begin = first * _BLOCK
        data = self._fetch(begin, min(end, self.size))
        for place in range(0, len(data), _BLOCK):
            self._kept[(begin + place) // _BLOCK] = data[place : place + _BLOCK]

    def _fetch(self, begin: int, end: int) -> bytes:
        try:
            data = self._store.read_range(self._key, begin, end - begin, self.tag)
        except (FileNotFoundError, stores.ChangedError) as exc:
            raise errors.MachineError(self.name, "was replaced or removed while it was read") from exc
        except local_files.UnusableError as exc:
            raise errors.MachineError(self.name, str(exc)) from exc
        if len(data) != end - begin:
            raise errors.MachineError(self.name, f"gave {len(data)} bytes instead of {end - begin}")
        return data


def pieces(file: RandomAccess) -> Iterator[bytes]:
    """Yield all of a file, several parts of it being fetched at a time.

    Raises
    ------
    MachineError
        As for `RandomAccess.read`.
    """
    began = told = time.monotonic()
    n_done = 0
    with in_flight.Requests(_PARTS_AT_ONCE) as requests:
        for piece in requests.map(lambda begin: file.read(begin, _PART), range(0, file.size, _PART)):
            yield piece
            n_done += len(piece)
            if time.monotonic() - told > _TOLD_SECONDS:
                told = time.monotonic()
                rate = n_done / (told - began)
                _log.info(
                    "%s: %.0f of %.0f MB, %.0f MB/s", file.name, n_done / 1e6, file.size / 1e6, rate / 1e6
                )


class _Stream(io.RawIOBase):
    """The file for libraries that want a position."""

    def __init__(self, file: RandomAccess) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self._file.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
