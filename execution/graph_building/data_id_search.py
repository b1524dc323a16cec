"""The quanta and datasets that there may be: all combinations of dimensions that fit a query."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from aggregator.butler.dimensions import expressions, universe
from aggregator.butler.registry import (
    batch,
    collection_rows,
    data_id_joins,
    dataset_type_rows,
    new_ids,
    registry,
    searches,
)
from aggregator.execution.graph_building import graph_nodes
from aggregator.execution.pipelines import pipeline_graph
from aggregator.storage import errors

Registered = Mapping[str, dataset_type_rows.DatasetTypeRow]
"""Dataset types of the repository, by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataQuery:
    """Which data IDs are asked for."""

    condition: expressions.Term | None
    """An expression."""

    dimensions: frozenset[str]
    """Dimensions that it is about."""

    data_id: Mapping[str, batch.Value]
    """Values that all have."""

    overlaps: searches.Pairs | None
    """Data IDs that belong together."""


def data_query(
    text: str,
    data_id: Mapping[str, batch.Value],
    overlaps: searches.Pairs | None,
    dimensions: universe.Universe,
) -> DataQuery:
    """Return a data query.

    Raises
    ------
    RefusedError
        If an expression is none, or does not say of which governor its dimensions are.
    """
    condition = expressions.parse(text)
    names = data_id_joins.check_columns(dimensions, condition)
    given = names | data_id.keys()
    for name in sorted(names):
        for governor in dimensions.group([name]).governors:
            if governor not in given:
                raise errors.RefusedError(
                    f"The data query {text!r} is about {name!r} without saying of which {governor}; add "
                    f"{governor} = '...'."
                )
    return DataQuery(condition, frozenset(names), data_id, overlaps)


