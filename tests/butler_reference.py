"""Dataset references and predicted records made with the reference, to compare ours with."""

from __future__ import annotations

import json
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import lsst.daf.butler as daf
import lsst.pipe.base.tests.mocks  # noqa: F401  (makes the reference accept mock storage classes)

from butler import config, datastore, records, universe

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


def predict(repo: pathlib.Path, refs: Sequence[Any], search_path: Sequence[str] = ()) -> dict[str, Any]:
    """Return the reference's records: datastore, dataset id, table and rows without checksum and size."""
    butler = daf.QuantumBackedButler.from_predicted(
        str(repo),
        predicted_inputs=[],
        predicted_outputs=[],
        dimensions=refs[0].dataId.universe,
        datastore_records={},
        search_paths=list(search_path),
        dataset_types={ref.datasetType.name: ref.datasetType for ref in refs},
    )
    exported = butler._datastore.export_predicted_records(refs)
    return {
        name: {
            (dataset_id, table): [(r.path, r.formatter, r.storageClass.name, r.component) for r in rows]
            for dataset_id, tables in data.records.items()
            for table, rows in tables.items()
        }
        for name, data in exported.items()
        if data.records
    }


def ours(
    repo: pathlib.Path, refs: Sequence[Any], data: Data, search_path: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the same from our code."""
    store = datastore.Datastore(config.load(repo, search_path or None), data.ours, True)
    requests = [_request(ref, data) for ref in refs]
    store.set_records(data.table(store.needed_attributes(requests)))
    result: dict[str, Any] = {}
    for ref, request in zip(refs, requests, strict=True):
        for file in store.plan(*request).files:
            path = file.path(ref.dataId.full_values, ref.run, str(ref.id))
            component = None if file.component == datastore.NO_COMPONENT else file.component
            place = store.stores[file.store]
            rows = result.setdefault(place.name, {}).setdefault((ref.id, place.records_table), [])
            rows.append((path, file.formatter, file.storage_class, component))
    return result


def _request(ref: Any, data: Data) -> tuple[str, str, universe.Group, str | None]:
    group = data.ours.group(ref.dimensions.names)
    return ref.datasetType.name, ref.datasetType.storageClass_name, group, ref.dataId.get("instrument")
