"""Reads and looks for the files that execution leaves, at their predicted places."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aggregator.butler.datastores import catalog, datastore
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.graphs import predicted
from aggregator.storage import in_flight, local_files, stores
from aggregator.workers.roles.scanning import memory_budget

_READ_AHEAD = 1 << 25
"""Bytes of files that are read ahead, at most. What does not fit is read when its turn comes."""

Place = tuple[datastore.PlannedFile, str]
"""A file of a dataset, and its key in its store."""


class UnreadableError(Exception):
    """A file exists and can't be read, parsed or validated.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class File(NamedTuple):
    """A file that was looked for."""

    store: stores.Store | None
    """The store that was asked last, if any was."""

    key: str
    """Its key there."""

    data: bytes | None
    """Its content; nothing if it does not exist."""

    @property
    def path(self) -> str:
        """Where it is, or would be."""
        return "" if self.store is None else self.store.location(self.key)


_Operation = Callable[[stores.Store, str], stores.Content | None]
"""What is done with a file: it is read, or looked at, which gives no data."""


class _Search(NamedTuple):
    """What came of looking for the file of a dataset in its places."""

    file: File
    """The file."""

    looked: list[tuple[str, bytes]]
    """What was looked at, as `ExecutionFiles.take_looked` returns it."""

    error: UnreadableError | None = None
    """Why it can't be read, or nobody can know whether it exists."""


