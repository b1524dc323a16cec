"""UUIDs as PostgreSQL sends them by COPY in its binary form."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import psycopg

_ROW: Final = np.dtype([("n_fields", ">i2"), ("size", ">i4"), ("id", "S16")])
"""A row of one UUID."""

_AT_ONCE: Final = 10_000
"""UUIDs taken together."""

_HEAD_SIZE: Final = 19
"""Bytes before the first row of COPY in binary form; two come after the last."""


def pieces(copy: psycopg.Copy) -> Iterator[bytes]:
    """Yield what COPY sends of one column of UUIDs, 16 bytes each."""
    pending = bytearray()
    head = _HEAD_SIZE
    for data in copy:
        pending += data
        if head and len(pending) >= head:
            del pending[:head]
            head = 0
        if not head and len(pending) >= _AT_ONCE * _ROW.itemsize:
            whole = len(pending) // _ROW.itemsize * _ROW.itemsize
            yield _ids_of(pending[:whole])
            del pending[:whole]
    # What is left over is the end mark.
    yield _ids_of(pending[: len(pending) // _ROW.itemsize * _ROW.itemsize])


def _ids_of(rows: bytearray) -> bytes:
    return np.frombuffer(rows, dtype=_ROW)["id"].tobytes()
