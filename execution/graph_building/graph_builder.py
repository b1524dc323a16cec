"""From a pipeline and a repository to a predicted graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import collection_rows, registry, searches
from aggregator.execution.graph_building import (
    data_id_search,
    existing_datasets,
    graph_nodes,
    graph_parts,
    quantum_resolution,
)
from aggregator.execution.pipelines import configured_pipeline, pipeline_graph, pipeline_graph_texts
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a graph is to be."""

    inputs: Sequence[str]
    """Input collections, in the order in which they are searched."""

    output_run: str
    """RUN collection of all outputs."""

    data_query: str = ""
    """Expression that data IDs have to fulfil."""

    skip_existing_in: Sequence[str] = ()
    """Collections with outputs of quanta that need not run again."""

    clobber_outputs: bool = False
    """Whether outputs that are in the run are to be replaced."""

    overlaps: searches.Pairs | None = None
    """Data IDs that belong together on the sky."""


def build(
    pipeline: configured_pipeline.ConfiguredPipeline,
    repository: repository_config.RepositoryConfig,
    request: BuildRequest,
) -> tuple[graph_parts.GraphParts, quantum_resolution.Counts]:
    """Return a predicted graph, and what became of the quanta that there might have been.

    Parameters
    ----------
    pipeline
        The pipeline.
    repository
        The repository; only read.
    request
        What the graph is to be.

    Raises
    ------
    RefusedError
        If pipeline, repository and request do not fit together.
    """
    with registry.open_repository(repository, writeable=False) as source:
        registered = source.dataset_types.registered(pipeline_graph.type_names(pipeline.makers))
        graph = pipeline_graph.resolve(
            pipeline.text, pipeline.data_id, pipeline.makers, source.universe, registered
        )
        query = data_id_search.data_query(
            request.data_query, pipeline.data_id, request.overlaps, source.universe
        )
        collections = _collections(source, request)
        skeleton = data_id_search.DataIdSearch(
            source, graph, query, collections.inputs, registered
        ).skeleton()
        existing = existing_datasets.ExistingDatasets(source, collections, registered)
        existing.look_for_all(skeleton, graph)
        resolution = quantum_resolution.QuantumResolution(
            skeleton, graph, existing, request.output_run, clobbers=request.clobber_outputs
        )
        resolution.resolve()
        parts = graph_parts.GraphParts(
            skeleton,
            graph,
            pipeline_graph_texts.document(graph, source.dimension_config),
            source.searches.files(
                _overall_inputs(skeleton), [(s.name, s.records_table) for s in repository.datastores]
            ),
            graph_parts.dimension_rows(source, skeleton),
        )
    return parts, resolution.counts


def _collections(source: registry.Registry, request: BuildRequest) -> existing_datasets.Collections:
    run = source.collections.find(request.output_run)
    if run is not None and run.type is not collection_rows.CollectionType.RUN:
        raise errors.RefusedError(
            f"{request.output_run!r} is a {run.type.name} collection, not a RUN collection; choose another "
            "output run."
        )
    names = [*request.inputs, *request.skip_existing_in]
    if missing := [name for name in names if source.collections.find(name) is None]:
        raise errors.RefusedError(f"There is no collection {missing[0]!r}.")
    return existing_datasets.Collections(
        source.searches.collections(request.inputs),
        source.searches.collections(request.skip_existing_in),
        [] if run is None else [run],
    )


def _overall_inputs(skeleton: graph_nodes.Skeleton) -> list[str]:
    return [key for key, dataset in graph_parts.datasets(skeleton).items() if dataset.is_overall]
