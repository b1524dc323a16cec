"""Parts of a graph's dataset section, on disk for the time of writing the graph.

A part is the length of its table (8 bytes, little-endian), the table, and the blocks in its order.
"""

import os
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from schemas import errors, files

ROW = np.dtype([("id", "S16"), ("size", "<i8"), ("shard", "<i4"), ("row", "<i4"), ("role", "u1")])
"""A dataset: id, size of its block, its producer's shard (-1 for none) and row there, its role."""


def write(path: str, table: npt.NDArray[Any], blocks: list[bytes]) -> None:
    """Write a part; it needs no sync, since a graph in the making does not survive anyway."""
    temporary = files.temporary_name(path)
    with open(temporary, "wb") as stream:
        stream.write(table.nbytes.to_bytes(8, "little"))
        stream.write(table.tobytes())
        stream.writelines(blocks)
    os.rename(temporary, path)


def read_table(stream: BinaryIO, path: str) -> npt.NDArray[Any]:
    """Return the table; the stream is then at the first block."""
    length = int.from_bytes(stream.read(8), "little")
    data = stream.read(length)
    if len(data) != length or length % ROW.itemsize:
        raise errors.FormatError(path, "", "part of the dataset section is truncated; run again")
    return np.frombuffer(data, dtype=ROW)
