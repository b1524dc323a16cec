"""The parts of a predicted graph's file, made of a skeleton (quantum-graph-format.md sections 5 and 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import registry, searches
from aggregator.execution.graph_building import graph_nodes
from aggregator.execution.pipelines import pipeline_graph
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import addresses, pipeline

Files = Mapping[str, Sequence[tuple[str, datastore_records.FileRecord]]]
"""Records of files, with their datastores, by dataset id."""


@dataclasses.dataclass(frozen=True, slots=True)
class GraphParts:
    """A graph, before it is written."""

    skeleton: graph_nodes.Skeleton
    """Its quanta and datasets."""

    graph: pipeline_graph.PipelineGraph
    """Its pipeline."""

    pipeline_json: bytes
    """The document of the pipeline."""

    files: Files
    """Records of overall inputs."""

    dimension_rows: Sequence[tuple[str, list[Any]]]
    """Element and row of each dimension record."""

    def datasets(self) -> dict[str, graph_nodes.DatasetNode]:
        """Return all datasets that something reads or writes, `packages` aside, by id."""
        return datasets(self.skeleton)

    def quantum_documents(self) -> Iterator[bytes]:
        """Yield the document of each quantum (section 6.4)."""
        for quantum in self.skeleton.all_quanta():
            init_inputs = self.skeleton.init_inputs[quantum.task.label]
            read = [
                each
                for group in (quantum.connected_inputs, init_inputs)
                for m in group.values()
                for each in m
            ]
            yield msgspec.json.encode(
                self._quantum(
                    quantum.id,
                    quantum.task.label,
                    quantum.data_id.coordinate,
                    quantum.connected_inputs,
                    quantum.connected_outputs,
                    read,
                )
            )

    def init_quanta(self, new_id: Any) -> bytes:
        """Return the document of init quanta (section 6.2).

        Parameters
        ----------
        new_id
            Makes ids.
        """
        place = self.skeleton.packages
        assert place is not None
        packages = {
            "dataset_id": addresses.dashed(place.id),
            "dataset_type_name": pipeline.PACKAGES_TYPE,
            "data_coordinate": [],
            "run": place.run,
        }
        quanta = [self._quantum(new_id(), "", (), {}, {}, [])]
        quanta[0]["outputs"] = {pipeline.PACKAGES_TYPE: [packages]}
        for label, outputs in self.skeleton.init_outputs.items():
            inputs = self.skeleton.init_inputs[label]
            read = [each for members in inputs.values() for each in members]
            quanta.append(self._quantum(new_id(), label, (), inputs, outputs, read))
        return msgspec.json.encode(quanta)

    def _quantum(
        self,
        quantum_id: str,
        label: str,
        coordinate: Sequence[Any],
        inputs: graph_nodes.Members,
        outputs: graph_nodes.Members,
        read: Iterable[graph_nodes.DatasetNode],
    ) -> dict[str, Any]:
        return {
            "quantum_id": addresses.dashed(quantum_id),
            "task_label": label,
            "data_coordinate": list(coordinate),
            "inputs": {name: list(map(_dataset, members)) for name, members in inputs.items()},
            "outputs": {name: list(map(_dataset, members)) for name, members in outputs.items()},
            "datastore_records": datastore_records.document(self._records(read)),
        }

    def _records(
        self, read: Iterable[graph_nodes.DatasetNode]
    ) -> dict[str, frozenset[datastore_records.FileRecord]]:
        by_store: dict[str, set[datastore_records.FileRecord]] = {}
        for dataset in read:
            assert dataset.place is not None
            for store, record in self.files.get(dataset.place.id, ()) if dataset.is_overall else ():
                by_store.setdefault(store, set()).add(record)
        return {store: frozenset(rows) for store, rows in by_store.items()}

    def edges(self) -> set[tuple[str, str]]:
        """Return the ids of all pairs of quanta of which one reads what the other writes."""
        producers = {
            id(dataset): quantum.id
            for quantum in self.skeleton.all_quanta()
            for members in quantum.connected_outputs.values()
            for dataset in members
        }
        return {
            (producers[id(dataset)], quantum.id)
            for quantum in self.skeleton.all_quanta()
            for members in quantum.connected_inputs.values()
            for dataset in members
            if id(dataset) in producers
        }


def _dataset(dataset: graph_nodes.DatasetNode) -> dict[str, Any]:
    assert dataset.place is not None
    return {
        "dataset_id": addresses.dashed(dataset.place.id),
        "dataset_type_name": dataset.kind.name,
        "data_coordinate": list(dataset.data_id.coordinate),
        "run": dataset.place.run,
    }


def datasets(skeleton: graph_nodes.Skeleton) -> dict[str, graph_nodes.DatasetNode]:
    """Return all datasets that something reads or writes, `packages` aside, by id."""
    groups = [*skeleton.init_inputs.values(), *skeleton.init_outputs.values()]
    for quantum in skeleton.all_quanta():
        groups += [quantum.connected_inputs, quantum.connected_outputs]
    return {
        each.place.id: each
        for group in groups
        for members in group.values()
        for each in members
        if each.place
    }


def dimension_rows(source: registry.Registry, skeleton: graph_nodes.Skeleton) -> list[tuple[str, list[Any]]]:
    """Return the dimension records of all data IDs of a graph (section 6.3)."""
    data_ids = {each.data_id for each in datasets(skeleton).values()}
    data_ids |= {quantum.data_id for quantum in skeleton.all_quanta()}
    keys: dict[str, set[searches.Values]] = {}
    for data_id in data_ids:
        for name in data_id.dimensions.elements:
            required = source.universe.required(name)
            keys.setdefault(name, set()).add(tuple([data_id[n] for n in required]))
    rows: list[tuple[str, list[Any]]] = []
    for name in source.universe.elements:
        if name in keys and not source.universe.element(name).skypix:
            rows += _rows(source, source.universe, name, keys[name])
    return rows


def _rows(
    source: registry.Registry, dimensions: universe.Universe, name: str, keys: set[searches.Values]
) -> Iterator[tuple[str, list[Any]]]:
    columns, n_keys = dimensions.record_columns(name), len(dimensions.required(name))
    first = {key[0] for key in keys if key}
    narrowed = {dimensions.required(name)[0]: first.pop()} if len(first) == 1 else {}
    for record in source.dimensions.records(name, **narrowed):
        row = [record.get(column) for column in columns]
        if tuple(row[:n_keys]) in keys:
            yield name, [_plain(value) for value in row]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value
