"""Dataset references and predicted records made with the reference, to compare ours with."""

from __future__ import annotations

import json
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import lsst.daf.butler as daf
import lsst.pipe.base.tests.mocks  # noqa: F401  (makes the reference accept mock storage classes)
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records, universe
from aggregator.schemas import datastore_records
from aggregator.storage import errors

RUN = "u/someone/a run#1.x"


def plain_config(dimensions: Any) -> dict[str, Any]:
    """Return the JSON form of a universe of the reference."""
    text: dict[str, Any] = json.loads(json.dumps(dimensions.dimensionConfig.toDict()))
    return text


class Data:
    """Data IDs with records, for the reference and for us.

    Parameters
    ----------
    dimensions
        Universe of the reference.
    """

    def __init__(self, dimensions: Any) -> None:
        self.theirs = dimensions
        self.ours = universe.Universe.from_config(plain_config(dimensions))
        self.rows: dict[tuple[str, tuple[Any, ...]], list[Any]] = {}

    def coordinate(self, names: Sequence[str], values: Mapping[str, Any]) -> Any:
        """Return a data ID of the reference; attributes ``element.attribute`` may be among the values."""
        group = self.theirs.conform(names)
        ours = self.ours.group(names)
        assert tuple(group.data_coordinate_keys) == ours.keys
        plain = daf.DataCoordinate.from_full_values(group, tuple(values[key] for key in ours.keys))
        return plain.expanded({name: self._record(name, values) for name in group.elements})

    def _record(self, name: str, values: Mapping[str, Any]) -> Any:
        element = self.theirs[name]
        mine = self.ours.element(name)
        columns = self.ours.record_columns(name)
        row: list[Any] = []
        for column in columns:
            is_key = mine.key is not None and column == mine.key.name
            row.append(values.get(name if is_key else column, values.get(f"{name}.{column}")))
        if name not in self.ours.skypix:
            self.rows[name, tuple(values[d] for d in mine.required)] = row
        return element.RecordClass(**dict(zip(columns, row, strict=True)))

    def table(self, wanted: Mapping[str, set[str]]) -> records.RecordTable:
        """Return our table of the records made so far, after a trip through bytes."""
        rows = [(name, row) for (name, _), row in self.rows.items()]
        return records.RecordTable.unpack(records.RecordTable.build(self.ours, wanted, rows).pack())


def dataset_ref(name: str, storage_class: str, data_id: Any, run: str = RUN) -> Any:
    """Return a dataset of the reference."""
    dataset_type = daf.DatasetType(name, data_id.dimensions, storage_class)
    return daf.DatasetRef(dataset_type, data_id, run=run, id=uuid.uuid4())


Rows = list[tuple[str, str, str, str | None]]
"""Path, formatter, storage class and component of each file."""


def predict(repo: pathlib.Path, refs: Sequence[Any]) -> dict[str, dict[tuple[str, str], Rows] | None]:
    """Return the reference's records by dataset type, then by datastore and table; `None` for an error."""
    butler = daf.QuantumBackedButler.from_predicted(
        str(repo),
        predicted_inputs=[],
        predicted_outputs=[],
        dimensions=refs[0].dataId.universe,
        datastore_records={},
        dataset_types={ref.datasetType.name: ref.datasetType for ref in refs},
    )
    result: dict[str, dict[tuple[str, str], Rows] | None] = {}
    for ref in refs:
        try:
            exported = butler._datastore.export_predicted_records([ref])
        except (daf.ValidationError, daf.DatasetTypeNotSupportedError, LookupError, TypeError, ImportError):
            result[ref.datasetType.name] = None
            continue
        result[ref.datasetType.name] = {
            (name, table): [(r.path, r.formatter, r.storageClass.name, r.component) for r in rows]
            for name, data in exported.items()
            for tables in data.records.values()
            for table, rows in tables.items()
        }
    return result


def ours(
    repo: pathlib.Path, refs: Sequence[Any], data: Data
) -> dict[str, dict[tuple[str, str], Rows] | None]:
    """Return the same from our code."""
    store = datastore.Datastore(repository_config.load(repo), data.ours, True)
    result: dict[str, dict[tuple[str, str], Rows] | None] = {}
    for ref in refs:
        group = data.ours.group(ref.dimensions.names)
        name = ref.datasetType.name
        request = (name, ref.datasetType.storageClass_name, group, ref.dataId.get("instrument"))
        try:
            store.set_records(data.table(store.needed_attributes([request])))
        except errors.RefusedError:
            result[name] = None
            continue
        files = result[name] = {}
        for file in store.plan(*request).files:
            path = file.path(ref.dataId.full_values, ref.run, str(ref.id))
            component = None if file.component == datastore_records.NO_COMPONENT else file.component
            place = store.stores[file.store]
            row = (path, file.formatter, file.storage_class, component)
            files.setdefault((place.name, place.records_table), []).append(row)
    return result
