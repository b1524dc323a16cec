"""Where the files of a bundle go in a repository, and how they get there (transfer.md section 7.3)."""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from aggregator.butler.configuration import own_files, repository_config
from aggregator.butler.registry import additions
from aggregator.butler.transfers import account, root_map, transfer_policies
from aggregator.schemas import bundle
from aggregator.storage import (
    errors,
    file_batches,
    in_flight,
    inner_directories,
    local_files,
    opening,
    stores,
    uris,
)

_UNUSUAL: Final = re.compile(r"^/|://|\.\.|#", re.MULTILINE)
"""What a path has that is not just one below a root; many can be looked at together, one a line."""

_WAY: Final = {transfer_policies.MOVE: "auto", transfer_policies.MANIFEST: "auto"}
"""How files are brought, where a mode says more than that."""


class Planned(NamedTuple):
    """A file with its record."""

    record: bundle.FileRecord
    """The record in the bundle."""

    location: str
    """Where the file is: an absolute path, or a URI."""

    store: repository_config.FileDatastore
    """Datastore that it goes to."""

    path: str
    """Path in its record there."""

    @property
    def key(self) -> str:
        """Path of the file itself, below the datastore's root."""
        return bundle.file_path(self.path)

    @property
    def row(self) -> additions.FileRow:
        """The row of its record."""
        record = self.record
        rest = record.formatter, record.storage_class, record.component, record.checksum, record.size
        return (self.store.records_table, self.store.name, record.dataset_id, self.path, *rest)


