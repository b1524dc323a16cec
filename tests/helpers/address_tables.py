"""Address files that are in no graph."""

from __future__ import annotations

from typing import Any

from aggregator.schemas.graphs import address_file, addresses


class Member:
    """A member of a graph by itself.

    Parameters
    ----------
    data
        Its content.
    """

    path = "graph.qg"

    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self, _member: str) -> int:
        """Return its size."""
        return len(self._data)

    def read(self, _member: str, offset: int, size: int) -> bytes:
        """Return a part of it."""
        return self._data[offset : offset + size]


def read(data: bytes, member: str, n_addresses: int, int_size: int) -> addresses.AddressTable:
    """Return what an address file tells."""
    source: Any = Member(data)
    return address_file.AddressFile(source, member, n_addresses, int_size).table(with_index=True)