class DataIdSearch:
    """Makes quanta and datasets of a pipeline graph.

    Parameters
    ----------
    source
        The repository's database.
    graph
        The pipeline.
    query
        Which data IDs are asked for.
    collections
        Collections that inputs are looked for in.
    registered
        Dataset types of the repository.
    """

    def __init__(
        self,
        source: registry.Registry,
        graph: pipeline_graph.PipelineGraph,
        query: DataQuery,
        collections: Sequence[collection_rows.CollectionRow],
        registered: Registered,
    ) -> None:
        self._source = source
        self._graph = graph
        self._query = query
        self._collections = collections
        self._registered = registered

    def skeleton(self) -> graph_nodes.Skeleton:
        """Return all quanta and datasets that there may be.

        Raises
        ------
        RefusedError
            If dimensions would have to be joined in a way that this version can't do.
        """
        skeleton = graph_nodes.Skeleton(
            {label: {} for label in self._graph.tasks}, {name: {} for name in self._graph.dataset_types}
        )
        has_used_overlaps = False
        for part in self._graph.parts():
            has_used_overlaps |= self._add_part(skeleton, part)
        if self._query.overlaps is not None and not has_used_overlaps:
            raise errors.RefusedError(
                f"The table of overlaps is about {', '.join(self._query.overlaps.dimensions)}, but no part "
                "of the "
                "pipeline has all of these dimensions."
            )
        return skeleton

    def _add_part(self, skeleton: graph_nodes.Skeleton, part: list[pipeline_graph.TaskNode]) -> bool:
        """Add tasks that depend on each other; return whether the overlaps are used for them."""
        dimensions, types = self._source.universe, self._types(part)
        groups = [node.dimensions for node in part] + [kind.dimensions for kind in types.values()]
        names = {name for group in groups for name in group.names}
        whole = dimensions.group(names | self._query.dimensions | self._query.data_id.keys())
        pairs = self._pairs(whole, part)
        unions = {
            (node.label, name): dimensions.group({*node.dimensions.names, *types[name].dimensions.names})
            for node in part
            for name in _type_names(node)
        }
        request = data_id_joins.Request(
            whole,
            self._query.condition,
            self._query.data_id,
            [self._constraint(k) for k in types.values() if k.constrains],
        )
        wanted = {group.names for group in (*groups, *unions.values())}
        rows = self._source.searches.project(request, pairs, wanted)
        self._add_nodes(skeleton, part, types, rows)
        self._add_edges(skeleton, part, unions, rows)
        return pairs is not None

    def _types(self, part: Iterable[pipeline_graph.TaskNode]) -> dict[str, pipeline_graph.TypeNode]:
        return {name: self._graph.dataset_types[name] for node in part for name in _type_names(node)}

    def _constraint(self, kind: pipeline_graph.TypeNode) -> data_id_joins.Search:
        row = self._registered.get(kind.name)
        if row is None:
            raise errors.RefusedError(
                f"Dataset type {kind.name!r}, which the pipeline begins with, is not registered in the "
                "repository, so "
                "there are none. Look at the names in the pipeline, and ingest them first."
            )
        refuse_calibrations(self._source, row, self._collections)
        return data_id_joins.Search(row, [each.id for each in self._collections])

    def _pairs(self, whole: universe.Group, part: list[pipeline_graph.TaskNode]) -> searches.Pairs | None:
        """Return the overlaps, if these dimensions have them; refuse those that need others."""
        overlaps, dimensions = self._query.overlaps, self._source.universe
        pairs = overlaps if overlaps is not None and set(overlaps.dimensions) <= set(whole.names) else None
        families: dict[str, list[str]] = {}
        for name in whole.elements:
            entry = dimensions.element(name)
            family = name if entry.skypix else entry.spatial
            if family is not None:
                families.setdefault(family, []).append(name)
        joined = set(pairs.dimensions) if pairs is not None else set[str]()
        apart = [
            members[-1]
            for members in families.values()
            if not any(joined.issuperset(dimensions.required(name)) for name in members)
        ]
        if len(families) > 1 and apart:
            tasks, columns = [node.label for node in part], [m[-1] for m in families.values()]
            needed = dict.fromkeys(name for each in columns for name in dimensions.required(each))
            raise errors.RefusedError(
                f"Tasks {', '.join(tasks)} need to know which {' and '.join(columns)} overlap on the sky. "
                "This version "
                "does not compare regions: give a table (--overlaps FILE), a CSV file with columns "
                f"{','.join(needed)}."
            )
        return pairs

    def _add_nodes(
        self,
        skeleton: graph_nodes.Skeleton,
        part: Iterable[pipeline_graph.TaskNode],
        types: Mapping[str, pipeline_graph.TypeNode],
        rows: Mapping[tuple[str, ...], set[searches.Values]],
    ) -> None:
        for name, kind in types.items():
            for data_id in graph_nodes.data_ids(kind.dimensions, rows[kind.dimensions.names]):
                skeleton.datasets[name].setdefault(
                    graph_nodes.required(data_id), graph_nodes.DatasetNode(kind, data_id)
                )
        for node in part:
            for data_id in graph_nodes.data_ids(node.dimensions, rows[node.dimensions.names]):
                inputs: graph_nodes.Members = {
                    pipeline_graph.parent(each): [] for each in node.group("inputs").values()
                }
                outputs: graph_nodes.Members = {each.dataset_type: [] for each in node.outputs.values()}
                quantum = graph_nodes.QuantumNode(node, data_id, new_ids.new(), inputs, outputs)
                skeleton.quanta[node.label][graph_nodes.required(data_id)] = quantum

    def _add_edges(
        self,
        skeleton: graph_nodes.Skeleton,
        part: Iterable[pipeline_graph.TaskNode],
        unions: Mapping[tuple[str, str], universe.Group],
        rows: Mapping[tuple[str, ...], set[searches.Values]],
    ) -> None:
        for node in part:
            quanta = skeleton.quanta[node.label]
            for name in _type_names(node):
                union, kind = unions[node.label, name], self._graph.dataset_types[name]
                from_quantum = [union.names.index(n) for n in node.dimensions.required]
                from_dataset = [union.names.index(n) for n in kind.dimensions.required]
                is_output = kind.producer == node.label
                for row in sorted(rows[union.names]):
                    quantum = quanta[tuple([row[place] for place in from_quantum])]
                    dataset = skeleton.datasets[name][tuple([row[place] for place in from_dataset])]
                    (quantum.outputs if is_output else quantum.inputs)[name].append(dataset)


def _type_names(node: pipeline_graph.TaskNode) -> list[str]:
    """Return the dataset types that quanta of a task read or write, prerequisites aside."""
    inputs = [pipeline_graph.parent(each) for each in node.group("inputs").values()]
    return list(dict.fromkeys([*inputs, *(each.dataset_type for each in node.outputs.values())]))


def refuse_calibrations(
    source: registry.Registry,
    row: dataset_type_rows.DatasetTypeRow,
    collections: Iterable[collection_rows.CollectionRow],
) -> None:
    """Refuse datasets that would have to be chosen by the time for which they are valid.

    Raises
    ------
    RefusedError
        If one of the collections has some.
    """
    if row.is_calibration and (names := source.searches.calibrated(row, collections)):
        raise errors.RefusedError(
            f"Dataset type {row.name!r}: collection {names[0]!r} has calibrations with times of validity, "
            "which this "
            "version can't choose from. Give a RUN or TAGGED collection with those to use."
        )
