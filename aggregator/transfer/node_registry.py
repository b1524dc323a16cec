"""The database of a node, for those who want one: what the repository's knows of the datasets of a job."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from aggregator.butler import creation
from aggregator.butler.configuration import repository_config, yaml_files
from aggregator.butler.registry import registry
from aggregator.butler.transfers import (
    account,
    dataset_selection,
    repository_source,
    repository_target,
    transfer_policies,
    workplace,
)
from aggregator.execution import graph_context
from aggregator.schemas import bundle, pack_reader, packs
from aggregator.storage import durable_files, errors, fault_points, local_files
from aggregator.transfer import job_bundle, job_inputs, node_layout

_IN_PLACE: Final = transfer_policies.Policies(files=transfer_policies.IN_PLACE)


def batches(context: graph_context.GraphContext, inputs: job_inputs.JobInputs) -> Iterator[bundle.Batch]:
    """Yield what the database knows of the datasets of a job, and of all that they need.

    Records say where files are on the node. Datasets that are not in the database yet are left out.

    Parameters
    ----------
    context
        Graph and repository.
    inputs
        The datasets of the job.

    Raises
    ------
    AggregatorError
        If the database can't be read.
    """
    with registry.open_repository(context.config, writeable=False) as source:
        selected = dataset_selection.Selection(
            possible_ids=[uuid.UUID(each).hex for each in inputs.dataset_ids],
            runs=(context.graph.header.output_run,),
            definitions=tuple(job_bundle.definitions(context)),
        )
        producer = repository_source.RepositorySource(
            context.config, source, selected, repository_source.Extent()
        )
        for batch in producer.batches():
            if isinstance(batch, bundle.Datasets):
                files = [file for row in batch.rows for file in inputs.file_records(row.id)]
                yield bundle.Datasets(batch.run, batch.rows, files)
            elif not isinstance(batch, bundle.Graph):
                # A graph that backs datasets is a file like any other on the node.
                yield batch


def make(root: str, pack: pack_reader.Pack) -> bytes:
    """Make the database of a node, unless it is there; it appears complete, or not at all.

    Parameters
    ----------
    root
        Directory of the node.
    pack
        The pack of its job.

    Returns
    -------
    configuration
        Content of the node's butler.yaml.

    Raises
    ------
    AggregatorError
        If it can't be written, or the pack contradicts itself.
    """
    assert pack.manifest.head is not None
    settings = node_layout.butler_yaml(pack.manifest)
    del settings["registry"]
    with workplace.Workplace() as work:
        work.open_in(root)
        directory = os.path.join(work.directory, "repository")
        creation.create_repository(directory, dimension_config=pack.manifest.head.universe, settings=settings)
        place = os.path.join(root, node_layout.DATABASE)
        if not local_files.is_taken(place):
            config = _in_node(repository_config.load(directory), root, pack.manifest.head)
            with errors.after_changes(), registry.open_repository(config, writeable=True) as target:
                consumer = repository_target.RepositoryTarget(config, target, _IN_PLACE, account.Account())
                consumer.begin(_placed(pack.manifest.head, root))
                # A union is no class, and tells the decoder as well what a row may be.
                rows: Iterator[bundle.Batch] = pack.table(packs.BATCHES, cast(Any, bundle.Batch))
                for batch in rows:
                    consumer.take(batch)
                consumer.finish()
            fault_points.reached("registry")
            durable_files.publish(os.path.join(directory, node_layout.DATABASE), place)
        return local_files.read(os.path.join(directory, yaml_files.REPOSITORY))


def _in_node(
    config: repository_config.RepositoryConfig, root: str, head: bundle.Head
) -> repository_config.RepositoryConfig:
    """Return a configuration with the datastores of a node."""
    places = node_layout.roots(head)
    stores = tuple(
        dataclasses.replace(each, root=os.path.join(root, places[each.name]).rstrip("/"), repository=root)
        for each in config.datastores
    )
    return dataclasses.replace(config, root=root, datastores=stores)


def _placed(head: bundle.Head, root: str) -> bundle.Head:
    """Return the head of a bundle whose files are in the node already."""
    places = node_layout.roots(head)
    stores = tuple(
        msgspec.structs.replace(each, root=os.path.join(root, places[each.name]).rstrip("/"))
        for each in head.datastores
    )
    return msgspec.structs.replace(head, datastores=stores)
