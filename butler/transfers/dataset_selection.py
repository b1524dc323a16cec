"""What of a repository is wanted, and which datasets that is (transfer.md section 7.2)."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
from aggregator.butler.dimensions import expressions
from aggregator.butler.registry import (
    collection_rows,
    data_id_joins,
    registry,
    selected_datasets,
)
from aggregator.schemas import bundle
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

_Collection = collection_rows.CollectionRow
_Type = collection_rows.CollectionType

_NAMED: Final = 5
"""Names that a message lists."""


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted: all that the query finds (if it says anything), and all that is named besides."""

    collections: tuple[str, ...] = ()
    """Names of collections, or patterns for them; chains are replaced by their members."""

    dataset_types: tuple[str, ...] = ()
    """Names of dataset types, or patterns for them; all if there are none."""

    where: str = ""
    """Expression that data IDs have to fulfil; types without its dimensions are left out."""

    find_first: bool = False
    """Whether only the first dataset of each type and data ID counts, in the order of the collections."""

    ids: Sequence[str] = ()
    """Ids of datasets, 32 lowercase hexadecimal digits."""

    possible_ids: Sequence[str] = ()
    """Ids of datasets that are wanted if there are any."""

    rows_only: Sequence[str] = ()
    """Ids of datasets of which rows are wanted if there are any, and no files."""

    runs: tuple[str, ...] = ()
    """RUN collections that are wanted even if they have none of the datasets, or don't exist."""

    definitions: tuple[bundle.DatasetType, ...] = ()
    """Dataset types that are wanted even if none of the datasets is of them, or they don't exist."""

    @property
    def has_query(self) -> bool:
        """Whether there is a query."""
        return bool(self.collections or self.dataset_types or self.where)


