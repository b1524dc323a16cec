"""An archive of datasets as the middleware makes them, as the producer of a bundle (transfer.md 4)."""

from __future__ import annotations

import os
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from aggregator.butler.dimensions import universe
from aggregator.butler.transfers import foreign_source
from aggregator.schemas import bundle, zip_index
from aggregator.storage import errors

_LARGEST: Final = 1 << 28
"""Bytes of an index, at most."""


class ZipSource:
    """Produces a bundle from an archive.

    Parameters
    ----------
    path
        The archive.
    root
        Directory in which a link to it is made, at the path that a repository has for it.
    dimension_config
        Configuration of the dimension universe of the repository that the bundle is for.
    tick
        Called now and then; what it raises ends the work.

    Raises
    ------
    RefusedError
        If it was made with another one.
    FormatError
        If it can't be read.
    """

    def __init__(
        self, path: str, root: str, dimension_config: Mapping[str, Any], tick: Callable[[], None]
    ) -> None:
        self._path, self._tick = path, tick
        self._universe = universe.Universe.from_config(dimension_config)
        self._index = self._read()
        refs = self._index.refs
        foreign_source.check_universe(path, self._universe, refs.universe_namespace, refs.universe_version)
        name = zip_index.archive_name(self._index.artifact_map)
        self._place = f"zips/{name[:4]}/{name}"
        place = os.path.join(root, self._place)
        os.makedirs(os.path.dirname(place))
        os.symlink(path, place)
        store = bundle.Datastore(foreign_source.DATASTORE, root, {})
        self.head = bundle.Head(path, dict(dimension_config), (store,))

    def _read(self) -> zip_index.ZipIndex:
        try:
            with zipfile.ZipFile(self._path) as archive:
                if archive.getinfo(zip_index.NAME).file_size > _LARGEST:
                    raise self._problem(f"has an index of more than {_LARGEST} bytes")
                index = zip_index.decode(archive.read(zip_index.NAME))
                if missing := index.artifact_map.keys() - set(archive.namelist()):
                    raise self._problem(f"lacks {min(missing)}, which is in its index")
                return index
        except errors.AggregatorError:
            raise
        except Exception as exc:
            # It tells of damage with errors of many kinds, down to struct.error.
            raise self._problem(f"is no archive of datasets, or damaged ({exc})") from exc

    def _problem(self, text: str) -> errors.FormatError:
        return errors.FormatError(self._path, "", f"{text}; make it again, or copy it again")

    def batches(self) -> Iterator[bundle.Batch]:
        """Iterate over the bundle; see `bundle.Producer`.

        Raises
        ------
        RefusedError
            If a region can't be used.
        FormatError
            If the archive contradicts itself.
        """
        try:
            yield from self._batches()
        except (KeyError, TypeError, ValueError) as exc:
            what = f"lacks {exc}" if isinstance(exc, KeyError) else str(exc)
            raise self._problem(f"has an index that contradicts itself: {what}") from exc

    def _batches(self) -> Iterator[bundle.Batch]:
        refs = self._index.refs
        kinds = {
            name: foreign_source.dataset_type(
                name, kind.storage_class, kind.dimensions, kind.is_calibration, self._universe
            )
            for name, kind in refs.dataset_types.items()
        }
        yield bundle.DatasetTypes(sorted(kinds.values()))
        runs = sorted({ref.run for ref in refs.compact_refs.values()})
        yield bundle.Collections([bundle.Collection(run, "RUN", None) for run in runs])
        given = refs.dimension_records or {}
        for element in self._universe.elements:
            if (rows := given.get(element)) and self._universe.has_table(element):
                columns = self._universe.element(element).columns
                values = [
                    tuple(_value(*each) for each in zip(row, columns, strict=True))
                    for row in rows
                ]  # fmt: skip
                yield foreign_source.records(self._path, self._universe, element, values)
        files: dict[str, list[bundle.FileRecord]] = {}
        for name, each in self._index.artifact_map.items():
            member = f"{self._place}#zip-path={urllib.parse.quote(name)}"
            info = each.info
            for dataset_id in each.ids:
                files.setdefault(dataset_id.hex, []).append(
                    bundle.FileRecord(
                        dataset_id.hex, foreign_source.DATASTORE, member, info.formatter, info.storage_class,
                        info.component, info.checksum, info.file_size,
                    )
                )  # fmt: skip
        for run in runs:
            yield from self._of_run(run, kinds, files)

    def _of_run(
        self,
        run: str,
        kinds: Mapping[str, bundle.DatasetType],
        files: Mapping[str, list[bundle.FileRecord]],
    ) -> Iterator[bundle.Datasets]:
        rows = []
        for dataset_id, ref in self._index.refs.compact_refs.items():
            if ref.run == run:
                kind = kinds[ref.dataset_type_name]
                values = foreign_source.required_values(kind, self._universe, ref.data_id)
                rows.append(bundle.Dataset(dataset_id.hex, kind.name, values, None))
        rows.sort()
        for begin in range(0, len(rows), bundle.DATASETS_AT_ONCE):
            self._tick()
            some = rows[begin : begin + bundle.DATASETS_AT_ONCE]
            yield bundle.Datasets(run, some, [file for row in some for file in files.get(row.id, ())])


def _value(value: Any, column: Any) -> Any:
    """Return a value of a dimension record as databases have it."""
    if value is None:
        return None
    if column.type in ("hash", "region"):
        return bytes.fromhex(value)
    if column.type == "timespan":
        begin, end = value
        return int(begin), int(end)
    return value
