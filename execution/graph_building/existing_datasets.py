"""Datasets that exist: overall inputs, and outputs of an earlier run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Final

from aggregator.butler.registry import collection_rows, registry, searches
from aggregator.execution.graph_building import data_id_search, graph_nodes
from aggregator.execution.pipelines import pipeline_graph
from aggregator.schemas.graphs import pipeline

NO_VALUES: Final = ()
"""Values of a data ID without dimensions."""

_Places = dict[str, dict[searches.Values, searches.Place]]


@dataclasses.dataclass(frozen=True, slots=True)
class Collections:
    """Where datasets are looked for, with chains replaced by their members."""

    inputs: Sequence[collection_rows.CollectionRow]
    """Collections with inputs."""

    skipped: Sequence[collection_rows.CollectionRow]
    """Collections with outputs of quanta that need not run again."""

    output_run: Sequence[collection_rows.CollectionRow]
    """The output run, if it exists."""


class ExistingDatasets:
    """Looks for datasets by type.

    Parameters
    ----------
    source
        The repository's database.
    collections
        Where they are looked for.
    registered
        Dataset types of the repository.
    """

    def __init__(
        self, source: registry.Registry, collections: Collections, registered: data_id_search.Registered
    ) -> None:
        self._source = source
        self._collections = collections
        self._registered = registered
        self.skippable: _Places = {}
        """Outputs in collections that count as done."""
        self.in_the_way: _Places = {}
        """Outputs in the output run."""

    def look_for_all(self, skeleton: graph_nodes.Skeleton, graph: pipeline_graph.PipelineGraph) -> None:
        """Find all overall inputs that are no prerequisites, and all outputs that exist."""
        for name, datasets in skeleton.datasets.items():
            kind = graph.dataset_types[name]
            if kind.producer is not None:
                self._look_for_outputs(name, [NO_VALUES] if kind.is_init else list(datasets))
            elif not kind.is_prerequisite and not kind.is_init:
                self.attach(datasets)
        self._look_for_outputs(pipeline.PACKAGES_TYPE, [NO_VALUES])

    def attach(self, datasets: dict[searches.Values, graph_nodes.DatasetNode]) -> None:
        """Find overall inputs of one type."""
        name = next(iter(datasets.values())).kind.name if datasets else ""
        for key, place in self.inputs(name, list(datasets)).items():
            datasets[key].place, datasets[key].is_overall = place, True

    def inputs(
        self, name: str, data_ids: Collection[searches.Values]
    ) -> dict[searches.Values, searches.Place]:
        """Return the inputs of one type, for data IDs that have one."""
        row = self._registered.get(name)
        if row is None or not data_ids:
            return {}
        data_id_search.refuse_calibrations(self._source, row, self._collections.inputs)
        return self._source.searches.find(row, self._collections.inputs, data_ids)

    def is_registered(self, name: str) -> bool:
        """Return whether there can be datasets of a type."""
        return name in self._registered

    def _look_for_outputs(self, name: str, data_ids: Collection[searches.Values]) -> None:
        row = self._registered.get(name)
        for places, collections in (
            (self.skippable, self._collections.skipped),
            (self.in_the_way, self._collections.output_run),
        ):
            places[name] = {} if row is None else self._source.searches.find(row, collections, data_ids)
