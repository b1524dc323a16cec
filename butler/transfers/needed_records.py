"""Which dimension records datasets need: those of their data IDs, and of what belongs to these.

Implements transfer.md section 1.1: the elements of a data ID, then relations that are populated by one of its
dimensions (a visit brings its exposures, systems and detectors), then what these refer to.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from aggregator.butler.registry import record_rows, registry
from aggregator.butler.transfers import key_sets
from aggregator.schemas import bundle

_Key = record_rows.Key
_Keys = dict[str, key_sets.KeySet]
"""Keys of records by element."""

_AT_ONCE: Final = 10_000
"""Keys in one statement."""


class NeededRecords:
    """Gathers data IDs, and finds the records that they need.

    Parameters
    ----------
    source
        The repository.
    """

    def __init__(self, source: registry.Registry) -> None:
        self._source = source
        self._universe = source.universe
        self._keys: _Keys = {}
        self._getters: dict[
            tuple[str, ...], list[tuple[str, Callable[[tuple[bundle.Value, ...]], _Key]]]
        ] = {}

    def add(self, required: tuple[str, ...], data_ids: Iterable[tuple[bundle.Value, ...]]) -> None:
        """Add data IDs, given the required dimensions that they have values of."""
        if required not in self._getters:
            self._getters[required] = list(self._getters_of(required))
        values = list(data_ids)
        for element, get in self._getters[required]:
            self._set(self._keys, element).update(map(get, values))

    def _getters_of(
        self, required: tuple[str, ...]
    ) -> Iterator[tuple[str, Callable[[tuple[bundle.Value, ...]], _Key]]]:
        """Yield the elements whose records a data ID names, and what makes the key from its values."""
        for element in self._universe.group(required).elements:
            names = self._universe.required(element)
            if self._universe.has_table(element) and set(names) <= set(required):
                places = [required.index(name) for name in names]
                yield element, (_one(places[0]) if len(places) == 1 else operator.itemgetter(*places))

    def _set(self, keys: _Keys, element: str) -> key_sets.KeySet:
        if element not in keys:
            keys[element] = key_sets.KeySet(len(self._universe.required(element)))
        return keys[element]

    def batches(self) -> Iterator[bundle.DimensionRecords]:
        """Iterate over all records needed, elements in universe order."""
        self._add_implied(self._keys)
        self._add_populated()
        for element in self._universe.elements:
            for keys in self._pieces(self._keys, element):
                if rows := self._source.holdings.records(element, keys):
                    yield self._batch(element, rows)

    def _pieces(self, keys: _Keys, element: str) -> Iterator[set[_Key]]:
        return keys[element].pieces(_AT_ONCE) if element in keys else iter(())

    def _batch(self, element: str, rows: list[record_rows.Row]) -> bundle.DimensionRecords:
        entry = self._universe.element(element)
        pixels: list[record_rows.Row] = []
        if entry.spatial is not None:
            get = record_rows.key_getter(entry, entry.required)
            pixels = self._source.holdings.overlaps(element, set(map(get, rows)))
        return bundle.DimensionRecords(element, self._universe.record_columns(element), rows, pixels)

    def _add_implied(self, keys: _Keys) -> None:
        """Add what records imply; what is implied comes earlier in the universe."""
        for element in reversed(self._universe.elements):
            entry = self._universe.element(element)
            implied = [name for name in entry.implied if self._universe.has_table(name)]
            if not implied or not keys.get(element):
                continue
            getters = [(n, record_rows.key_getter(entry, self._universe.required(n))) for n in implied]
            for some in self._pieces(keys, element):
                rows = self._source.holdings.records(element, some)
                for name, get in getters:
                    self._set(keys, name).update(map(get, rows))

    def _add_populated(self) -> None:
        """Add the relations that tell more about a dimension, with what these refer to."""
        further: _Keys = {}
        for element in self._universe.elements:
            dimension = self._universe.element(element).populated_by
            if dimension is None or not self._universe.has_table(element):
                continue
            # One that the data IDs name already would bring more than these want.
            if self._keys.get(element) or not self._keys.get(dimension):
                continue
            names = self._universe.required(dimension)
            for some in self._pieces(self._keys, dimension):
                self._set(further, element).update(self._source.holdings.related(element, names, some))
        referred = self._referred(further)
        self._add_implied(referred)
        for keys in (further, referred):
            for element in keys:
                for some in self._pieces(keys, element):
                    self._set(self._keys, element).update(some)

    def _referred(self, relations: _Keys) -> _Keys:
        """Return the keys of the dimensions that records of relations name."""
        referred: _Keys = {}
        for element in relations:
            required = self._universe.required(element)
            for name in required:
                places = [required.index(each) for each in self._universe.required(name)]
                for keys in self._pieces(relations, element):
                    named = {tuple([key[place] for place in places]) for key in keys}
                    for other, get in self._getters_of(self._universe.required(name)):
                        self._set(referred, other).update(map(get, named))
        return referred


def _one(place: int) -> Callable[[tuple[bundle.Value, ...]], _Key]:
    return lambda values: (values[place],)
