"""Where the files of all dataset types go, worked out before anything is done."""

import dataclasses
from collections.abc import Iterable

from aggregator.butler.configuration import repository_config as butler_config
from aggregator.butler.datastores import catalog, datastore
from aggregator.butler.dimensions import records, universe
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class FilePlans:
    """The dataset types of a graph with the plans of their files."""

    types: catalog.Catalog
    """The dataset types."""

    needed: dict[str, set[str]]
    """Record attributes that the paths depend on, by dimension."""

    def read_records(self, graph: predicted.PredictedGraph) -> records.RecordTable:
        """Return these attributes of the graph's records; from now on paths can be made."""
        store = self.types.store
        rows = graph.dimension_rows(set(self.needed))
        table = records.RecordTable.build(store.universe, self.needed, rows)
        store.set_records(table)
        return table


def plan(
    graph: predicted.PredictedGraph, repository: butler_config.RepositoryConfig, mock_storage_classes: bool
) -> FilePlans:
    """Plan the files of all dataset types that the graph produces.

    Parameters
    ----------
    graph
        The predicted graph.
    repository
        Configuration of the repository.
    mock_storage_classes
        Whether mock storage classes are enabled.

    Raises
    ------
    RefusedError
        If the configuration does not say where some go; names all of them.
    """
    graph_universe = universe.Universe.from_config(graph.pipeline.universe)
    store = datastore.Datastore(repository, graph_universe, mock_storage_classes)
    instruments = [str(row[0]) for _, row in graph.dimension_rows({"instrument"})]
    watched = _read_types(graph.pipeline)
    needed: dict[str, set[str]] = {}
    problems = dict.fromkeys(_undefined(graph.pipeline))
    for kind in graph.pipeline.dataset_types:
        if not kind.is_produced:
            continue
        group = graph_universe.group(kind.dimensions)
        for instrument in instruments if "instrument" in group.names else [None]:
            try:
                files = store.plan(kind.name, kind.storage_class, group, instrument)
            except errors.RefusedError as exc:
                problems[str(exc)] = None
                continue
            if not files.files and kind.name in watched:
                problems[f"Dataset type {kind.name!r}: no datastore takes it, so nothing can be known"] = None
            for element, attribute in files.needed:
                needed.setdefault(element, set()).add(attribute)
    _refuse(repository.path, problems)
    return FilePlans(catalog.Catalog(graph.pipeline, graph_universe, store), needed)


def _read_types(graph: pipeline.Pipeline) -> set[str]:
    """Return the dataset types whose files tell what happened."""
    connections = pipeline.METADATA_CONNECTION, pipeline.LOG_CONNECTION
    return {name for task in graph.tasks for key, name in task.outputs.items() if key in connections}


def _undefined(graph: pipeline.Pipeline) -> list[str]:
    defined_names = {kind.name for kind in graph.dataset_types}
    names = {n: None for t in graph.tasks for n in (*t.outputs.values(), *t.init_outputs.values())}
    return [
        f"Dataset type {name!r}: not in the pipeline graph; build the graph again"
        for name in names
        if name not in defined_names
    ]


def _refuse(path: str, problems: Iterable[str]) -> None:
    if listed := "".join(f"\n  {problem}" for problem in problems):
        raise errors.RefusedError(f"{path}: the configuration does not say where outputs go:{listed}")