class ExecutionFiles:
    """Finds files of a repository.

    Parameters
    ----------
    types
        Knows where datasets lie.
    requests
        Does several operations at a time where they take long.
    """

    def __init__(self, types: catalog.Catalog, requests: in_flight.Requests) -> None:
        self._types = types
        self._requests = requests
        self._stores = [child.files for child in types.store.stores]
        self._places: dict[str, list[Place]] = {}
        self._values: dict[bytes, catalog.Values] = {}
        self._looked: list[tuple[str, bytes]] = []
        self._reads: dict[str, in_flight.Job[tuple[_Search, int] | None]] = {}
        self._looks: dict[str, in_flight.Job[_Search]] = {}
        self._room = memory_budget.Budget(_READ_AHEAD)

    def take_looked(self) -> list[tuple[str, bytes]]:
        """Return what was looked at since the last call: the file's name and its tag.

        A name is the number of the store, a colon, and the key. A tag is that of the store (`stores.Mark`),
        `digest.MISSING` or `digest.UNUSABLE`.
        """
        looked, self._looked = self._looked, []
        return looked

    def places(self, dataset: predicted.Dataset) -> list[Place]:
        """Return where the files of a dataset are, or would be."""
        places = self._places.get(dataset.dataset_id)
        if places is None:
            coordinate = bytes(dataset.data_coordinate)
            values = self._values.get(coordinate)
            if values is None:
                values = self._values[coordinate] = catalog.decode_values(coordinate)
            plan = self._types.plan(self._types.entry(dataset), values)
            places = [(f, f.path(values, dataset.run, dataset.dataset_id)) for f in plan.files]
            self._places[dataset.dataset_id] = places
        return places

    def forget(self) -> None:
        """Forget places that were worked out, and what has begun; to be called between shards."""
        self._places.clear()
        self._values.clear()
        for read in self._reads.values():
            read.cancel()
        for look in self._looks.values():
            look.cancel()
        self._reads.clear()
        self._looks.clear()
        self._looked.clear()
        self._room = memory_budget.Budget(_READ_AHEAD)

    def begin_reading(self, dataset: predicted.Dataset) -> None:
        """Begin what `read` waits for."""
        places = self.places(dataset)
        self._reads[dataset.dataset_id] = self._requests.begin(self._read_ahead, places, self._room)

    def begin_looking(self, dataset: predicted.Dataset) -> None:
        """Begin what `exists` waits for."""
        places = self.places(dataset)
        self._looks[dataset.dataset_id] = self._requests.begin(self._search, _mark, places)

    def is_looked_for(self, datasets: Iterable[predicted.Dataset]) -> bool:
        """Return whether `exists` need not wait for any of some datasets for which looking has begun."""
        jobs = (self._looks.get(dataset.dataset_id) for dataset in datasets)
        return all(job is None or job.done() for job in jobs)

    def read(self, dataset: predicted.Dataset, largest: int | None = None) -> File:
        """Return the content of a dataset's file, from the first store that has it.

        Parameters
        ----------
        dataset
            The dataset.
        largest
            Bytes that the file may have; by default any number.

        Raises
        ------
        UnreadableError
            If it exists and can't be read.
        TooLargeError
            If it is larger.
        MachineError
            If the machine is in trouble.
        """
        job = self._reads.pop(dataset.dataset_id, None) if self._reads else None
        ahead = None if job is None else job.result()
        if ahead is None:
            operation = _read if largest is None else _limited(largest)
            return self._noted(self._search_here(operation, dataset))
        search, size = ahead
        self._room.give_back(size)
        if largest is not None and size > largest:
            raise stores.TooLargeError(search.file.path)
        return self._noted(search)

    def exists(self, dataset: predicted.Dataset) -> bool:
        """Return whether any file of a dataset exists (execution-files.md section 4.4).

        Raises
        ------
        UnreadableError
            If that can't be found out.
        MachineError
            If the machine is in trouble.
        """
        job = self._looks.pop(dataset.dataset_id, None) if self._looks else None
        search = self._search_here(_mark, dataset) if job is None else job.result()
        return self._noted(search).data is not None

    def first(self, datasets: Iterable[predicted.Dataset], note: Callable[[str], object]) -> str:
        """Return the name of a file of some datasets that exists; empty if there is none.

        Parameters
        ----------
        datasets
            The datasets; no more are taken than are needed.
        note
            Called with what keeps a file from being looked at.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        look = functools.partial(self._search, _mark)
        for search in self._requests.map(look, map(self.places, datasets)):
            if search.error is not None:
                note(str(search.error))
            elif search.file.data is not None:
                return search.looked[-1][0]
        return ""

    def _search_here(self, operation: _Operation, dataset: predicted.Dataset) -> _Search:
        places = self.places(dataset)
        if self._requests.is_measuring:
            return self._requests.measured(self._search, operation, places)
        return self._search(operation, places)

    def _search(self, operation: _Operation, places: Sequence[Place]) -> _Search:
        """Return what comes of an operation on the first of some files that exists; for any thread."""
        looked: list[tuple[str, bytes]] = []
        store, key = None, ""
        for file, key in places:
            store = self._stores[file.store]
            try:
                content = operation(store, key)
            except local_files.UnusableError as exc:
                looked.append((f"{file.store}:{key}", digest.UNUSABLE))
                error = UnreadableError(store.location(key), str(exc))
                return _Search(File(store, key, None), looked, error)
            if content is not None:
                looked.append((f"{file.store}:{key}", content.mark.tag))
                return _Search(File(store, key, content.data), looked)
            looked.append((f"{file.store}:{key}", digest.MISSING))
        return _Search(File(store, key, None), looked)

    def _read_ahead(self, places: Sequence[Place], room: memory_budget.Budget) -> tuple[_Search, int] | None:
        """Return what comes of reading, and the room that it takes; nothing if there is none."""
        taken = 0

        def admit(size: int) -> None:
            nonlocal taken
            room.take(size)
            taken += size

        try:
            return self._search(lambda store, key: store.read(key, admit), places), taken
        except stores.TooLargeError:
            return None

    def _noted(self, search: _Search) -> File:
        self._looked += search.looked
        if search.error is not None:
            raise search.error
        return search.file

    def tags(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the tags that files have now, given their names.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        parted = [_parted(name) for name in names]
        looks = [
            store.marks([key for each, key in parted if each == number], self._requests)
            for number, store in enumerate(self._stores)
        ]
        for number, _ in parted:
            look = next(looks[number])
            if look is None:
                yield digest.MISSING
            else:
                yield look.tag if isinstance(look, stores.Mark) else digest.UNUSABLE

    def directory_tags(self, directories: Mapping[int, Collection[str]]) -> dict[tuple[int, str], bytes]:
        """Return what differs after anything has come to some directories, gone, or been replaced there.

        Parameters
        ----------
        directories
            Keys of the directories, without a slash at the end, by number of the store.

        Returns
        -------
        tags
            By store and directory (`stores.Store.directory_tags`).

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        return {
            (number, directory): tag
            for number, keys in directories.items()
            for directory, tag in self._stores[number].directory_tags(keys).items()
        }

    def is_same(self, name: str, before: bytes, now: bytes) -> bool:
        """Return whether two tags of a file tell that it has stayed the same."""
        number, _ = _parted(name)
        return self._stores[number].is_same(before, now)


def _read(store: stores.Store, key: str) -> stores.Content | None:
    return store.read(key)


def _mark(store: stores.Store, key: str) -> stores.Content | None:
    mark = store.mark(key)
    return None if mark is None else stores.Content(b"", mark)


def _limited(largest: int) -> _Operation:
    """Return what reads a file unless it is larger."""

    def admit(size: int) -> None:
        if size > largest:
            raise stores.TooLargeError

    return lambda store, key: store.read(key, admit)


def _parted(name: str) -> tuple[int, str]:
    number, _, key = name.partition(":")
    return int(number), key
