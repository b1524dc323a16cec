"""Datasets as the graph describes them, and where their files are."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from aggregator.butler.configuration import repository_config as butler_config
from aggregator.butler.datastores import catalog, datastore
from aggregator.butler.dimensions import records, universe
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import pipeline as formats
from aggregator.synthesis import node_numbers, seeded_numbers, survey, survey_data_ids, survey_pipeline

Values = tuple[int | str, ...]
"""Values of a full data ID, required dimensions and then implied ones."""


class Datasets:
    """Describes datasets of a run.

    Parameters
    ----------
    graph
        The run's nodes.
    pipeline_graph
        The parsed pipeline graph.
    repository
        Configuration of the repository.
    dimension_rows
        Element and row of the dimension records that file templates can name.
    """

    def __init__(
        self,
        graph: node_numbers.Nodes,
        pipeline_graph: formats.Pipeline,
        repository: butler_config.RepositoryConfig,
        dimension_rows: Sequence[tuple[str, Sequence[Any]]],
    ) -> None:
        self._nodes = graph
        self._universe = universe.Universe.from_config(pipeline_graph.universe)
        self._store = datastore.Datastore(repository, self._universe)
        self._catalog = catalog.Catalog(pipeline_graph, self._universe, self._store)
        self._entries = {entry.definition.name: entry for entry in self._catalog.entries}
        self._groups = {
            name: self._universe.group(kind.dimensions) for name, kind in survey_data_ids.KINDS.items()
        }
        needed: dict[str, set[str]] = {}
        for entry in self._catalog.entries:
            instrument = None if entry.instrument_at is None else survey.INSTRUMENT
            request = (entry.definition.name, entry.definition.storage_class, entry.group, instrument)
            for element, attributes in self._store.needed_attributes([request]).items():
                needed.setdefault(element, set()).update(attributes)
        self._store.set_records(records.RecordTable.build(self._universe, needed, dimension_rows))

    def values(self, kind: str, rows: seeded_numbers.Integers) -> list[Values]:
        """Return the data IDs of a kind."""
        keys = self._groups[kind].keys
        if not keys:
            return [()] * len(rows)
        columns = survey_data_ids.KINDS[kind].columns(self._nodes.survey, rows)
        return list(zip(*(columns[key] for key in keys), strict=True))

    def data_id_text(self, kind: str, values: Values) -> str:
        """Return a data ID as logs and messages show it."""
        keys = self._groups[kind].keys
        return "{" + ", ".join(f"{key}: {value!r}" for key, value in zip(keys, values, strict=True)) + "}"

    def documents(self, name: str, rows: seeded_numbers.Integers) -> list[str]:
        """Return the JSON of datasets of a type (quantum-graph-format.md section 6.4)."""
        kind = survey_pipeline.DATASET_TYPES[name]
        run = kind.run or survey_pipeline.OUTPUT_RUN
        coordinates = map(coordinate, self.values(kind.kind, rows))
        return [
            f'{{"dataset_id":"{dataset_id}","dataset_type_name":"{name}","data_coordinate":{values},"run":"{run}"}}'
            for dataset_id, values in zip(self._nodes.dataset_ids(name, rows), coordinates, strict=True)
        ]

    def plan(self, name: str, values: Values) -> datastore.DatasetPlan:
        """Return where files of a dataset type go."""
        return self._catalog.plan(self._entries[name], values)

    def paths(self, name: str, values: Sequence[Values], ids: Sequence[str]) -> list[str]:
        """Return the paths of datasets of a type, relative to the datastore's root."""
        if not values:
            return []
        kind = survey_pipeline.DATASET_TYPES.get(name)
        run = (kind.run if kind is not None else None) or survey_pipeline.OUTPUT_RUN
        path = self.plan(name, values[0]).files[0].path
        return [path(each, run, dataset_id) for each, dataset_id in zip(values, ids, strict=True)]

    def record_documents(self, name: str, rows: seeded_numbers.Integers) -> list[tuple[str, str]]:
        """Return the id of overall inputs and the JSON of their datastore records with the key."""
        kind = survey_pipeline.DATASET_TYPES[name]
        values = self.values(kind.kind, rows)
        ids = self._nodes.dataset_ids(name, rows)
        planned = self.plan(name, values[0]).files[0]
        head = f'{{"{self.store.records_table}":[{{"formatter":"{planned.formatter}","path":"'
        tail = (
            f'","storage_class":"{planned.storage_class}","component":"{planned.component}",'
            f'"checksum":null,"file_size":{datastore_records.UNKNOWN_SIZE}}}]}}'
        )
        return [
            (f'"{dataset_id}"', f'"{dataset_id.replace("-", "")}":{head}{path}{tail}')
            for dataset_id, path in zip(ids, self.paths(name, values, ids), strict=True)
        ]

    @property
    def store(self) -> butler_config.FileDatastore:
        """The only datastore of the repository."""
        return self._store.stores[0]

    def records(self, ids_and_rows: Sequence[tuple[str, str]]) -> str:
        """Return the JSON of a quantum's datastore records (section 6.4)."""
        if not ids_and_rows:
            return "{}"
        ids, rows = ",".join(i for i, _ in ids_and_rows), ",".join(row for _, row in ids_and_rows)
        by_class = f'{{"{datastore_records.RECORD_CLASS}":{{{rows}}}}}'
        return f'{{"{self.store.name}":{{"dataset_ids":[{ids}],"records":{by_class}}}}}'


def coordinate(values: Values) -> str:
    """Return the JSON of a data coordinate (section 5.1)."""
    return msgspec.json.encode(values).decode()


def distinct(rows: seeded_numbers.Integers) -> tuple[seeded_numbers.Integers, list[int]]:
    """Return rows without repetitions, and where each of the given ones is among them."""
    distinct_rows, inverse = np.unique(rows, return_inverse=True)
    return distinct_rows, inverse.tolist()
