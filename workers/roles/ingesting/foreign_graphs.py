"""Graphs that name a run with other datasets, as when a graph was built again: told by their outputs."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from aggregator.butler.datastores import catalog
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import batch, dataset_type_rows, registry
from aggregator.schemas import messages
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors
from aggregator.workers.roles import given_graph

_FIRST: Final = 50
"""Datasets that are looked up at first. Mostly these are all, since the first ones are in the database."""

_TOGETHER: Final = 4000
"""Datasets that are looked up at once after that."""

_QUANTA: Final = 500
"""Predicted quanta that are read at once."""


class Output(NamedTuple):
    """An output of a graph."""

    dataset_id: str
    """Id, dashed."""

    dataset_type: str
    """Name of its type."""

    coordinate: bytes
    """JSON list of the full data ID's values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a run holds of a graph."""

    is_held: bool
    """Whether it holds outputs of the graph, under their ids."""

    taken: batch.Conflict | None = None
    """If it does not: an output whose data ID it holds under another id."""


class Comparison:
    """Compares outputs of a graph with what its run holds.

    Parameters
    ----------
    source
        The repository's database, open for writing, as comparisons need temporary tables.
    run
        RUN collection.
    types
        The graph's pipeline.
    """

    def __init__(self, source: registry.Registry, run: str, types: pipeline.Pipeline) -> None:
        self._registry = source
        self._run = run
        dimensions = universe.Universe.from_config(types.universe)
        rows = source.dataset_types.registered([kind.name for kind in types.dataset_types])
        self._types: dict[str, tuple[dataset_type_rows.DatasetTypeRow, list[int]]] = {}
        for kind in types.dataset_types:
            row, group = rows.get(kind.name), dimensions.group(kind.dimensions)
            # No dataset of another definition can be meant.
            if row is not None and set(row.required) <= set(group.keys):
                self._types[kind.name] = row, [group.keys.index(name) for name in row.required]

    def find(self, outputs: Iterable[Output]) -> Finding:
        """Go through outputs until one is found that the run holds under its id."""
        taken: batch.Conflict | None = None
        datasets = (self._dataset(each) for each in outputs if each.dataset_type in self._types)
        number = _FIRST
        while some := list(itertools.islice(datasets, number)):
            number = _TOGETHER
            result = self._registry.datasets.rehearse(self._run, batch.Batch(some, []))
            if result.n_skipped:
                return Finding(True)
            ids = {dataset_id for dataset_id, _, _ in some}
            for each in result.conflicts:
                if each.kind is batch.ConflictKind.DATA_ID and each.other_id not in ids:
                    taken = taken or each
        return Finding(False, taken)

    def _dataset(self, output: Output) -> batch.Dataset:
        row, positions = self._types[output.dataset_type]
        values = catalog.decode_values(output.coordinate)
        digits = output.dataset_id.replace("-", "").lower()
        return digits, row, tuple([values[position] for position in positions])


def refuse(setup: messages.Setup, run: str, repository: str, source: registry.Registry) -> None:
    """Refuse a predicted graph if its run is that of another one.

    Parameters
    ----------
    setup
        Names the predicted graph.
    run
        Its run.
    repository
        Name of the repository, for messages.
    source
        Its database, open for writing.

    Raises
    ------
    RefusedError
        If the run holds none of the graph's outputs, but some of their data IDs under other ids.
    """
    if not source.datasets.has_any(run):
        return
    with given_graph.open_graph(setup) as graph:
        finding = Comparison(source, run, graph.pipeline).find(_predicted_outputs(graph))
    if finding.taken is not None:
        raise errors.RefusedError(
            f"{setup.graph_path}: run {run!r} of {repository} holds nothing of this graph but of another, "
            f"as {finding.taken}. Give the graph that was executed in this run, or the repository that it "
            "was executed in."
        )


def _predicted_outputs(graph: predicted.PredictedGraph) -> Iterator[Output]:
    """Yield all outputs of a predicted graph, those of init quanta first."""
    for quantum in itertools.chain(graph.init_quanta(), _regular_quanta(graph)):
        for datasets in quantum.outputs.values():
            for each in datasets:
                yield Output(each.dataset_id, each.dataset_type_name, bytes(each.data_coordinate))


def _regular_quanta(graph: predicted.PredictedGraph) -> Iterator[predicted.Quantum]:
    table = graph.address_table()
    order = table.offsets[:, 0].argsort(kind="stable")
    for begin in range(0, len(order), _QUANTA):
        rows = order[begin : begin + _QUANTA]
        for quantum, _ in graph.read_quanta(table.offsets[rows, 0], table.sizes[rows, 0]):
            yield quantum
