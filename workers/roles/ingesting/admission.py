"""Whether a repository can take a run's outputs; what is refused is refused before anything is changed."""

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import obstacles, registry
from aggregator.schemas import messages
from aggregator.schemas.graphs import predicted
from aggregator.storage import errors
from aggregator.workers.roles import given_graph


def check(
    setup: messages.Setup, repository: repository_config.RepositoryConfig, source: registry.Registry
) -> None:
    """Refuse a graph whose outputs can't go into a repository.

    Parameters
    ----------
    setup
        What is asked for.
    repository
        Configuration of the repository.
    source
        Its database.

    Raises
    ------
    RefusedError
        If they can't; names everything that is in the way.
    """
    with given_graph.open_graph(setup) as graph:
        outputs = _outputs(setup, repository, graph)
        reasons = source.obstacles(outputs) or _missing_records(graph, outputs, source)
    if reasons:
        listed = "".join(f"\n  {each}" for each in reasons)
        raise errors.RefusedError(f"{repository.path}: can't take what {setup.graph_path} leads to:{listed}")


def _outputs(
    setup: messages.Setup, repository: repository_config.RepositoryConfig, graph: predicted.PredictedGraph
) -> obstacles.Outputs:
    return obstacles.Outputs(
        types=[
            obstacles.OutputType(t.name, t.storage_class, t.dimensions, t.is_calibration)
            for t in graph.pipeline.dataset_types
            if t.is_produced
        ],
        registers=setup.register_dataset_types,
        run=graph.header.output_run,
        chain=graph.header.output if setup.update_output_chain else None,
        inputs=graph.header.inputs,
        records_tables=frozenset(store.records_table for store in repository.datastores),
    )


def _missing_records(
    graph: predicted.PredictedGraph, outputs: obstacles.Outputs, source: registry.Registry
) -> list[str]:
    """Return the dimensions of which the graph has values, and the repository not a single record."""
    groups = [source.universe.group(kind.dimensions).required for kind in outputs.types]
    needed = {name for group in groups for name in group if source.universe.has_table(name)}
    empty = {name for name in needed if not source.dimensions.has_records(name)}
    if not empty:
        return []
    used = {element for element, _ in graph.dimension_rows(empty)}
    return [f"there is no {name} record at all" for name in sorted(used)]
