"""Look-up in an address file without loading it (quantum-graph-format.md section 4)."""

import bisect
from collections.abc import Iterator

import numpy as np
from aggregator.schemas.graphs import addresses, container
from aggregator.storage import errors

_PAGE_SIZE = 1 << 16
"""Bytes of rows that one look-up reads, besides first ids of pages."""

_KEPT_PAGES = 16
"""Pages that are kept for the next look-up."""

_LARGEST_INTEGER = 8
"""Bytes of an integer, at most."""

_PART_ROWS = 1 << 16
"""Rows that are read at once if all are."""


class AddressFile:
    """Rows of an address file, found by binary search over pages.

    Parameters
    ----------
    source
        File with the member.
    member
        Name of the address file.
    n_addresses
        Addresses of each row.
    int_size
        Bytes per integer that the graph's header says.

    Raises
    ------
    FormatError
        If the member is missing, truncated or of another shape.
    """

    def __init__(self, source: container.Container, member: str, n_addresses: int, int_size: int) -> None:
        self._source = source
        self._member = member
        self._n_addresses = n_addresses
        total = source.size(member)
        head = source.read(member, 0, min(addresses.header_size(_LARGEST_INTEGER), total))
        self._int_size, self.n_rows = addresses.parse_header(head, source.path, member, n_addresses)
        if self._int_size != int_size:
            raise errors.FormatError(source.path, member, "int_size differs from the header's")
        self._start = addresses.header_size(int_size)
        self._row_size = addresses.row_size(int_size, n_addresses)
        if total != self._start + self.n_rows * self._row_size:
            raise errors.FormatError(source.path, member, f"its {total} bytes do not make {self.n_rows} rows")
        self._page_rows = max(1, _PAGE_SIZE // self._row_size)
        self._first_ids: dict[int, bytes] = {}
        self._pages: dict[int, tuple[bytes, addresses.Ids]] = {}

    def find(self, node_id: bytes) -> list[tuple[int, int]] | None:
        """Return the (offset, size) addresses of a node, or nothing if it has no row."""
        pages = range(-(-self.n_rows // self._page_rows))
        page = bisect.bisect_right(pages, node_id, key=self._first_id) - 1
        if page < 0:
            return None
        data, ids = self._load(page)
        row = int(np.searchsorted(ids, np.frombuffer(node_id, dtype=addresses.ID_TYPE))[0])
        if row == len(ids) or addresses.id_at(ids, row) != node_id:
            return None
        size, place = self._int_size, row * self._row_size + 16 + self._int_size
        numbers = [
            int.from_bytes(data[start : start + size], "big")
            for start in range(place, place + 2 * size * self._n_addresses, size)
        ]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def tables(self) -> Iterator[addresses.AddressTable]:
        """Yield all rows in parts of a few megabytes."""
        for begin in range(0, self.n_rows, _PART_ROWS):
            n_rows = min(_PART_ROWS, self.n_rows - begin)
            data = self._source.read(
                self._member, self._start + begin * self._row_size, n_rows * self._row_size
            )
            yield addresses.parse_rows(data, self._int_size, self._n_addresses)

    def table(self, with_index: bool) -> addresses.AddressTable:
        """Return all rows.

        Parameters
        ----------
        with_index
            Whether also integer names; else there are none in the table.

        Raises
        ------
        FormatError
            If ids are not sorted and unique.
        """
        shape = (self.n_rows, self._n_addresses)
        offsets, sizes = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        ids = np.empty(self.n_rows, dtype=addresses.ID_TYPE)
        index = np.empty(self.n_rows if with_index else 0, dtype=np.int64)
        begin = 0
        # As they are in the file, they would take as much memory again.
        for part in self.tables():
            rows = slice(begin, begin := begin + len(part.ids))
            ids[rows], offsets[rows], sizes[rows] = part.ids, part.offsets, part.sizes
            if with_index:
                index[rows] = part.index
        if not (ids[:-1] < ids[1:]).all():
            raise errors.FormatError(self._source.path, self._member, "ids are not sorted, or not unique")
        return addresses.AddressTable(self._int_size, ids, index, offsets, sizes)

    def _first_id(self, page: int) -> bytes:
        """Return the first id of a page; kept, since every search begins with the same pages."""
        if page not in self._first_ids:
            offset = self._start + page * self._page_rows * self._row_size
            self._first_ids[page] = self._source.read(self._member, offset, 16)
        return self._first_ids[page]

    def _load(self, page: int) -> tuple[bytes, addresses.Ids]:
        """Return a page and its ids; some are kept, since related nodes are often made at the same time."""
        if page not in self._pages:
            begin = page * self._page_rows
            n_rows = min(self._page_rows, self.n_rows - begin)
            data = self._source.read(
                self._member, self._start + begin * self._row_size, n_rows * self._row_size
            )
            raw = np.frombuffer(data, dtype=np.uint8).reshape(n_rows, self._row_size)
            ids = np.ascontiguousarray(raw[:, :16]).view(addresses.ID_TYPE)[:, 0]
            if not (ids[:-1] < ids[1:]).all():
                raise errors.FormatError(self._source.path, self._member, "ids are not sorted, or not unique")
            if len(self._pages) == _KEPT_PAGES:
                self._pages.pop(next(iter(self._pages)))
            self._pages[page] = data, ids
        return self._pages[page]
