"""Paths of files by the templates of the repository that they go to, where those of the source don't do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records, universe
from aggregator.butler.registry import dataset_type_rows, graph_places, record_rows, registry
from aggregator.schemas import bundle, datastore_records
from aggregator.schemas.graphs import addresses
from aggregator.storage import uris

_Kind = dataset_type_rows.DatasetTypeRow
_Values = tuple[bundle.Value, ...]


class RenamedPaths:
    """Finds the paths of files that can't keep theirs: of renamed runs, and of absolute records.

    Parameters
    ----------
    config
        Configuration of the destination.
    target
        Its database, which has the dimension records already.
    """

    def __init__(self, config: repository_config.RepositoryConfig, target: registry.Registry) -> None:
        self._config, self._target = config, target
        self._graphs: dict[str, bundle.Graph] = {}
        self._store = datastore.Datastore(config, target.universe, mock_storage_classes=True)

    def add_graph(self, graph: bundle.Graph) -> None:
        """Note the file of a graph, which many records share."""
        if graph.path:
            self._graphs[graph.path] = graph

    def of(self, datasets: bundle.Datasets, kinds: Mapping[str, _Kind]) -> dict[str, str]:
        """Return the path of each file of a batch that gets another one, by the path that it has.

        Raises
        ------
        RefusedError
            If the destination has no template for a dataset type.
        AggregatorError
            If a path can't be made.
        """
        if not (chosen := concerned(datasets)):
            return {}
        paths: dict[str, str] = {}
        rows = {row.id: row for row in datasets.rows}
        todo: dict[str, list[bundle.FileRecord]] = {}
        for record in chosen:
            if (graph := self._graphs.get(record.path)) is not None:
                if record.path not in paths:
                    where = graph_places.predicted(
                        self._config, self._target, datasets.run, graph.dataset_id or "0" * 32
                    )
                    paths[record.path] = where[0].recorded
            else:
                todo.setdefault(rows[record.dataset_id].dataset_type, []).append(record)
        for name, some in todo.items():
            paths.update(self._of_type(datasets.run, kinds[name], some, rows))
        return paths

    def _of_type(
        self,
        run: str,
        kind: _Kind,
        files: Sequence[bundle.FileRecord],
        rows: Mapping[str, bundle.Dataset],
    ) -> Iterator[tuple[str, str]]:
        group = self._target.universe.group(kind.required)
        full = self._expanded(group, {rows[record.dataset_id].values for record in files})
        at = group.keys.index("instrument") if "instrument" in group.keys else None
        instruments = {None if at is None else str(values[at]) for values in full.values()}
        requests = [(kind.name, kind.storage_class, group, instrument) for instrument in instruments]
        self._read_attributes(group, self._store.needed_attributes(requests), full)
        for record in files:
            values = full[rows[record.dataset_id].values]
            instrument = None if at is None else str(values[at])
            plan = self._store.plan(kind.name, kind.storage_class, group, instrument)
            component = record.component or datastore_records.NO_COMPONENT
            for planned in plan.files:
                if planned.component == component:
                    yield record.path, planned.path(values, run, addresses.dashed(record.dataset_id))
                    break

    def _expanded(self, group: universe.Group, data_ids: set[_Values]) -> dict[_Values, _Values]:
        """Return full data IDs by their required values."""
        known = {values: dict(zip(group.required, values, strict=True)) for values in data_ids}
        for element in reversed(group.elements):
            entry = self._target.universe.element(element)
            if not entry.implied or not entry.has_table:
                continue
            get_key = record_rows.key_getter(entry, entry.required)
            get_implied = record_rows.key_getter(entry, entry.implied)
            keys = {tuple([each[name] for name in entry.required]) for each in known.values()}
            implied = {get_key(row): get_implied(row) for row in self._target.holdings.records(element, keys)}
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
            places = [group.keys.index(name) for name in self._target.universe.required(element)]
            keys = {tuple([values[place] for place in places]) for values in full.values()}
            rows += [(element, list(row)) for row in self._target.holdings.records(element, keys)]
        self._store.set_records(records.RecordTable.build(self._target.universe, needed, rows))


def concerned(datasets: bundle.Datasets) -> list[bundle.FileRecord]:
    """Return the records of a batch whose paths are other ones at the destination."""
    if datasets.is_renamed:
        return list(datasets.files)
    return [each for each in datasets.files if each.path.startswith("/") or uris.scheme(each.path)]
