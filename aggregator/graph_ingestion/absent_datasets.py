"""Outputs that a graph tells of and the database lacks, though their files are there.

Aggregation has not brought them into the database yet, or a backup of that was put back. Once the graph is
ingested it can't do so any more.
"""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from aggregator.butler.datastores import catalog, datastore
from aggregator.butler.dimensions import records, universe
from aggregator.butler.registry import stored_records
from aggregator.graph_ingestion import ingestion_request
from aggregator.schemas.graphs import addresses, nodes, provenance_graph
from aggregator.storage import errors

Table = records.RecordTable


class Finding(NamedTuple):
    """Files of datasets that the database lacks."""

    n_datasets: int
    """Number of these datasets."""

    path: str
    """File of the first one; empty if there is none."""


class _Dataset(NamedTuple):
    dataset_id: str
    dataset_type: str
    values: catalog.Values


class _Files:
    """Knows where the files of a graph's datasets are."""

    def __init__(
        self, request: ingestion_request.Request, graph: provenance_graph.ProvenanceGraph, table: Table
    ) -> None:
        dimensions = universe.Universe.from_config(graph.pipeline.universe)
        store = datastore.Datastore(request.repository, dimensions, mock_storage_classes=True)
        store.set_records(table)
        self._run = request.run
        self._stores = [each.files for each in store.stores]
        self._types = catalog.Catalog(graph.pipeline, dimensions, store)
        self._entries = {entry.definition.name: entry for entry in self._types.entries}

    def needed(self, dataset: _Dataset) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield element and attribute of each record that paths depend on, with the values of the data ID."""
        entry = self._entries[dataset.dataset_type]
        # Where a type's files go may not be known; aggregation refuses it as well.
        with contextlib.suppress(errors.RefusedError):
            for element, attribute in self._types.plan(entry, dataset.values).needed:
                yield element, attribute, dict(zip(entry.group.keys, dataset.values, strict=True))

    def first(self, dataset: _Dataset) -> str:
        """Return a file of a dataset that is there; empty if there is none."""
        # If a record is missing, no path can be told.
        with contextlib.suppress(errors.AggregatorError):
            for file in self._types.plan(self._entries[dataset.dataset_type], dataset.values).files:
                key = file.path(dataset.values, self._run, dataset.dataset_id)
                if self._stores[file.store].is_there(key):
                    return self._stores[file.store].location(key)
        return ""


def find(
    request: ingestion_request.Request, graph: provenance_graph.ProvenanceGraph, promised: Collection[str]
) -> Finding:
    """Look for files of datasets that the database lacks; those that somebody has deleted do not count.

    Parameters
    ----------
    request
        The request.
    graph
        The graph.
    promised
        Names of the dataset types that need not be in the database until the graph is ingested.
    """
    absent = [
        _Dataset(each.dataset_id, each.dataset_type_name, catalog.decode_values(bytes(each.data_coordinate)))
        for each in _absent(request, graph)
        if each.dataset_type_name not in promised
    ]
    if not absent:
        return Finding(0, "")
    files = _Files(request, graph, _read_records(request, graph, absent))
    paths = [path for each in absent if (path := files.first(each))]
    return Finding(len(paths), paths[0] if paths else "")


def _absent(
    request: ingestion_request.Request, graph: provenance_graph.ProvenanceGraph
) -> Iterator[nodes.Dataset]:
    """Yield the datasets that were produced in the run and are not in the database."""
    present = request.registry.datasets.ids(request.run)
    for table in graph.address_rows():
        sizes, offsets = table.sizes[:, nodes.DATASETS], table.offsets[:, nodes.DATASETS]
        rows = np.flatnonzero((sizes > 0) & ~addresses.are_in(table.ids, present))
        rows = rows[offsets[rows].argsort(kind="stable")]
        for each in graph.read_blocks(nodes.DATASETS, offsets[rows], sizes[rows], nodes.decode_dataset):
            if each.produced and each.producer is not None and each.run == request.run:
                yield each


def _read_records(
    request: ingestion_request.Request, graph: provenance_graph.ProvenanceGraph, datasets: list[_Dataset]
) -> Table:
    """Read the records that the paths of datasets depend on."""
    dimensions = universe.Universe.from_config(graph.pipeline.universe)
    files = _Files(request, graph, Table())
    attributes: dict[str, set[str]] = {}
    keys: dict[str, set[stored_records.Key]] = {}
    for each in datasets:
        for element, attribute, values in files.needed(each):
            attributes.setdefault(element, set()).add(attribute)
            key = tuple(values[name] for name in dimensions.required(element))
            keys.setdefault(element, set()).add(key)
    return stored_records.read(request.registry, dimensions, attributes, keys)
