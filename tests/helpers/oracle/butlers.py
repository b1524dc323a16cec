"""A small repository, and butlers of one quantum in it: the reference's, and that which is tested."""

from __future__ import annotations

import dataclasses
import pathlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from aggregator.butler import artifacts, dataset_refs, quantum_backed_butler
from aggregator.butler.configuration import repository_config
from aggregator.butler.dimensions import records, universe
from aggregator.butler.registry import registry
from aggregator.schemas import datastore_records
from lsst.daf.butler import (
    Butler,
    Config,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    Quantum,
    QuantumBackedButler,
)

RUN = "u/run1"

_FILE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
_METRICS = "lsst.daf.butler.tests.MetricsExample"
_COMPOSITE = {
    "pytype": _METRICS,
    "delegate": "lsst.daf.butler.tests.MetricsDelegate",
    "components": {
        "summary": "StructuredDataDict",
        "output": "StructuredDataDict",
        "data": "StructuredDataList",
    },
}

CONFIG = {
    "storageClasses": {"Parts": _COMPOSITE},
    "datastore": {
        "cls": _FILE,
        "root": "<butlerRoot>",
        "checksum": True,
        "formatters": {"StructuredDataList": "lsst.daf.butler.formatters.yaml.YamlFormatter"},
        "composites": {"disassembled": {"Parts": True}},
        "constraints": {"reject": ["refused"]},
    },
}
"""Configuration with a storage class whose components have files of their own."""

STORAGE_CLASSES = {
    "one": "StructuredDataDict",
    "two": "StructuredDataDict",
    "parts": "Parts",
    "refused": "StructuredDataDict",
    "integer": "int",
    "listing": "StructuredDataList",
    "array": "NumpyArray",
    "ecsv": "AstropyTable",
    "quantities": "AstropyQTable",
    "arrow": "ArrowTable",
    "arrow_astropy": "ArrowAstropy",
    "arrow_numpy": "ArrowNumpy",
    "arrow_columns": "ArrowNumpyDict",
    "frame": "DataFrame",
    "metadata": "TaskMetadata",
    "log": "ButlerLogRecords",
    "config": "Config",
    "versions": "Packages",
}
"""Storage classes of the outputs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A repository with an input, and the datasets of one quantum."""

    root: pathlib.Path
    """The repository."""

    butler: Butler
    """The reference's butler for it."""

    raw: DatasetRef
    """The input."""

    outputs: Mapping[str, DatasetRef]
    """The outputs, none of which exists."""

    files: artifacts.Artifacts
    """Where files are, for the butler that is tested."""

    def reference(self, **options: Any) -> QuantumBackedButler:
        """Return the reference's butler of the quantum."""
        types = {name: ref.datasetType for name, ref in self.outputs.items()}
        return QuantumBackedButler.from_predicted(
            str(self.root),
            [self.raw.id],
            [ref.id for ref in self.outputs.values()],
            self.butler.dimensions,
            self.butler._datastore.export_records([self.raw]),
            dataset_types=types,
            **options,
        )

    def tested(self, *, strict: bool = False, **options: Any) -> quantum_backed_butler.QuantumBackedButler:
        """Return the butler that is tested."""
        return quantum_backed_butler.QuantumBackedButler.from_predicted(
            self.files,
            [self.raw.id],
            [ref.id for ref in self.outputs.values()],
            self.input_records(),
            strict=strict,
            **options,
        )

    def input_records(self) -> datastore_records.Records:
        """Return the records of the input."""
        exported = self.butler._datastore.export_records([self.raw])
        document = {name: each.to_simple().model_dump(mode="json") for name, each in exported.items()}
        return datastore_records.parse(document, "the reference")

    def ref(self, ref: DatasetRef) -> dataset_refs.DatasetRef:
        """Return the same reference for the butler that is tested."""
        return tested_ref(ref, self.files.dimensions)

    def quantum(self, outputs: Iterable[DatasetRef]) -> Quantum:
        """Return a quantum of the reference with some outputs."""
        by_type: dict[DatasetType, list[DatasetRef]] = {}
        for ref in outputs:
            by_type.setdefault(ref.datasetType, []).append(ref)
        return Quantum(
            taskName="task",
            dataId=self.raw.dataId,
            inputs={self.raw.datasetType: [self.raw]},
            outputs=by_type,
        )


def tested_ref(ref: DatasetRef, dimensions: universe.Universe) -> dataset_refs.DatasetRef:
    """Return a reference for the butler that is tested."""
    group = dimensions.group(ref.datasetType.dimensions.names)
    kind = dataset_refs.DatasetType(ref.datasetType.name, group, ref.datasetType.storageClass_name)
    data_id = dataset_refs.DataId.make(group, dict(ref.dataId.mapping))
    return dataset_refs.DatasetRef(kind, data_id, ref.run, ref.id)


