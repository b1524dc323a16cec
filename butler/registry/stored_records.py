"""Attributes of dimension records that file templates need, from a repository's database.

A provenance graph has no dimension data, unlike the predicted graph
(see `aggregator.butler.dimensions.records`).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from aggregator.butler.dimensions import records, universe
from aggregator.butler.registry import batch, registry

Key = tuple[batch.Value, ...]
"""Values of the dimensions that a record's element requires."""


def read(
    source: registry.Registry,
    dimensions: universe.Universe,
    attributes: Mapping[str, Collection[str]],
    keys: Mapping[str, Collection[Key]],
) -> records.RecordTable:
    """Return attributes of some records.

    Parameters
    ----------
    source
        The repository's database.
    dimensions
        Dimensions of the graph.
    attributes
        Names of the attributes needed of each element.
    keys
        Which records of each element.
    """
    return records.RecordTable.build(dimensions, attributes, _rows(source, dimensions, keys))


def _rows(
    source: registry.Registry, dimensions: universe.Universe, keys: Mapping[str, Collection[Key]]
) -> Iterator[tuple[str, list[Any]]]:
    for element, chosen in keys.items():
        if not chosen:
            continue
        columns, n_keys = dimensions.record_columns(element), len(dimensions.required(element))
        for record in source.dimensions.records(element):
            row = [record.get(name) for name in columns]
            if tuple(row[:n_keys]) in chosen:
                yield element, row