class Chosen:
    """The datasets that a selection chooses, by RUN collection.

    Whole runs take no memory; of others each dataset takes 16 bytes.
    """

    def __init__(self) -> None:
        self.kinds: dict[int, set[int]] = {}
        """Keys of the dataset types all of whose datasets are chosen, by key of the run."""
        self._pieces: dict[int, bytearray] = {}
        self._ids: dict[int, addresses.Ids] = {}

    @property
    def runs(self) -> set[int]:
        """Keys of the runs that have chosen datasets."""
        return self.kinds.keys() | self._pieces.keys()

    def add(self, rows: Iterable[tuple[str, int]]) -> None:
        """Choose datasets by id and key of the run."""
        pieces = self._pieces
        for dataset_id, run_id in rows:
            if run_id not in pieces:
                pieces[run_id] = bytearray()
            pieces[run_id] += bytes.fromhex(dataset_id)
        self._ids.clear()

    def some(self, run_id: int) -> addresses.Ids:
        """Return the ids that are chosen one by one, sorted, each once, shape (n,)."""
        if run_id not in self._ids:
            data = self._pieces.get(run_id, b"")
            self._ids[run_id] = np.unique(np.frombuffer(data, addresses.ID_TYPE))
        return self._ids[run_id]

    def ids(self, source: registry.Registry) -> addresses.Ids:
        """Return the ids of all chosen datasets, sorted, shape (n,)."""
        parts = [self.some(run_id) for run_id in self._pieces]
        parts += [source.holdings.ids_of_run(run_id, kinds) for run_id, kinds in self.kinds.items()]
        ids: addresses.Ids = np.unique(np.concatenate([*parts, np.zeros(0, addresses.ID_TYPE)]))
        return ids

    def is_everything(self, source: registry.Registry) -> bool:
        """Return whether all datasets of all runs are chosen, run by run."""
        rows = source.holdings.collections().values()
        present = source.holdings.kinds_of([row.id for row in rows if row.type is _Type.RUN])
        return all(kinds <= self.kinds.get(run_id, set()) for run_id, kinds in present.items())

    def are_chosen(self, run_id: int, kind: int, ids: Sequence[str]) -> list[bool]:
        """Return for each of some datasets of a type in a run whether it is chosen."""
        if kind in self.kinds.get(run_id, ()):
            return [True] * len(ids)
        if run_id not in self._pieces:
            return [False] * len(ids)
        are_in: list[bool] = addresses.are_in(addresses.parse_ids(list(ids)), self.some(run_id)).tolist()
        return are_in


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What a selection chooses in a repository."""

    datasets: Chosen
    """The datasets."""

    rows_only: Chosen
    """Datasets of which only rows are wanted."""

    named: tuple[str, ...]
    """Collections that the selection names, chains among them."""

    unsuited: tuple[str, ...]
    """Dataset types left out because they do not have the dimensions of the expression."""


def choose(source: registry.Registry, selection: Selection) -> Choice:
    """Return what a selection chooses in a repository.

    Raises
    ------
    RefusedError
        If it names something that does not exist, or chooses nothing.
    """
    return _Chooser(source, selection).choice()


class _Chooser:
    def __init__(self, source: registry.Registry, selection: Selection) -> None:
        self._source = source
        self._selection = selection
        self._kinds = source.holdings.dataset_types()
        self._collections = source.holdings.collections()
        self._by_key = {row.id: row for row in self._collections.values()}
        self._chains = source.holdings.chains()
        self._unsuited: list[str] = []

    def choice(self) -> Choice:
        """Choose."""
        chosen, rows_only = Chosen(), Chosen()
        named: list[_Collection] = []
        if self._selection.has_query:
            named = self._named()
            self._query(chosen, self._flat(named))
        self._by_id(chosen, self._selection.ids)
        chosen.add(self._source.holdings.runs_of(list(dict.fromkeys(self._selection.possible_ids))))
        rows_only.add(self._source.holdings.runs_of(list(dict.fromkeys(self._selection.rows_only))))
        return Choice(chosen, rows_only, tuple(row.name for row in named), tuple(self._unsuited))

    def _named(self) -> list[_Collection]:
        """Return the collections that are named; all runs if none are."""
        if not self._selection.collections:
            return [row for row in self._collections.values() if row.type is _Type.RUN]
        names = matches(self._selection.collections, self._collections, "collection")
        return [self._collections[name] for name in names]

    def _flat(self, rows: Iterable[_Collection]) -> list[_Collection]:
        """Return collections in search order, chains replaced by their members, each once."""
        flat: dict[int, _Collection] = {}
        seen: set[int] = set()
        todo = [row.id for row in rows][::-1]
        while todo:
            key = todo.pop()
            if key in seen:
                continue
            seen.add(key)
            if self._by_key[key].type is _Type.CHAINED:
                todo += self._chains.get(key, [])[::-1]
            else:
                flat[key] = self._by_key[key]
        return list(flat.values())

    def _query(self, chosen: Chosen, collections: list[_Collection]) -> None:
        """Choose what the query finds."""
        given = self._selection
        names = matches(given.dataset_types or ("*",), self._kinds, "dataset type")
        condition = expressions.parse(given.where)
        needed = data_id_joins.check_columns(self._source.universe, condition)
        present = self._source.holdings.kinds_of([row.id for row in collections])
        for kind in (self._kinds[name] for name in names):
            having = [row for row in collections if kind.id in present.get(row.id, ())]
            if not needed <= set(self._source.universe.group(kind.required).names):
                self._unsuited += [kind.name] if having else []
                continue
            self._search(chosen, selected_datasets.Search(kind, having, condition, given.find_first))

    def _search(self, chosen: Chosen, search: selected_datasets.Search) -> None:
        """Choose the datasets of one type that the query finds."""
        is_plain = search.condition is None and not search.finds_first
        if search.finds_first and any(row.type is _Type.CALIBRATION for row in search.collections):
            raise errors.RefusedError(
                f"Which dataset of type {search.kind.name!r} comes first depends on times, in a CALIBRATION "
                "collection. Leave --find-first out, or those collections."
            )
        for row in search.collections if is_plain else ():
            if row.type is _Type.RUN:
                chosen.kinds.setdefault(row.id, set()).add(search.kind.id)
        rest = [row for row in search.collections if not is_plain or row.type is not _Type.RUN]
        if rest:
            chosen.add(self._source.holdings.search(dataclasses.replace(search, collections=rest)))

    def _by_id(self, chosen: Chosen, ids: Sequence[str]) -> None:
        """Choose datasets by id."""
        if not ids:
            return
        rows = list(self._source.holdings.runs_of(list(dict.fromkeys(ids))))
        if missing := sorted(set(ids) - {dataset_id for dataset_id, _ in rows}):
            raise errors.RefusedError(
                f"{len(missing)} of the datasets given by id are not in the repository, such as "
                f"{', '.join(map(addresses.dashed, missing[:_NAMED]))}."
            )
        chosen.add(rows)


def matches(patterns: Iterable[str], names: Collection[str], what: str) -> list[str]:
    """Return the names that fit some patterns, in the order of the patterns, each once.

    Raises
    ------
    RefusedError
        If a pattern fits none.
    """
    result: dict[str, None] = {}
    for pattern in patterns:
        fitting = [pattern] if pattern in names else fnmatch.filter(sorted(names), pattern)
        if not fitting and pattern != "*":
            raise errors.RefusedError(f"There is no {what} {pattern!r} in the repository.")
        result.update(dict.fromkeys(fitting))
    return list(result)
