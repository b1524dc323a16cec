"""An export of the middleware as the producer of a bundle (transfer.md section 2.1)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from aggregator.butler.databases import database
from aggregator.butler.dimensions import universe
from aggregator.butler.transfers import foreign_source
from aggregator.schemas import bundle, export_reader, repository_export
from aggregator.storage import errors


class ExportSource:
    """Produces a bundle from an export, in the order of its entries: dataset types come with their datasets.

    Parameters
    ----------
    path
        The file.
    dimension_config
        Configuration of the dimension universe of the repository that the bundle is for.
    tick
        Called now and then; what it raises ends the work.

    Raises
    ------
    RefusedError
        If the export was made with another one.
    FormatError
        If it can't be read.
    """

    def __init__(self, path: str, dimension_config: Mapping[str, Any], tick: Callable[[], None]) -> None:
        self._export = export_reader.Export(path)
        self._universe = universe.Universe.from_config(dimension_config)
        self._path, self._tick = path, tick
        head = self._export.head
        foreign_source.check_universe(path, self._universe, head.universe_namespace, head.universe_version)
        store = bundle.Datastore(foreign_source.DATASTORE, os.path.dirname(path), {})
        self.head = bundle.Head(path, dict(dimension_config), (store,))
        self._kinds: dict[str, bundle.DatasetType] = {}
        self._datasets: dict[str, tuple[str, tuple[bundle.Value, ...]]] = {}

    def batches(self) -> Iterator[bundle.Batch]:
        """Iterate over the bundle; see `bundle.Producer`.

        Raises
        ------
        RefusedError
            If a file is not beside the export, or a region can't be used.
        FormatError
            If the export contradicts itself.
        """
        self._kinds.clear()
        self._datasets.clear()
        late: list[bundle.Batch] = []
        for number, entry in enumerate(self._export.entries(), 1):
            self._tick()
            try:
                made = list(self._batches(entry))
            except (KeyError, TypeError, AttributeError, ValueError) as exc:
                what = f"lacks {exc}" if isinstance(exc, KeyError) else str(exc)
                raise errors.FormatError(
                    self._path, f"entry {number}", f"is no entry of an export: {what}"
                ) from exc
            for batch in made:
                if isinstance(batch, bundle.Associations | bundle.Chain):
                    late.append(batch)
                else:
                    yield batch
        yield from late

    def _batches(self, entry: dict[str, Any]) -> Iterator[bundle.Batch]:
        match entry["type"]:
            case "dimension" if entry["records"]:
                yield self._records(entry["element"], entry["records"])
            case "dimension":
                pass
            case "collection":
                yield from self._collection(entry)
            case "run":
                yield bundle.Collections([bundle.Collection(entry["name"], "RUN", None)])
            case "dataset_type":
                kind = foreign_source.dataset_type(
                    entry["name"], entry["storage_class"], entry["dimensions"],
                    bool(entry.get("is_calibration")), self._universe,
                )  # fmt: skip
                self._kinds[kind.name] = kind
                yield bundle.DatasetTypes([kind])
            case "dataset" if entry["records"]:
                yield self._of_run(self._kind(entry["dataset_type"]), entry["run"], entry["records"])
            case "dataset":
                pass
            case "associations":
                yield from self._associations(entry)
            case other:
                raise ValueError(f"nobody knows what a {other!r} is")

    def _records(self, element: str, records: Sequence[dict[str, Any]]) -> bundle.DimensionRecords:
        if element not in self._universe:
            raise ValueError(f"{element!r} is no dimension")
        columns = self._universe.element(element).columns
        rows = [tuple(_column(record, column.name, column.type) for column in columns) for record in records]
        return foreign_source.records(self._path, self._universe, element, rows)

    def _collection(self, entry: dict[str, Any]) -> Iterator[bundle.Batch]:
        kind: Literal["RUN", "TAGGED", "CHAINED", "CALIBRATION"] = entry["collection_type"]
        if kind not in ("RUN", "TAGGED", "CHAINED", "CALIBRATION"):
            raise ValueError(f"nobody knows collections of type {kind!r}")
        yield bundle.Collections([bundle.Collection(entry["name"], kind, entry.get("doc"))])
        if kind == "CHAINED":
            # Old files name dataset types together with a child.
            children = [each if isinstance(each, str) else each[0] for each in entry["children"]]
            yield bundle.Chain(entry["name"], tuple(children))

    def _kind(self, name: str) -> bundle.DatasetType:
        if name not in self._kinds:
            raise ValueError(f"dataset type {name!r} is not told before its datasets")
        return self._kinds[name]

    def _of_run(
        self, kind: bundle.DatasetType, run: str, records: Sequence[dict[str, Any]]
    ) -> bundle.Datasets:
        rows: list[bundle.Dataset] = []
        files: list[bundle.FileRecord] = []
        for record in records:
            ids, data_ids = _listed(record["dataset_id"]), _listed(record["data_id"])
            for each, data_id in zip(ids, data_ids, strict=True):
                dataset_id = _id(each)
                values = foreign_source.required_values(kind, self._universe, data_id)
                if self._datasets.setdefault(dataset_id, (kind.name, values)) != (kind.name, values):
                    raise ValueError(f"dataset {dataset_id} comes twice, and differs")
                rows.append(bundle.Dataset(dataset_id, kind.name, values, None))
                if record.get("path") is not None:
                    files.append(self._file(dataset_id, kind, record["path"], record["formatter"]))
        return bundle.Datasets(run, sorted(set(rows)), sorted(set(files)))

    def _file(
        self, dataset_id: str, kind: bundle.DatasetType, path: str, formatter: str
    ) -> bundle.FileRecord:
        path = foreign_source.inside(self._path, path)
        try:
            size = os.stat(os.path.join(self.head.datastores[0].root, path)).st_size
        except OSError:
            # Whether it may be missing is for others to say.
            size = -1
        return bundle.FileRecord(
            dataset_id, foreign_source.DATASTORE, path, formatter, kind.storage_class, None, None, size
        )

    def _associations(self, entry: dict[str, Any]) -> Iterator[bundle.Associations]:
        if entry["collection_type"] == "TAGGED":
            members = [self._member(each, None) for each in entry["dataset_ids"]]
        else:
            members = [
                self._member(each, _timespan(validity)) for validity in entry["validity_ranges"]
                for each in validity["dataset_ids"]
            ]  # fmt: skip
        members.sort(key=lambda each: (each.dataset_id, each.timespan or (0, 0)))
        for begin in range(0, len(members), bundle.DATASETS_AT_ONCE):
            yield bundle.Associations(entry["collection"], members[begin : begin + bundle.DATASETS_AT_ONCE])

    def _member(self, dataset_id: Any, timespan: tuple[int, int] | None) -> bundle.Association:
        digits = _id(dataset_id)
        if digits not in self._datasets:
            raise ValueError(f"dataset {digits} is in a collection, and nowhere else")
        return bundle.Association(digits, *self._datasets[digits], timespan)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _id(value: Any) -> str:
    if not isinstance(value, uuid.UUID):
        raise ValueError(f"{value!r} is no id of a dataset; ids that are numbers are too old")
    return value.hex


def _column(record: Mapping[str, Any], name: str, kind: str) -> Any:
    if kind == "timespan":
        if "datetime_begin" in record:
            return _ends(record["datetime_begin"], record["datetime_end"])
        span = record.get(name)
        return None if span is None else _ends(span.begin, span.end)
    value = record.get(name)
    return bytes(value) if isinstance(value, bytes) else value


def _timespan(validity: Mapping[str, Any]) -> tuple[int, int]:
    span = validity.get("timespan", validity)
    if isinstance(span, repository_export.Timespan):
        return _ends(span.begin, span.end)
    return _ends(span["begin"], span["end"])


def _ends(begin: Any, end: Any) -> tuple[int, int]:
    for each in (begin, end):
        if not isinstance(each, repository_export.Time | None):
            raise ValueError(f"{each!r} is no time in TAI; export again with a newer version")
    return (0 if begin is None else int(begin), database.MAX_TIMESPAN if end is None else int(end))
