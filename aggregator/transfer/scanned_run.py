"""The run of a predicted graph in a repository, as its files tell of it: judged as aggregation judges it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

import numpy as np

from aggregator.aggregation import file_plans
from aggregator.butler.configuration import repository_config
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import addresses, pipeline, predicted
from aggregator.schemas.jobs import stories
from aggregator.storage import in_flight, stores
from aggregator.workers.roles.scanning import execution_files, quantum_reader


class OutputPlace(NamedTuple):
    """Where a file of an output is, or would be."""

    store: stores.Store
    """Its store."""

    key: str
    """Its key there."""

    component: str | None
    """Component that it holds; nothing if it holds the whole dataset."""

    formatter: str
    """Qualified name of the formatter class."""

    storage_class: str
    """Storage class of what it holds."""

    datastore: str
    """Name of its datastore."""

    @property
    def location(self) -> str:
        """Path or URI."""
        return self.store.location(self.key)


class ScannedRun:
    """A run.

    Parameters
    ----------
    graph_path
        Its predicted graph.
    repository
        The repository.

    Raises
    ------
    RefusedError
        If one of them is none, or the configuration does not say where outputs go.
    """

    def __init__(self, graph_path: str, repository: str) -> None:
        self.config = repository_config.load(repository)
        self.graph = predicted.PredictedGraph(graph_path)
        try:
            plans = file_plans.plan(self.graph, self.config, False)
            plans.read_records(self.graph)
            self.table = self.graph.address_table()
        except BaseException:
            self.graph.close()
            raise
        self._stores = [each.files for each in plans.types.store.stores]
        self._requests = in_flight.Requests()
        self._files = execution_files.ExecutionFiles(plans.types, self._requests)
        self._reader = quantum_reader.QuantumReader(
            self._files, self._requests, lambda pieces: b"", stories.Stories.unpack(b"")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._requests.close()
        self.graph.close()

    def find(self, quantum_id: str) -> predicted.Quantum | None:
        """Return a quantum by its id; nothing if the graph has none of that id."""
        target = addresses.parse_ids([quantum_id])
        row = int(np.searchsorted(self.table.ids, target)[0])
        if row == len(self.table.ids) or self.table.ids[row] != target[0]:
            return None
        return self.graph.read_quantum(int(self.table.offsets[row, 0]), int(self.table.sizes[row, 0]))

    def readings(self) -> Iterator[quantum_reader.Reading]:
        """Yield what the files of each quantum tell.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        order = np.argsort(self.table.offsets[:, 0], kind="stable")
        quanta = self.graph.read_quanta(self.table.offsets[order, 0], self.table.sizes[order, 0])
        self._requests.measure()
        ahead = self._requests.ahead((quantum for quantum, _ in quanta), self._reader.begin)
        for reading in self._reader.complete(map(self._reader.read, ahead)):
            assert isinstance(reading, quantum_reader.Reading)
            yield reading

    def places(self, dataset: predicted.Dataset) -> list[list[OutputPlace]]:
        """Return where the files of an output are, or would be, by datastore."""
        self._files.forget()
        by_store: dict[int, list[OutputPlace]] = {}
        for planned, key in self._files.places(dataset):
            component = None if planned.component == datastore_records.NO_COMPONENT else planned.component
            name = self.config.datastores[planned.store].name
            how = planned.formatter, planned.storage_class, name
            place = OutputPlace(self._stores[planned.store], key, component, *how)
            by_store.setdefault(planned.store, []).append(place)
        return list(by_store.values())


def outputs(quantum: predicted.Quantum) -> Iterable[predicted.Dataset]:
    """Return all outputs of a quantum."""
    return itertools.chain.from_iterable(quantum.outputs.values())


_LATE: Final = {pipeline.METADATA_CONNECTION: 1, pipeline.LOG_CONNECTION: 2}


def in_order(quantum: predicted.Quantum) -> list[predicted.Dataset]:
    """Return all outputs of a quantum as execution writes them: metadata and log come last."""
    connections = sorted(quantum.outputs, key=lambda name: _LATE.get(name, 0))
    return [dataset for name in connections for dataset in quantum.outputs[name]]
