"""Parts of a graph's dataset section: the outputs of a shard, or a range of overall inputs.

A part is a prefix (what it was made from, the checksum of all that follows, numbers of edges, length of the
table), the table, and the blocks in the order of the table.
"""

import os
import shutil
import struct
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
from aggregator.schemas.checkpoints import digest
from aggregator.storage import durable_files, errors, local_files

ROW = np.dtype([("id", "S16"), ("size", "<i8"), ("row", "<i4"), ("role", "u1")])
"""A dataset: id, size of its block, row of its producer in the shard, its role. Parts are sorted by id."""

_PREFIX = struct.Struct("<16s16sQQQ")
_KEY_SIZE = 16


class Part:
    """A part opened for reading.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    FormatError
        If it is missing or truncated.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._stream = os.fdopen(local_files.open_file(path), "rb")
        except (OSError, local_files.UnusableError) as exc:
            raise errors.FormatError(path, "", f"can't open it ({exc})") from exc
        try:
            prefix = self._read(_PREFIX.size)
            self.key, self._checksum, self.n_edges, self.n_shared, self._length = _PREFIX.unpack(prefix)
            self.n_rows: int = self._length // ROW.itemsize
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise errors.FormatError(self._path, "", "part of the dataset section is truncated; run again")
        return data

    def rows(self, begin: int, end: int) -> npt.NDArray[Any]:
        """Return some rows of the table."""
        self._stream.seek(_PREFIX.size + begin * ROW.itemsize)
        return np.frombuffer(self._read((end - begin) * ROW.itemsize), dtype=ROW)

    def copy_blocks(self, out: IO[bytes]) -> None:
        """Append all blocks to a stream."""
        self._stream.seek(_PREFIX.size + self._length)
        shutil.copyfileobj(self._stream, out, 1 << 20)

    def is_sound(self) -> bool:
        """Return whether the content is what was written."""
        self._stream.seek(_PREFIX.size)
        checksum = digest.checksum(self._stream.read())
        return checksum == bytes(self._checksum)


def key(opened: digest.Digest, verdicts: bytes) -> bytes:
    """Return what stands for everything that a shard's part is made from: its digest and its verdicts.

    The consumers are no part of it, since they come from the graph that the digest belongs to.
    """
    return digest.checksum(opened.checksum.encode() + verdicts)


def write(
    path: str,
    made_from: bytes,
    table: npt.NDArray[Any],
    blocks: list[bytes],
    *,
    n_edges: int,
    n_shared: int = 0,
) -> None:
    """Write a part so that it appears complete; if it does not survive a crash, its checksum tells.

    Parameters
    ----------
    path
        Path of the file.
    made_from
        Key of the part, 16 bytes; zeros if nobody will ask.
    table, blocks
        The datasets, sorted by id: `ROW` and block of each.
    n_edges
        Number of consumers in all blocks.
    n_shared
        How many of them take the dataset for an overall input.
    """
    rows = table.tobytes()
    content = rows + b"".join(blocks)
    prefix = _PREFIX.pack(made_from, digest.checksum(content), n_edges, n_shared, len(rows))
    temporary = durable_files.temporary_name(path)
    with durable_files.writing(path), open(temporary, "xb") as stream:
        stream.write(prefix + content)
    os.rename(temporary, path)


NO_KEY = bytes(_KEY_SIZE)
"""Key of a part that no later run looks for."""
