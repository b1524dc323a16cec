"""Which datasets a graph tells of: overall inputs, outputs, and init outputs (transfer.md section 7.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from aggregator.butler.dimensions import universe
from aggregator.butler.transfers import dataset_selection
from aggregator.schemas import bundle, output_kinds
from aggregator.schemas.graphs import addresses, pipeline, predicted, provenance_graph
from aggregator.storage import uris


@dataclasses.dataclass(frozen=True, slots=True)
class GraphDatasets:
    """Datasets of a graph."""

    inputs: addresses.Ids
    """Ids of the overall inputs, sorted."""

    outputs: addresses.Ids
    """Ids of the outputs of quanta, sorted; of a provenance graph, those that were produced."""

    init_outputs: addresses.Ids
    """Ids of the outputs of init quanta, sorted."""

    run: str
    """Output run."""

    output_types: tuple[bundle.DatasetType, ...]
    """Types of the outputs."""

    init_output_types: tuple[bundle.DatasetType, ...]
    """Types of the outputs of init quanta."""


class _Gathered:
    """Ids of datasets, 16 bytes each, and the names of their types."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.types: set[str] = set()

    def add(self, datasets: Iterable[tuple[str, str]]) -> None:
        for dataset_id, dataset_type in datasets:
            self._data += bytes.fromhex(dataset_id.replace("-", ""))
            self.types.add(dataset_type)

    @property
    def ids(self) -> addresses.Ids:
        ids: addresses.Ids = np.unique(np.frombuffer(bytes(self._data), addresses.ID_TYPE))
        return ids


def read(path: str) -> GraphDatasets:
    """Return the datasets of a predicted or a provenance graph.

    Raises
    ------
    RefusedError
        If it is missing, or no graph.
    FormatError
        If it is damaged.
    """
    location = uris.absolute(path)
    if output_kinds.is_provenance_graph(location):
        return _of_provenance(location)
    inputs, outputs, inits = _Gathered(), _Gathered(), _Gathered()
    with predicted.PredictedGraph(location) as graph:
        for quantum in graph.init_quanta():
            inputs.add(_named(quantum.inputs))
            inits.add(_named(quantum.outputs))
        table = graph.address_table()
        for quantum, _ in graph.read_quanta(*_places(table)):
            inputs.add(_named(quantum.inputs))
            outputs.add(_named(quantum.outputs))
        return _summed(inputs, outputs, inits, graph.header.output_run, graph.pipeline)


def _places(table: addresses.AddressTable) -> tuple[addresses.Integers, addresses.Integers]:
    offsets, sizes = table.offsets[:, 0], table.sizes[:, 0]
    rows = np.flatnonzero(sizes)
    rows = rows[offsets[rows].argsort(kind="stable")]
    return offsets[rows], sizes[rows]


def _named(connections: dict[str, list[predicted.Dataset]]) -> Iterator[tuple[str, str]]:
    for datasets in connections.values():
        for dataset in datasets:
            yield dataset.dataset_id, dataset.dataset_type_name


def _of_provenance(path: str) -> GraphDatasets:
    inputs, outputs, inits = _Gathered(), _Gathered(), _Gathered()
    with provenance_graph.ProvenanceGraph(path) as graph:
        init_quanta = {quantum.quantum_id for quantum in graph.init_quanta()}
        for dataset in graph.datasets():
            one = [(dataset.dataset_id, dataset.dataset_type_name)]
            if dataset.producer is None:
                inputs.add(one)
            elif dataset.producer in init_quanta:
                inits.add(one)
            elif dataset.produced:
                outputs.add(one)
        return _summed(inputs, outputs, inits, graph.header.output_run, graph.pipeline)


def _summed(
    inputs: _Gathered, outputs: _Gathered, inits: _Gathered, run: str, pipeline_: pipeline.Pipeline
) -> GraphDatasets:
    made = np.unique(np.concatenate([outputs.ids, inits.ids]))
    overall = inputs.ids
    dimensions = universe.Universe.from_config(pipeline_.universe)
    types = {each.name: each for each in pipeline_.dataset_types}

    def definitions(names: set[str]) -> tuple[bundle.DatasetType, ...]:
        some = (types[name] for name in sorted(names & types.keys()))
        return tuple(
            bundle.DatasetType(
                each.name, each.storage_class, dimensions.group(each.dimensions).required, each.is_calibration
            )
            for each in some
        )

    return GraphDatasets(
        overall[~addresses.are_in(overall, made)],
        outputs.ids,
        inits.ids,
        run,
        definitions(outputs.types),
        definitions(inits.types),
    )


def select(
    selection: dataset_selection.Selection, path: str, *, inputs: bool, outputs: bool, init_outputs: bool
) -> dataset_selection.Selection:
    """Return a selection with datasets of a graph besides; all of them, if nothing is said.

    Inputs have to be there. Of outputs, run and types are wanted, and those that exist.

    Parameters
    ----------
    selection
        The selection.
    path
        The graph.
    inputs, outputs, init_outputs
        Which datasets are wanted.
    """
    datasets = read(path)
    is_all = not (inputs or outputs or init_outputs)
    possible: list[str] = []
    types: list[bundle.DatasetType] = []
    if outputs or is_all:
        possible += addresses.hex_digits(datasets.outputs)
        types += datasets.output_types
    if init_outputs or is_all:
        possible += addresses.hex_digits(datasets.init_outputs)
        types += datasets.init_output_types
    given = addresses.hex_digits(datasets.inputs) if inputs or is_all else []
    return dataclasses.replace(
        selection,
        ids=(*selection.ids, *given),
        possible_ids=(*selection.possible_ids, *possible),
        runs=(*selection.runs, *((datasets.run,) if types else ())),
        definitions=(*selection.definitions, *types),
    )