class Placement:
    """Brings files of a bundle to a repository.

    Parameters
    ----------
    head
        Head of the bundle.
    config
        Configuration of the repository.
    adding
        Its database; nothing if there is none yet.
    policy
        What becomes of files.
    done
        Where files are counted.
    tick
        Called now and then; what it raises ends the work.
    """

    def __init__(
        self,
        head: bundle.Head,
        config: repository_config.RepositoryConfig,
        adding: additions.Additions | None,
        policy: transfer_policies.Policies,
        done: account.Account,
        tick: Callable[[], None],
    ) -> None:
        self._head, self._config, self._adding = head, config, adding
        self._policy, self._done, self._tick = policy, done, tick
        self._ranks = {store.name: rank for rank, store in enumerate(head.datastores)}
        self._roots = {
            store.name: os.path.join(store.root, "")
            for store in head.datastores
            if not uris.is_remote(store.root)
        }
        self._map = root_map.RootMap(policy.root_map)
        self._settled: set[tuple[str, str]] = set()
        self._own = own_files.OwnFiles(config)
        self._inside = inner_directories.InnerDirectories()
        self._stores = {store.name: store.files for store in config.datastores}
        self._graphs: dict[tuple[str, str], str] = {}
        self._sizes: dict[str, int] = {}
        self._measured: dict[str, int] = {}

    def add_graph(self, graph: bundle.Graph) -> None:
        """Take a graph from where it is said to be: it may have been written anew."""
        if graph.datastore:
            self._graphs[graph.datastore, graph.path] = graph.location

    def plan(self, records: Iterable[bundle.FileRecord], paths: Mapping[str, str]) -> list[Planned]:
        """Return where files go.

        Parameters
        ----------
        records
            Their records.
        paths
            Path of the destination for each path of the bundle that is another one there.
        """
        if self._policy.files == transfer_policies.NONE:
            return []
        planned: list[Planned] = []
        # A chain of datastores has a file more than once; one is enough.
        chosen: dict[str, str] = {}
        ordered = sorted(records, key=self._rank) if len(self._ranks) > 1 else list(records)
        is_direct = self._policy.files == transfer_policies.DIRECT or bool(self._map)
        if not (is_direct or paths or self._graphs) and (usual := self._usual(ordered)) is not None:
            return usual
        for record in ordered:
            if chosen.setdefault(record.dataset_id, record.datastore) != record.datastore:
                continue
            path, root = record.path, self._roots.get(record.datastore)
            if root is None or path in paths or is_direct or _UNUSUAL.search(path):
                location = bundle.location(self._head, record)
                path = self._path(record, location, paths)
            else:
                # Nearly all are such, and there may be millions.
                location = root + path
            if self._graphs:
                record, location = self._as_it_is(record, location)
            planned += [Planned(record, location, store, path) for store in self._config.datastores]
        return planned

    def _usual(self, records: Sequence[bundle.FileRecord]) -> list[Planned] | None:
        """Return where files go that all are just below one root; nothing if any of them is not."""
        if len(self._ranks) > 1 or len(self._roots) != len(self._ranks) or len(self._config.datastores) > 1:
            return None
        paths = [record.path for record in records]
        if _UNUSUAL.search("\n".join(paths)):
            return None
        [root], [store] = self._roots.values(), self._config.datastores
        # Without a call for each: there may be millions.
        return [
            Planned(record, root + path, store, path) for record, path in zip(records, paths, strict=True)
        ]

    def _as_it_is(self, record: bundle.FileRecord, location: str) -> tuple[bundle.FileRecord, str]:
        """Return the record of a file, and where it is, as it is if it was written anew."""
        graph = self._graphs.get((record.datastore, record.path), location)
        if graph == location:
            return record, location
        if graph not in self._sizes:
            with opening.open_file(graph) as file:
                self._sizes[graph] = file.size
        return record._replace(checksum=None, size=self._sizes[graph]), graph

    def _rank(self, record: bundle.FileRecord) -> tuple[str, int]:
        return record.dataset_id, self._ranks[record.datastore]

    def _path(self, record: bundle.FileRecord, location: str, paths: Mapping[str, str]) -> str:
        member = record.path[len(bundle.file_path(record.path)) :]
        if self._policy.files == transfer_policies.DIRECT:
            return root_map.uri(location) + member
        if self._map:
            return self._seen(record, self._map.seen(location)) + member
        path = paths.get(record.path, record.path)
        # What leads out of the root belongs to somebody else.
        if uris.is_absolute(path) or ".." in path.split("/"):
            raise errors.RefusedError(
                f"{path}: the file of dataset {record.dataset_id} would not be inside the datastore. "
                "Give --files direct to leave it where it is."
            )
        return path

    def _seen(self, record: bundle.FileRecord, location: str) -> str:
        """Return the path of a file that stays where it is, and that the destination sees at a location."""
        root = self._config.datastores[0].root
        path = root_map.path_below(location, root)
        is_absolute = uris.is_absolute(record.path)
        if ".." in location.split("/") or (path is None and not is_absolute):
            raise errors.RefusedError(
                f"{location}: the file of dataset {record.dataset_id} is not inside the datastore ({root}), "
                "as --root-map has it. Give the right one."
            )
        return root_map.uri(location) if path is None else path

    def absent(self, planned: Sequence[Planned]) -> dict[str, str]:
        """Return where files certainly are not that have to be there before anything is done, by dataset.

        Raises
        ------
        AggregatorError
            If nobody knows, or something else is there.
        """
        if self._policy.files == transfer_policies.IN_PLACE and not self._map:
            there = self.in_place(planned)
            absent = [each for each, is_there in zip(planned, there, strict=True) if not is_there]
            return {each.record.dataset_id: f"{each.store.root}/{each.key}" for each in absent}
        if self._policy.files == transfer_policies.NONE:
            return {}
        gone = self.missing(planned)
        return {each.record.dataset_id: each.location for each in planned if each.location in gone}

    def missing(self, planned: Sequence[Planned]) -> set[str]:
        """Return those locations where certainly no file is.

        Raises
        ------
        FormatError
            If something else is there.
        MachineError
            If nobody knows.
        """
        by_store: dict[str, tuple[stores.Store, dict[str, str]]] = {}
        roots = {store.name: opening.open_store(store.root) for store in self._head.datastores if store.root}
        for each in planned:
            path = each.record.path
            if uris.is_absolute(path) or (each.record.datastore, path) in self._graphs:
                store, key = opening.locate(each.location)
            else:
                store, key = roots[each.record.datastore], bundle.file_path(path)
            if store.root not in by_store:
                by_store[store.root] = store, {}
            by_store[store.root][1][key] = each.location
        gone: set[str] = set()
        unknown = {each.location for each in planned if each.record.size < 0}
        self._measured = {}
        for store, keys in by_store.values():
            for location, look in zip(keys.values(), store.marks(keys), strict=True):
                if isinstance(look, local_files.UnusableError):
                    raise errors.FormatError(location, "", str(look))
                if look is None:
                    gone.add(location)
                elif location in unknown:
                    self._measured[location] = look.size
        return gone

    def size(self, planned: Planned) -> int:
        """Return the bytes of a file that was looked for last, or as they are recorded; 0 if nobody knows."""
        return planned.record.size if planned.record.size >= 0 else self._measured.get(planned.location, 0)

    def in_place(self, planned: Sequence[Planned]) -> list[bool]:
        """Return for each file whether there is something in its place.

        Raises
        ------
        MachineError
            If nobody knows.
        """
        by_store: dict[str, list[int]] = {}
        for index, each in enumerate(planned):
            by_store.setdefault(each.store.name, []).append(index)
        there = [False] * len(planned)
        for name, indices in by_store.items():
            looks = self._stores[name].marks(planned[index].key for index in indices)
            for index, look in zip(indices, looks, strict=True):
                there[index] = look is not None
        return there

    def bring(self, planned: Sequence[Planned]) -> None:
        """Bring files to their places; those that are there already are compared, and stay.

        Raises
        ------
        AggregatorError
            If a file can't be brought, or a place is taken by something else.
        """
        if not self._policy.moves:
            return
        todo = self._distinct(planned)
        roots = {
            store.name: self._stores[store.name].location("")
            for store in self._config.datastores
            if not uris.is_remote(store.root)
        }
        local: list[Planned] = []
        distant: list[Planned] = []
        for each in todo:
            is_local = each.store.name in roots and each.location.startswith("/")
            (local if is_local else distant).append(each)
        pairs = [(each.location, roots[each.store.name] + each.key) for each in local]
        directories = {
            (target.rpartition("/")[0], each.store.root)
            for (_, target), each in zip(pairs, local, strict=True)
        }
        for directory, root in sorted(directories):
            self._inside.check(directory, root)
        mode = _WAY.get(self._policy.files, self._policy.files)
        taken = file_batches.bring(pairs, mode, self._tick, self._policy.jobs or 1)
        there = [local[index] for index in taken]
        there += self._bring_distant(distant)
        self._count(todo, len(there))
        if there:
            self._settle(there, {each.record.dataset_id for each in planned}, mode)

    def _distinct(self, planned: Sequence[Planned]) -> list[Planned]:
        """Return one of all that share a file, unless that is in its place already."""
        first: dict[tuple[str, str], Planned] = {}
        shared: set[tuple[str, str]] = set()
        for each in planned:
            place = each.store.name, each.key
            if first.setdefault(place, each) is not each:
                shared.add(place)
                if first[place].location != each.location:
                    raise errors.AggregatorError(
                        f"{each.location} and {first[place].location} would both go to {each.key}. "
                        "Transfer them to different repositories, or leave one of them out."
                    )
        todo = [each for place, each in first.items() if place not in self._settled]
        self._settled |= shared
        return todo

    def _count(self, todo: Sequence[Planned], n_there: int) -> None:
        self._done.files_brought += len(todo) - n_there
        self._done.files_present += n_there
        self._done.bytes_brought += sum(max(each.record.size, 0) for each in todo)

    def _bring_distant(self, planned: Sequence[Planned]) -> list[Planned]:
        """Copy files from or to object stores; return those in whose place something is."""
        looks = list(zip(planned, self.in_place(planned), strict=True))
        with in_flight.Requests(self._policy.jobs) as requests:
            for _ in requests.map(self._copy, [each for each, is_there in looks if not is_there]):
                self._tick()
        return [each for each, is_there in looks if is_there]

    def _copy(self, planned: Planned) -> None:
        """Copy one file, in whatever thread."""
        with opening.local_copy(planned.location) as path:
            self._stores[planned.store.name].adopt(
                os.path.realpath(path), planned.key, "copy", _nothing, _nothing
            )

    def _settle(self, planned: Sequence[Planned], ids: set[str], mode: str) -> None:
        """Find out what is in the places of files; leave what is the same, refuse what is not."""
        conflicts = self.conflicts(planned, ids)
        for each in planned:
            conflict = conflicts.get((each.store.name, each.key))
            if conflict is None:
                continue
            if conflict.kind != "C12" or not self._policy.overwrite_orphans:
                raise errors.AggregatorError(f"{conflict.kind}: {conflict.text}")
            store = self._stores[each.store.name]
            store.delete_many([each.key])
            with opening.local_copy(each.location) as path:
                store.adopt(os.path.realpath(path), each.key, mode, self._tick, _nothing)

    def conflicts(self, planned: Sequence[Planned], ids: set[str]) -> dict[tuple[str, str], account.Conflict]:
        """Return what keeps files from places where something is (C12, C13), by datastore and key.

        Parameters
        ----------
        planned
            Files in whose place there is something.
        ids
            Ids of the datasets whose files they are.
        """
        conflicts: dict[tuple[str, str], account.Conflict] = {}
        owners: dict[tuple[str, str], str] = {}
        tables = {each.store.records_table: each.store.name for each in planned}
        for table, name in tables.items() if self._adding is not None else ():
            paths = {each.path for each in planned if each.store.name == name}
            assert self._adding is not None
            owners |= {(name, path): owner for path, owner in self._adding.owners(table, paths).items()}
        own = self.own_conflicts(planned)
        for each in planned:
            place = self.target(each)
            if (each.store.name, each.key) in own:
                continue
            owner = owners.get((each.store.name, each.path))
            if owner is not None and owner not in ids and not self.is_same(each):
                text = f"{place}: is the file of dataset {owner}, not of {each.record.dataset_id}"
                conflicts[each.store.name, each.key] = account.Conflict(
                    "C13", text, each.record.dataset_id, owner
                )
            elif owner is None and not self.is_same(each):
                text = (
                    f"{place}: there is another file than {each.location}, which no record refers to. Move "
                    "it away, or give --overwrite-orphans"
                )
                conflicts[each.store.name, each.key] = account.Conflict("C12", text, each.record.dataset_id)
        return conflicts | own

    def own_conflicts(self, planned: Sequence[Planned]) -> dict[tuple[str, str], account.Conflict]:
        """Return what would take the place of files that are the repository's own (C13), like `conflicts`."""
        conflicts: dict[tuple[str, str], account.Conflict] = {}
        for each in planned:
            if self._own.may_have(each.key) and (place := self.target(each)) in self._own:
                text = f"{place}: is the repository's own, not the file of dataset {each.record.dataset_id}"
                conflicts[each.store.name, each.key] = account.Conflict("C13", text, each.record.dataset_id)
        return conflicts

    def target(self, planned: Planned) -> str:
        """Return where a file has to be: an absolute path, or a URI."""
        return self._stores[planned.store.name].location(planned.key)

    def is_same(self, planned: Planned) -> bool:
        """Return whether what is in a file's place has its content."""
        target = self.target(planned)
        if opening.is_same(planned.location, target):
            return True
        with opening.local_copy(planned.location) as first, opening.local_copy(target) as second:
            return os.path.isfile(second) and filecmp.cmp(first, second, shallow=False)


def _nothing() -> None:
    """Look at nothing: nobody else may write there, or this thread has nobody to tell."""
