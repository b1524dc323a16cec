"""Whether the files are still there whose content a provenance graph holds."""

from collections.abc import Iterator

from aggregator.butler.datastores import catalog
from aggregator.butler.dimensions import records
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import checkpoint
from aggregator.schemas.graphs import addresses, pipeline, provenance_graph
from aggregator.storage import stores
from aggregator.workers.roles import given_graph
from aggregator.workers.roles.scanning import scanner

_CONNECTIONS = (pipeline.LOG_CONNECTION, pipeline.METADATA_CONNECTION)


def first_missing(setup: messages.Setup, path: str) -> str | None:
    """Return a log, metadata or config file that is gone, though a graph of the same quanta tells of it.

    Parameters
    ----------
    setup
        Names the predicted graph and the repository.
    path
        The provenance graph.
    """
    table = records.RecordTable.unpack(checkpoint.Layout(setup.checkpoint).read_records())
    with given_graph.open_graph(setup) as graph, provenance_graph.ProvenanceGraph(path) as held:
        types = scanner.open_catalog(graph, setup.butler_path, setup.mock_storage_classes, table)
        kinds = {task.outputs.get(name) for task in graph.pipeline.tasks for name in _CONNECTIONS}
        kinds |= {task.init_outputs.get(pipeline.CONFIG_CONNECTION) for task in graph.pipeline.tasks}
        for places in _places(types, held, kinds):
            if not any(store.is_there(key) for store, key in places):
                store, key = places[0]
                return store.location(key)
    return None


def _places(
    types: catalog.Catalog, held: provenance_graph.ProvenanceGraph, kinds: set[str | None]
) -> Iterator[list[tuple[stores.Store, str]]]:
    """Yield where the files of each dataset of some types were written, which were produced."""
    entries = {entry.definition.name: entry for entry in types.entries}
    roots = [store.files for store in types.store.stores]
    for each in held.datasets():
        if each.produced and each.dataset_type_name in kinds and each.run == held.header.output_run:
            values = catalog.decode_values(bytes(each.data_coordinate))
            plan = types.plan(entries[each.dataset_type_name], values)
            dashed = addresses.dashed(each.dataset_id.replace("-", ""))
            if plan.files:
                yield [(roots[f.store], f.path(values, each.run, dashed)) for f in plan.files]
