"""The repository of a synthetic run, as it is before the run: dimension records, inputs and their files."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import numpy as np

from aggregator.butler import creation
from aggregator.butler.configuration import repository_config as butler_config
from aggregator.butler.databases import database
from aggregator.butler.registry import batch, registry
from aggregator.schemas import output_paths
from aggregator.schemas.graphs import pipeline as formats
from aggregator.storage import errors, local_files, uris
from aggregator.synthesis import (
    datasets,
    dimension_data,
    node_numbers,
    parameters,
    pipeline_document,
    survey_pipeline,
)

T = TypeVar("T")

_BATCH: Final = 10_000
"""Records, or datasets, that are inserted at once."""

_DATABASE: Final = "gen3.sqlite3"


def create(root: str, options: parameters.SynthesisParameters) -> None:
    """Make the repository unless it is there already."""
    if output_paths.is_taken(os.path.join(root, "butler.yaml")):
        return
    leftover = os.path.join(root, _DATABASE)
    if not uris.is_remote(root) and options.database is None and local_files.is_taken(leftover):
        # Killed while making it: the configuration comes last.
        os.unlink(leftover)
    creation.create_repository(root, database_url=options.database, namespace=options.namespace)


def open_registry(root: str) -> registry.Registry:
    """Open the repository's database for writing."""
    return registry.open_repository(butler_config.load(root), writeable=True)


def insert_dimension_records(opened: registry.Registry, graph: node_numbers.Nodes) -> None:
    """Insert all dimension records; those that are there already are left alone."""
    for element, records in dimension_data.DimensionData(graph.survey).elements().items():
        if not opened.universe.has_table(element):
            continue
        columns = opened.universe.record_columns(element)
        for each in _batches(records):
            # Regions stay in the graph: their pixels, which the database wants too, are not known here.
            rows = [{k: v for k, v in record.items() if k in columns and k != "region"} for record in each]
            try:
                opened.dimensions.insert(element, rows)
            except database.ConstraintError:
                continue


def add_inputs(
    opened: registry.Registry,
    graph: node_numbers.Nodes,
    described: datasets.Datasets,
    count: Callable[[int], None],
) -> None:
    """Register and ingest the overall inputs with their files, which are empty; can be repeated.

    Parameters
    ----------
    opened
        The repository's database.
    graph, described
        The run's nodes and datasets.
    count
        Is told how many datasets were added.
    """
    for run in survey_pipeline.INPUT_RUNS:
        opened.collections.register_run(run)
    opened.collections.update_output_chain(
        survey_pipeline.INPUT_CHAIN, survey_pipeline.INPUT_RUNS[0], survey_pipeline.INPUT_RUNS[1:]
    )
    for kind in survey_pipeline.OVERALL_INPUTS:
        row = opened.dataset_types.register(kind.name, kind.storage_class, kind.dimensions)
        total = graph.counts[kind.name]
        for begin in range(0, total, _BATCH):
            rows = np.arange(begin, min(begin + _BATCH, total))
            values = described.values(kind.kind, rows)
            ids = graph.dataset_ids(kind.name, rows)
            paths = described.paths(kind.name, values, ids)
            planned = described.plan(kind.name, values[0]).files[0]
            plain = [dataset_id.replace("-", "") for dataset_id in ids]
            width, store = len(row.required), described.store
            held = [(i, row, value[:width]) for i, value in zip(plain, values, strict=True)]
            files = [
                (store.records_table, store.name, i, path, planned.formatter, planned.storage_class, None)
                for i, path in zip(plain, paths, strict=True)
            ]
            done = opened.datasets.ingest(str(kind.run), batch.Batch(held, files))
            if done.conflicts:
                raise errors.AggregatorError(f"The database has something else: {done.conflicts[0]}")
            for path in paths:
                store.files.write(path, b"", overwrite=True)
            count(len(rows))


def write_init_outputs(graph: node_numbers.Nodes, described: datasets.Datasets) -> None:
    """Write the outputs of the tasks' initialisations: configurations, schemas, versions of the software."""
    for task in survey_pipeline.TASKS:
        for each in task.all_init_outputs:
            content = f"{{table: {each.dataset_type}, version: 1}}\n"
            if each.connection == formats.CONFIG_CONNECTION:
                content = pipeline_document.config_text(task)
            ids = graph.dataset_ids(each.dataset_type, np.array([0]))
            _write(described, each.dataset_type, ids, content)
    versions = {"python": "3.11.7", "numpy": "1.26.4", "synthetic_tasks": "1.0.0", **_VERSIONS}
    text = "!<lsst.utils.packages.Packages>\n" + "".join(f"{k}: '{v}'\n" for k, v in sorted(versions.items()))
    _write(described, formats.PACKAGES_TYPE, [graph.packages_id], text)


_VERSIONS: Final = {f"synthetic_package_{number:02}": f"{number % 7}.{number % 5}" for number in range(40)}


def _write(described: datasets.Datasets, name: str, ids: list[str], content: str) -> None:
    for path in described.paths(name, [()], ids):
        described.store.files.write(path, content.encode(), overwrite=True)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch_of_items := list(itertools.islice(iterator, _BATCH)):
        yield batch_of_items
