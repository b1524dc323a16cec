"""From the datasets that a graph holds to their rows in the database and their original files."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import catalog, datastore
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import (
    batch,
    dataset_type_rows,
    graph_places,
    ingested_graphs,
    registry,
    stored_records,
)
from aggregator.graph_ingestion import originals
from aggregator.schemas.graphs import addresses, backed_datasets, provenance_graph
from aggregator.storage import errors

Getter = Callable[[catalog.Values], tuple[batch.Value, ...]]


class DatasetRows:
    """Knows rows and files of all datasets that a graph holds.

    Parameters
    ----------
    repository
        Configuration of the repository.
    source
        Its database.
    graph
        The graph.
    names
        Names of the types of these datasets.
    where
        Where the graph is, or goes.

    Raises
    ------
    RefusedError
        If datasets of some type could not be read from a graph, or files of a type can't be predicted.
    AggregatorError
        If a type is not registered, or is another one in the repository.
    """

    def __init__(
        self,
        repository: repository_config.RepositoryConfig,
        source: registry.Registry,
        graph: provenance_graph.ProvenanceGraph,
        names: Iterable[str],
        where: ingested_graphs.Places,
    ) -> None:
        self._registry = source
        self._run = graph.header.output_run
        self._dimensions = universe.Universe.from_config(graph.pipeline.universe)
        self._store = datastore.Datastore(repository, self._dimensions)
        chosen = set(names)
        self._definitions = {t.name: t for t in graph.pipeline.dataset_types if t.name in chosen}
        self._repository = repository
        self._types: dict[str, dataset_type_rows.DatasetTypeRow] = {}
        self._getters: dict[str, Getter] = {}
        self.find_types()
        self._stores = [store.name for store in repository.datastores]
        self._places = {place.store.name: place for place in where}
        self._attributes = self._needed_attributes()
        self._keys: dict[str, set[stored_records.Key]] = {element: set() for element in self._attributes}
        self._key_getters = self._make_key_getters(graph)
        self._pipeline = graph.pipeline
        self._entries = self._make_entries()

    def find_types(self) -> None:
        """Look up the dataset types; their keys can be others after a fail-over.

        Raises
        ------
        RefusedError
            If one of them is of a kind that can't be backed by a graph.
        AggregatorError
            If one is not registered, or with another definition.
        """
        for name, kind in self._definitions.items():
            if kind.storage_class not in backed_datasets.READABLE:
                raise errors.RefusedError(
                    f"Dataset type {name!r} has storage class {kind.storage_class}; from a graph, only "
                    f"{', '.join(sorted(backed_datasets.READABLE))} can be read."
                )
        rows = self._registry.dataset_types.rows(self._definitions)
        for name, kind in self._definitions.items():
            definition = self._registry.dataset_types.definition(
                name, kind.storage_class, kind.dimensions, kind.is_calibration
            )
            dataset_type_rows.check(self._repository.path, rows[name], definition)
        self._types = rows
        self._getters = {}

    def _needed_attributes(self) -> dict[str, set[str]]:
        """Return the record attributes that paths depend on."""
        instruments: list[str | None] = [None]
        if "instrument" in self._registry.universe:
            instruments += [r["name"] for r in self._registry.dimensions.records("instrument")]
        needed: dict[str, set[str]] = {}
        for name, kind in self._definitions.items():
            group = self._dimensions.group(kind.dimensions)
            requests = [
                (name, kind.storage_class, group, instrument)
                for instrument in instruments
                if ("instrument" in group.names) == (instrument is not None)
            ]
            for request in requests:
                plan = self._store.plan(*request)
                if not any(self._stores[file.store] in self._places for file in plan.files):
                    raise errors.RefusedError(
                        f"Dataset type {name!r}: no datastore accepts both it and the graph; see "
                        "'constraints' in butler.yaml."
                    )
                for element, attribute in plan.needed:
                    needed.setdefault(element, set()).add(attribute)
        return needed

    def _make_key_getters(self, graph: provenance_graph.ProvenanceGraph) -> dict[str, list[tuple[str, Any]]]:
        """Return for each task how to take the keys of needed records out of a data ID."""
        result = {}
        for task in graph.pipeline.tasks:
            keys = self._dimensions.group(task.dimensions).keys
            result[task.label] = [
                (element, _picker([keys.index(name) for name in self._dimensions.required(element)]))
                for element in self._attributes
                if element in keys
            ]
        return result

    def note(self, quanta: Iterable[tuple[str, bytes]]) -> None:
        """Note which dimension records are going to be needed, from tasks and data coordinates."""
        for task, coordinate in quanta:
            if getters := self._key_getters[task]:
                values = catalog.decode_values(coordinate)
                for element, pick in getters:
                    self._keys[element].add(pick(values))

    def read_records(self) -> None:
        """Read the records that were noted; nothing can be translated before."""
        self._store.set_records(
            stored_records.read(self._registry, self._dimensions, self._attributes, self._keys)
        )
        self._entries = self._make_entries()
        self._keys.clear()

    def _make_entries(self) -> dict[str, catalog.Entry]:
        self._catalog = catalog.Catalog(self._pipeline, self._dimensions, self._store)
        return {entry.definition.name: entry for entry in self._catalog.entries}

    def translate(
        self, backed: Iterable[backed_datasets.Backed]
    ) -> tuple[batch.Batch, dict[str, list[originals.Original]]]:
        """Return the rows of datasets as the graph backs them, and the original files by dataset type."""
        datasets: list[batch.Dataset] = []
        rows: list[batch.File] = []
        files: dict[str, list[originals.Original]] = {name: [] for name in self._types}
        size = max(place.size for place in self._places.values())
        for dataset_id, name, coordinate in backed:
            entry, row = self._entries[name], self._types[name]
            values = catalog.decode_values(coordinate)
            datasets.append((dataset_id, row, self._required(name, entry, row)(values)))
            dashed = addresses.dashed(dataset_id)
            for file in self._catalog.plan(entry, values).files:
                store = self._stores[file.store]
                key = file.path(values, self._run, dashed)
                files[name].append(originals.Original(file.store, key, dataset_id, name))
                place = self._places.get(store)
                if place is not None:
                    table, kind = place.store.records_table, entry.definition.storage_class
                    rest = graph_places.FORMATTER, kind, None
                    rows.append((table, store, dataset_id, place.recorded, *rest))
        return batch.Batch(datasets, rows, size), files

    def _required(self, name: str, entry: catalog.Entry, row: dataset_type_rows.DatasetTypeRow) -> Getter:
        getter = self._getters.get(name)
        if getter is None:
            getter = self._getters[name] = _picker([entry.group.keys.index(key) for key in row.required])
        return getter


def _picker(positions: list[int]) -> Getter:
    """Return a function that takes some values out of a tuple, as a tuple."""
    if len(positions) > 1:
        return operator.itemgetter(*positions)
    return lambda values: tuple([values[position] for position in positions])
