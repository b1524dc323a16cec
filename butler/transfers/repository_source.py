"""A repository as the producer of a bundle (transfer.md sections 7.1 and 7.2)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import (
    collection_rows,
    dataset_type_rows,
    ingested_graphs,
    registry,
    run_provenance,
)
from aggregator.butler.transfers import dataset_selection, needed_records, unrecorded_files
from aggregator.schemas import bundle
from aggregator.schemas.graphs import addresses, backed_datasets
from aggregator.storage import errors

_Type = collection_rows.CollectionType
_Kind = dataset_type_rows.DatasetTypeRow

_SETTINGS: Final = ("templates", "formatters", "composites", "constraints")
"""Sections of a datastore's configuration that a bundle tells."""


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """What comes along with the selected datasets."""

    is_full: bool = False
    """Whether all tags, and all chains that have a selected RUN, come along."""

    all_dataset_types: bool = False
    """Whether all dataset types come along, also those without a selected dataset."""

    trusts: bool = False
    """Whether files that are not recorded, but in the places that templates give them, come along."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Survey:
    """What the selected datasets need."""

    kinds: frozenset[int]
    """Keys of their types."""

    records: needed_records.NeededRecords
    """Dimension records."""


class RepositorySource:
    """Produces a bundle from a repository; one pass over the database finds out what datasets need.

    Parameters
    ----------
    config
        The repository's configuration.
    source
        Its database.
    selected
        What is wanted.
    extent
        What comes along.
    tick
        Called for each batch of the first pass; what it raises ends the work.

    Raises
    ------
    RefusedError
        If the selection names something that does not exist, or chooses nothing.
    """

    def __init__(
        self,
        config: repository_config.RepositoryConfig,
        source: registry.Registry,
        selected: dataset_selection.Selection,
        extent: Extent,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._source = source
        self._extent = extent
        self._tick = tick
        self._unrecorded = unrecorded_files.UnrecordedFiles(config, source) if extent.trusts else None
        self._datastores = [(store.name, store.records_table) for store in config.datastores]
        self._all_kinds = source.holdings.dataset_types()
        self._kinds = {kind.id: kind for kind in self._all_kinds.values()}
        self._collections = source.holdings.collections()
        self._runs = {row.id: row for row in self._collections.values() if row.type is _Type.RUN}
        self.choice = dataset_selection.choose(source, selected)
        """Which datasets are chosen."""
        self._selected = selected
        for name in selected.runs:
            if name in self._collections and self._collections[name].type is not _Type.RUN:
                raise errors.RefusedError(f"{config.path}: {name!r} is no RUN collection.")
        self._graphs = self._find_graphs()
        if not self._chosen_runs() and not selected.runs:
            raise errors.RefusedError(f"{config.path}: nothing is selected.")

    @functools.cached_property
    def head(self) -> bundle.Head:
        """What all batches depend on."""
        stores = tuple(
            bundle.Datastore(each.name, each.root, {name: getattr(each, name) for name in _SETTINGS})
            for each in self._config.datastores
        )
        components = {name: dict(parts) for name, parts in self._config.storage_classes.items()}
        return bundle.Head(self._config.path, self._source.dimension_config, stores, components)

    def batches(self) -> Iterator[bundle.Batch]:
        """Iterate over the bundle; see `bundle.Producer`."""
        survey = self._survey
        if types := self._dataset_types():
            yield bundle.DatasetTypes(types)
        members, chains = self._associated(), self._chains()
        yield bundle.Collections(self._described(members, chains))
        yield from survey.records.batches()
        yield from self._graphs.values()
        for run_id in self._chosen_runs():
            yield from self._datasets(run_id)
        for row in members:
            yield from self._associations(row)
        by_key = {row.id: row.name for row in self._collections.values()}
        for row, children in chains:
            yield bundle.Chain(row.name, tuple(by_key[child] for child in children))

    @functools.cached_property
    def n_datasets(self) -> int:
        """Number of datasets that are selected."""
        return sum(self._numbers.values())

    def _chosen_runs(self) -> list[int]:
        """Return the keys of the runs that have selected datasets, sorted by name."""
        return sorted(self._numbers, key=lambda key: self._runs[key].name)

    @functools.cached_property
    def _numbers(self) -> dict[int, int]:
        """How many datasets are selected of each run that has some."""
        keys = self.choice.datasets.runs | self.choice.rows_only.runs
        numbers = {key: len(self._ids(key)) for key in keys}
        return {key: number for key, number in numbers.items() if number}

    def _ids(self, run_id: int) -> addresses.Ids:
        """Return the ids of all selected datasets of a run, sorted."""
        parts = [self.choice.datasets.some(run_id), self.choice.rows_only.some(run_id)]
        if kinds := self.choice.datasets.kinds.get(run_id):
            parts.append(self._source.holdings.ids_of_run(run_id, kinds))
        filled = [part for part in parts if len(part)]
        if len(filled) == 1:
            return filled[0]
        ids: addresses.Ids = np.unique(np.concatenate([*filled, np.zeros(0, addresses.ID_TYPE)]))
        return ids

    def _pieces(self, run_id: int) -> Iterator[list[str]]:
        """Yield the ids of all selected datasets of a run, some at a time; that of its graph comes last."""
        ids, graph = self._ids(run_id), self._graphs.get(self._runs[run_id].name)
        last = None if graph is None else graph.dataset_id
        for begin in range(0, len(ids), bundle.DATASETS_AT_ONCE):
            piece = addresses.hex_digits(ids[begin : begin + bundle.DATASETS_AT_ONCE])
            if piece := [each for each in piece if each != last]:
                yield piece
        if last is not None:
            yield [last]

    @functools.cached_property
    def _survey(self) -> _Survey:
        """Go through all datasets once."""
        kinds: set[int] = set()
        records = needed_records.NeededRecords(self._source)
        for run_id in self._chosen_runs():
            for kind, data_ids in self._data_ids(run_id):
                self._tick()
                kinds.add(kind.id)
                records.add(kind.required, data_ids)
        return _Survey(frozenset(kinds), records)

    def _data_ids(self, run_id: int) -> Iterator[tuple[_Kind, list[tuple[bundle.Value, ...]]]]:
        """Yield the data IDs of all selected datasets of a run, some of a type at a time."""
        for key in sorted(self.choice.datasets.kinds.get(run_id, ())):
            data_ids = self._source.holdings.data_ids(self._kinds[key], run_id)
            while some := list(itertools.islice(data_ids, bundle.DATASETS_AT_ONCE)):
                yield self._kinds[key], some
        for part in (self.choice.datasets, self.choice.rows_only):
            ids = part.some(run_id)
            for begin in range(0, len(ids), bundle.DATASETS_AT_ONCE):
                piece = addresses.hex_digits(ids[begin : begin + bundle.DATASETS_AT_ONCE])
                rows, _ = self._source.holdings.datasets(self._kinds, run_id, piece, ())
                by_kind: dict[str, list[tuple[bundle.Value, ...]]] = {}
                for row in rows:
                    by_kind.setdefault(row.dataset_type, []).append(row.values)
                for name, data_ids_ in by_kind.items():
                    yield self._all_kinds[name], data_ids_

    def _find_graphs(self) -> dict[str, bundle.Graph]:
        """Return the graphs of the runs that have selected datasets which their graph may back."""
        backed = {
            kind.id
            for kind in self._kinds.values()
            if kind.storage_class in backed_datasets.READABLE or kind.name == run_provenance.DATASET_TYPE
        }
        graphs: dict[str, bundle.Graph] = {}
        for run, where in ingested_graphs.places(self._config, self._source).items():
            run_id = self._collections[run].id
            whole = self.choice.datasets.kinds.get(run_id, set())
            some = self.choice.datasets.some(run_id)
            if not whole & backed and not self._has_any(run_id, some, backed):
                continue
            [dataset_id] = self._source.datasets.graphs(run)
            self.choice.datasets.add([(dataset_id, run_id)])
            graphs[run] = bundle.Graph(
                "provenance", run, where[0].file, where[0].store.name, where[0].recorded, dataset_id
            )
        return dict(sorted(graphs.items()))

    def _has_any(self, run_id: int, ids: addresses.Ids, kinds: set[int]) -> bool:
        """Return whether one of some datasets is of some types."""
        if not len(ids) or not kinds:
            return False
        return bool(np.any(addresses.are_in(ids, self._source.holdings.ids_of_run(run_id, kinds))))

    def _dataset_types(self) -> list[bundle.DatasetType]:
        given = {each.name: each for each in self._selected.definitions}
        chosen = {self._kinds[key].name for key in self._survey.kinds} | (
            given.keys() & self._all_kinds.keys()
        )
        if self._extent.all_dataset_types or self._extent.is_full:
            chosen |= self._all_kinds.keys()
        kinds = [self._all_kinds[name] for name in chosen]
        rows = [bundle.DatasetType(k.name, k.storage_class, k.required, k.is_calibration) for k in kinds]
        return sorted([*rows, *(each for name, each in given.items() if name not in self._all_kinds)])

    def _associated(self) -> list[collection_rows.CollectionRow]:
        """Return the TAGGED and CALIBRATION collections whose members come along, sorted by name."""
        wanted = {_Type.CALIBRATION, *((_Type.TAGGED,) if self._extent.is_full else ())}
        rows = {row.id: row for row in self._collections.values() if row.type in wanted}
        present = self._source.holdings.kinds_of(rows)
        having = [row for key, row in rows.items() if present.get(key, set()) & self._survey.kinds]
        named = [self._collections[name] for name in self._flat(self.choice.named)]
        tagged = [row for row in named if row.type in (_Type.TAGGED, _Type.CALIBRATION)]
        return sorted({row.id: row for row in (*having, *tagged)}.values(), key=lambda row: row.name)

    def _associations(self, row: collection_rows.CollectionRow) -> Iterator[bundle.Associations]:
        present = self._source.holdings.kinds_of([row.id]).get(row.id, set())
        for kind in sorted((self._kinds[key] for key in present & self._survey.kinds), key=_name):
            members = self._source.holdings.associations(row, kind)
            while some := list(itertools.islice(members, bundle.DATASETS_AT_ONCE)):
                if chosen := self._chosen_members(kind, some):
                    yield bundle.Associations(row.name, chosen)

    def _chosen_members(
        self, kind: _Kind, members: list[tuple[int, bundle.Association]]
    ) -> list[bundle.Association]:
        """Return those members whose datasets are selected."""
        by_run: dict[int, list[str]] = {}
        for run_id, member in members:
            by_run.setdefault(run_id, []).append(member.dataset_id)
        chosen: set[str] = set()
        for run_id, ids in by_run.items():
            for part in (self.choice.datasets, self.choice.rows_only):
                chosen.update(itertools.compress(ids, part.are_chosen(run_id, kind.id, ids)))
        return [member for _, member in members if member.dataset_id in chosen]

    def _chains(self) -> list[tuple[collection_rows.CollectionRow, list[int]]]:
        """Return the chains that come along with their children, those that others have as children first."""
        children = self._source.holdings.chains()
        by_key = {row.id: row for row in self._collections.values()}
        chosen = {row.id for row in self._walk(self.choice.named) if row.type is _Type.CHAINED}
        if self._extent.is_full:
            inside = set(self._chosen_runs())
            while added := {k for k, below in children.items() if inside & set(below)} - inside:
                inside |= added
            chosen |= inside & children.keys()
        ordered: dict[int, None] = {}

        def visit(key: int) -> None:
            for child in children.get(key, ()):
                if child in chosen and child not in ordered:
                    visit(child)
            ordered[key] = None

        for key in sorted(chosen, key=lambda key: by_key[key].name):
            if key not in ordered:
                visit(key)
        return [(by_key[key], children.get(key, [])) for key in ordered]

    def _walk(self, names: Iterable[str]) -> list[collection_rows.CollectionRow]:
        """Return collections, and all that is in chains among them, each once."""
        children = self._source.holdings.chains()
        by_key = {row.id: row for row in self._collections.values()}
        seen: dict[int, collection_rows.CollectionRow] = {}
        todo = [self._collections[name].id for name in names][::-1]
        while todo:
            if (key := todo.pop()) not in seen:
                seen[key] = by_key[key]
                todo += children.get(key, [])[::-1]
        return list(seen.values())

    def _flat(self, names: Iterable[str]) -> list[str]:
        return [row.name for row in self._walk(names) if row.type is not _Type.CHAINED]

    def _described(
        self,
        members: list[collection_rows.CollectionRow],
        chains: list[tuple[collection_rows.CollectionRow, list[int]]],
    ) -> list[bundle.Collection]:
        rows = {row.name: row for row in (*members, *(row for row, _ in chains))}
        rows |= {self._runs[key].name: self._runs[key] for key in self._chosen_runs()}
        described = [bundle.Collection(row.name, row.type.name, row.doc) for row in rows.values()]  # type: ignore[arg-type]
        for name in self._selected.runs:
            if name not in rows:
                doc = self._collections[name].doc if name in self._collections else None
                described.append(bundle.Collection(name, "RUN", doc))
        return sorted(described)

    def _datasets(self, run_id: int) -> Iterator[bundle.Datasets]:
        run, bare = self._runs[run_id].name, self.choice.rows_only
        for piece in self._pieces(run_id):
            rows, files = self._source.holdings.datasets(self._kinds, run_id, piece, self._datastores)
            bare_ids: set[str] = set()
            if len(bare.some(run_id)):
                bare_ids = {row.id for row in rows} - self._with_files(run_id, rows)
                files = [record for record in files if record.dataset_id not in bare_ids]
            if self._unrecorded is not None:
                known = bare_ids | {record.dataset_id for record in files}
                unknown = [row for row in rows if row.id not in known]
                files = sorted([*files, *self._unrecorded.find(run, unknown, self._all_kinds)])
            if rows:
                yield bundle.Datasets(run, rows, files)

    def _with_files(self, run_id: int, rows: list[bundle.Dataset]) -> set[str]:
        """Return the ids of those datasets of which not just rows are wanted."""
        by_kind: dict[str, list[str]] = {}
        for row in rows:
            by_kind.setdefault(row.dataset_type, []).append(row.id)
        wanted: set[str] = set()
        for name, ids in by_kind.items():
            are_chosen = self.choice.datasets.are_chosen(run_id, self._all_kinds[name].id, ids)
            wanted.update(itertools.compress(ids, are_chosen))
        return wanted


def _name(kind: _Kind) -> str:
    return kind.name
