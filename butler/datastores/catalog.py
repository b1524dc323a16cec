"""The dataset types of a graph, with everything resolved that scanning and ingesting need of them."""

import dataclasses
from typing import Any

import msgspec
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import universe
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors

Values = tuple[int | str, ...]
"""Full data-ID values, required and then implied."""

_values_decoder = msgspec.json.Decoder(tuple[int | str, ...])


def decode_values(coordinate: bytes) -> Values:
    """Return the values of a data coordinate from its JSON list."""
    return _values_decoder.decode(coordinate)


@dataclasses.dataclass(slots=True)
class Entry:
    """A dataset type of the graph."""

    index: int
    """Position in the pipeline's order."""

    definition: pipeline.DatasetType
    """What the pipeline graph says of it."""

    group: universe.Group
    """Its dimensions."""

    instrument_at: int | None
    """Position of the instrument in its data IDs."""

    plans: dict[Any, datastore.DatasetPlan]
    """Where its files go, by instrument; filled when needed."""


class Catalog:
    """The dataset types of a graph.

    Parameters
    ----------
    graph
        The predicted graph's pipeline.
    graph_universe
        Its dimension universe.
    store
        Where the repository keeps files.
    """

    def __init__(
        self, graph: pipeline.Pipeline, graph_universe: universe.Universe, store: datastore.Datastore
    ) -> None:
        self.store = store
        self.entries: list[Entry] = []
        for index, definition in enumerate(graph.dataset_types):
            group = graph_universe.group(definition.dimensions)
            at = group.keys.index("instrument") if "instrument" in group.keys else None
            self.entries.append(Entry(index, definition, group, at, {}))
        self._by_name = {entry.definition.name: entry for entry in self.entries}

    def entry(self, dataset: predicted.Dataset) -> Entry:
        """Return the dataset type of a predicted dataset."""
        try:
            return self._by_name[dataset.dataset_type_name]
        except KeyError:
            raise errors.AggregatorError(
                f"dataset type {dataset.dataset_type_name!r} of dataset {dataset.dataset_id} "
                "is not in the pipeline graph; build the graph again"
            ) from None

    def plan(self, entry: Entry, values: Values) -> datastore.DatasetPlan:
        """Return where the files of a dataset go."""
        instrument = None if entry.instrument_at is None else values[entry.instrument_at]
        plan = entry.plans.get(instrument)
        if plan is None:
            if len(values) != len(entry.group.keys):
                raise errors.AggregatorError(
                    f"a data ID of {entry.definition.name!r} has {len(values)} values, "
                    f"its dimensions {len(entry.group.keys)}; build the graph again"
                )
            plan = self.store.plan(
                entry.definition.name,
                entry.definition.storage_class,
                entry.group,
                None if instrument is None else str(instrument),
            )
            entry.plans[instrument] = plan
        return plan
