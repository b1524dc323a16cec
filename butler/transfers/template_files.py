"""Files of datasets as the templates of a repository have them, whatever is recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records, universe
from aggregator.butler.registry import dataset_type_rows, record_rows, registry
from aggregator.schemas import bundle
from aggregator.schemas.graphs import addresses

_Kind = dataset_type_rows.DatasetTypeRow
_Values = tuple[bundle.Value, ...]

File = tuple[datastore.PlannedFile, str]
"""A file, and its path below the root of its datastore."""


class TemplateFiles:
    """Predicts the files of datasets of one repository.

    Parameters
    ----------
    config
        Its configuration.
    opened
        Its database, which has the dimension records of all data IDs that are asked for.
    """

    def __init__(self, config: repository_config.RepositoryConfig, opened: registry.Registry) -> None:
        self._opened = opened
        self._store = datastore.Datastore(config, opened.universe, mock_storage_classes=True)

    def of_type(
        self, run: str, kind: _Kind, rows: Collection[bundle.Dataset]
    ) -> Iterator[tuple[bundle.Dataset, Sequence[File]]]:
        """Yield datasets of one type with all their files, of each datastore that takes them.

        Raises
        ------
        RefusedError
            If there is no template for the dataset type.
        AggregatorError
            If a path can't be made.
        """
        group = self._opened.universe.group(kind.required)
        full = self._expanded(group, {row.values for row in rows})
        at = group.keys.index("instrument") if "instrument" in group.keys else None
        instruments = {None if at is None else str(values[at]) for values in full.values()}
        requests = [(kind.name, kind.storage_class, group, instrument) for instrument in instruments]
        self._read_attributes(group, self._store.needed_attributes(requests), full)
        for row in rows:
            values = full[row.values]
            instrument = None if at is None else str(values[at])
            plan = self._store.plan(kind.name, kind.storage_class, group, instrument)
            dashed = addresses.dashed(row.id)
            yield row, [(planned, planned.path(values, run, dashed)) for planned in plan.files]

    def _expanded(self, group: universe.Group, data_ids: set[_Values]) -> dict[_Values, _Values]:
        """Return full data IDs by their required values."""
        known = {values: dict(zip(group.required, values, strict=True)) for values in data_ids}
        for element in reversed(group.elements):
            entry = self._opened.universe.element(element)
            if not entry.implied or not entry.has_table:
                continue
            get_key = record_rows.key_getter(entry, entry.required)
            get_implied = record_rows.key_getter(entry, entry.implied)
            keys = {tuple([each[name] for name in entry.required]) for each in known.values()}
            implied = {get_key(row): get_implied(row) for row in self._opened.holdings.records(element, keys)}
            for each in known.values():
                key = tuple([each[name] for name in entry.required])
                each.update(zip(entry.implied, implied.get(key, ()), strict=False))
        return {values: tuple([each[name] for name in group.keys]) for values, each in known.items()}

    def _read_attributes(
        self, group: universe.Group, needed: Mapping[str, set[str]], full: Mapping[_Values, _Values]
    ) -> None:
        """Read what of dimension records paths depend on."""
        rows: list[tuple[str, list[object]]] = []
        for element in needed:
            places = [group.keys.index(name) for name in self._opened.universe.required(element)]
            keys = {tuple([values[place] for place in places]) for values in full.values()}
            rows += [(element, list(row)) for row in self._opened.holdings.records(element, keys)]
        self._store.set_records(records.RecordTable.build(self._opened.universe, needed, rows))