def make(root: pathlib.Path, config: Mapping[str, Any] = CONFIG, detectors: int = 1) -> Case:
    """Make a repository with one visit and an input for its first detector."""
    Butler.makeRepo(str(root), config=Config(dict(config)))
    butler = Butler.from_config(str(root), writeable=True)
    _insert_dimensions(butler, detectors)
    raw = DatasetType("raw", ["visit", "detector"], "StructuredDataDict", universe=butler.dimensions)
    butler.registry.registerDatasetType(raw)
    butler.collections.register("in")
    put = butler.put({"value": 11}, raw, run="in", instrument="Cam", visit=1, detector=1)
    ref = put.expanded(butler.registry.expandDataId(put.dataId))
    outputs = {name: output(butler, name, kind, 1) for name, kind in STORAGE_CLASSES.items()}
    with registry.open_repository(repository_config.load(root), writeable=False) as opened:
        dimensions = opened.universe
    rows = [("detector", ["Cam", n, f"D{n}", None, None, None]) for n in range(1, detectors + 1)]
    table = records.RecordTable.build(dimensions, {"detector": {"full_name"}}, rows)
    files = artifacts.Artifacts(repository_config.load(root), dimensions, table)
    return Case(root, butler, ref, outputs, files)


def output(butler: Butler, name: str, storage_class: str, detector: int) -> DatasetRef:
    """Return the reference to an output that does not exist."""
    kind = DatasetType(name, ["visit", "detector"], storage_class, universe=butler.dimensions)
    if storage_class in ("Config", "Packages"):
        kind = DatasetType(name, [], storage_class, universe=butler.dimensions)
        return DatasetRef(kind, DataCoordinate.make_empty(butler.dimensions), run=RUN)
    data_id = butler.registry.expandDataId(instrument="Cam", visit=1, detector=detector)
    return DatasetRef(kind, data_id, run=RUN)


def _insert_dimensions(butler: Butler, detectors: int) -> None:
    insert = butler.registry.insertDimensionData
    numbers = {"visit_max": 100, "visit_system": 0, "exposure_max": 100, "detector_max": 1000}
    insert("instrument", {"name": "Cam", "class_name": "lsst.pipe.base.Instrument", **numbers})
    insert("physical_filter", {"instrument": "Cam", "name": "r1", "band": "r"})
    every = range(1, detectors + 1)
    insert("detector", *[{"instrument": "Cam", "id": n, "full_name": f"D{n}"} for n in every])
    insert("day_obs", {"instrument": "Cam", "id": 20260301})
    insert(
        "visit",
        {"instrument": "Cam", "id": 1, "name": "v1", "physical_filter": "r1", "day_obs": 20260301},
    )


def canonical(document: Mapping[str, Any]) -> Any:
    """Return a document of provenance in which order does not matter, and checksums are left out."""
    result: dict[str, Any] = {key: sorted(ids) for key, ids in document.items() if key != "datastore_records"}
    for name, datastore in document["datastore_records"].items():
        rows = [
            (uuid.UUID(dataset_id).hex, table, *sorted((k, v) for k, v in row.items() if k != "checksum"))
            for by_id in datastore["records"].values()
            for dataset_id, tables in by_id.items()
            for table, listed in tables.items()
            for row in listed
        ]
        result[name] = sorted(map(str, datastore["dataset_ids"])), sorted(rows, key=repr)
    return result


def same(one: Any, other: Any) -> bool:
    """Return whether two objects are equal, be they arrays or tables."""
    if type(one) is not type(other):
        return False
    if hasattr(one, "colnames"):
        columns = all(same(_plain(one[name]), _plain(other[name])) for name in one.colnames)
        return one.colnames == other.colnames and columns and dict(one.meta) == dict(other.meta)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and _same_values(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one.equals(other) if hasattr(one, "equals") else one == other)


def _plain(column: Any) -> Any:
    return column if isinstance(column, np.ma.MaskedArray) else np.asarray(column)


def _same_values(one: Any, other: Any) -> bool:
    if one.dtype.names is not None:
        return all(same(np.asarray(one[name]), np.asarray(other[name])) for name in one.dtype.names)
    if isinstance(one, np.ma.MaskedArray):
        masks = np.ma.getmaskarray(one), np.ma.getmaskarray(other)
        values = one.filled(one.fill_value), other.filled(one.fill_value)
        return bool((masks[0] == masks[1]).all()) and repr(values[0]) == repr(values[1])
    return repr(one) == repr(other)
