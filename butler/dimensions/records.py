"""Attributes of dimension records that file templates need, in a form small enough for every scanner.

The rows come from the dimension data of a predicted graph (quantum-graph-format.md section 6.3); only the
wanted attributes are kept (butler-repository.md section 9.2).
"""

from __future__ import annotations

import array
import bisect
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgpack
from aggregator.butler.dimensions import universe as universe_module
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class _Block:
    """Records that share all key values but the last, searchable by that one."""

    keys: array.array[int] | list[str]
    """Last key values, sorted."""

    offsets: array.array[int]
    """Where each record starts in ``rows``, and its end: one more entry than ``keys``."""

    rows: bytes
    """The records, each a packed list of attribute values."""

    def find(self, key: int | str) -> list[Any] | None:
        i = bisect.bisect_left(self.keys, key)
        if i == len(self.keys) or self.keys[i] != key:
            return None
        values: list[Any] = msgpack.unpackb(self.rows[self.offsets[i] : self.offsets[i + 1]])
        return values


@dataclasses.dataclass(frozen=True, slots=True)
class _Element:
    """All records of one dimension."""

    attributes: tuple[str, ...]
    """Names of the attributes kept."""

    blocks: dict[tuple[int | str, ...], _Block]
    """Blocks by the key values before the last."""


class RecordTable:
    """Lookup of record attributes by data ID values; an empty one has no records at all.

    About 60 bytes for a record with one short string, so 200 000 visits cost some 12 MB.
    """

    def __init__(self, elements: Mapping[str, _Element] | None = None) -> None:
        self._elements = dict(elements or {})

    @classmethod
    def build(
        cls,
        universe: universe_module.Universe,
        names_by_element: Mapping[str, Collection[str]],
        rows: Iterable[tuple[str, Sequence[Any]]],
    ) -> RecordTable:
        """Keep what is wanted of the dimension data.

        Parameters
        ----------
        universe
            Dimensions of the graph.
        names_by_element
            Names of the attributes wanted of each element.
        rows
            Element and row of each record; those of other elements are passed over.

        Raises
        ------
        aggregator.storage.errors.AggregatorError
            A row does not have as many values as the element has columns.
        """
        columns = {element: universe.record_columns(element) for element in names_by_element}
        attributes = {element: tuple(sorted(names)) for element, names in names_by_element.items()}
        places = {e: [columns[e].index(name) for name in attributes[e]] for e in names_by_element}
        blocks_by_element: dict[str, dict[tuple[Any, ...], dict[Any, bytes]]] = {
            element: {} for element in names_by_element
        }
        for element, row in rows:
            if element not in blocks_by_element:
                continue
            if len(row) != len(columns[element]):
                raise errors.AggregatorError(
                    f"Dimension data of the graph: a row of {element!r} has {len(row)} values instead of "
                    f"{len(columns[element])}; the graph is damaged or of an unknown version."
                )
            last = len(universe.required(element)) - 1
            block = blocks_by_element[element].setdefault(tuple(row[:last]), {})
            block[row[last]] = msgpack.packb([row[place] for place in places[element]])
        return cls(
            {
                element: _Element(attributes[element], {key: _block(rows) for key, rows in blocks.items()})
                for element, blocks in blocks_by_element.items()
            }
        )

    def find(self, element: str, key: tuple[int | str, ...]) -> dict[str, Any] | None:
        """Return the kept attributes of a record, or `None` if there is no such record.

        Parameters
        ----------
        element
            Name of the dimension.
        key
            Values of its required dimensions, in order.
        """
        records = self._elements.get(element)
        block = records.blocks.get(key[:-1]) if records is not None else None
        values = block.find(key[-1]) if block is not None else None
        if records is None or values is None:
            return None
        return dict(zip(records.attributes, values, strict=True))

    def pack(self) -> bytes:
        """Return the table as bytes, for a file or another process of the same machine."""
        packed: bytes = msgpack.packb(
            [
                (element, records.attributes, [(key, *_pack_block(b)) for key, b in records.blocks.items()])
                for element, records in self._elements.items()
            ]
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> RecordTable:
        """Return the table that `pack` wrote."""
        return cls(
            {
                element: _Element(tuple(attributes), {tuple(key): _unpack_block(*b) for key, *b in blocks})
                for element, attributes, blocks in msgpack.unpackb(packed)
            }
        )


def _block(rows: Mapping[Any, bytes]) -> _Block:
    keys = sorted(rows)
    offsets = array.array("Q", [0])
    for key in keys:
        offsets.append(offsets[-1] + len(rows[key]))
    text = isinstance(keys[0], str)
    return _Block(keys if text else array.array("q", keys), offsets, b"".join(rows[key] for key in keys))


def _pack_block(block: _Block) -> tuple[list[str] | bytes, bytes, bytes]:
    keys = block.keys if isinstance(block.keys, list) else block.keys.tobytes()
    return keys, block.offsets.tobytes(), block.rows


def _unpack_block(keys: list[str] | bytes, offsets: bytes, rows: bytes) -> _Block:
    starts = array.array("Q")
    starts.frombytes(offsets)
    if isinstance(keys, list):
        return _Block(keys, starts, rows)
    numbers = array.array("q")
    numbers.frombytes(keys)
    return _Block(numbers, starts, rows)
