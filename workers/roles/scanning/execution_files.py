"""Reads and looks for the files that execution leaves, at their predicted places."""

import concurrent.futures
import dataclasses
from collections.abc import Iterator, Sequence

from aggregator.butler.datastores import catalog, datastore
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.graphs import predicted
from aggregator.storage import in_flight, local_files, stores

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


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
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


_Reading = tuple[Found | UnreadableError, list[tuple[str, bytes]]]
"""A file, or why it can't be read, and what was looked at (see `ExecutionFiles.take_looked`)."""


class ExecutionFiles:
    """Finds files of a repository.

    Parameters
    ----------
    types
        Knows where datasets lie.
    """

    def __init__(self, types: catalog.Catalog) -> None:
        self._types = types
        self._stores = [child.files for child in types.store.stores]
        self._places: dict[str, list[Place]] = {}
        self._looked: list[tuple[str, bytes]] = []
        self._pace = in_flight.Pace(max((store.n_at_once for store in self._stores), default=1))
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._begun: dict[str, concurrent.futures.Future[_Reading]] = {}

    def take_looked(self) -> list[tuple[str, bytes]]:
        """Return what was looked at since the last call: the file's name and its tag.

        A name is the number of the store, a colon, and the key. A tag is that of the store (`stores.Mark`),
        `digest.MISSING` or `digest.UNUSABLE`.
        """
        looked, self._looked = self._looked, []
        return looked

    def places(self, dataset: predicted.Dataset, values: catalog.Values) -> list[Place]:
        """Return where the files of a dataset are, or would be."""
        places = self._places.get(dataset.dataset_id)
        if places is None:
            plan = self._types.plan(self._types.entry(dataset), values)
            places = [(f, f.path(values, dataset.run, dataset.dataset_id)) for f in plan.files]
            self._places[dataset.dataset_id] = places
        return places

    def forget(self) -> None:
        """Forget places that were worked out, and what was begun to be read; to be called between shards."""
        self._places.clear()
        for future in self._begun.values():
            future.cancel()
        self._begun.clear()

    def close(self) -> None:
        """End the threads that read."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def n_ahead(self) -> int:
        """How many files should be begun to be read before they are needed; 0 if each is there at once."""
        return self._pace.n_at_once if self._pace.n_at_once > 1 else 0

    def begin(self, dataset: predicted.Dataset, values: catalog.Values) -> None:
        """Begin to `read` a dataset's file in a thread."""
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._pace.n_at_once, "read")
        places = self.places(dataset, values)
        self._begun[dataset.dataset_id] = self._pool.submit(self._read, places)

    def read(self, dataset: predicted.Dataset, values: catalog.Values) -> Found:
        """Return the content of a dataset's file, from the first store that has it.

        Raises
        ------
        UnreadableError
            If it exists and can't be read.
        MachineError
            If the machine is in trouble.
        """
        begun = self._begun.pop(dataset.dataset_id, None)
        if begun is None:
            result, looked = self._pace.call(self._read, self.places(dataset, values))
        else:
            result, looked = begun.result()
        self._looked += looked
        if isinstance(result, UnreadableError):
            raise result
        return result

    def _read(self, places: list[Place]) -> _Reading:
        """Return what was read, and what was looked at for that."""
        store, key, looked = None, "", []
        for file, key in places:
            store = self._stores[file.store]
            name = f"{file.store}:{key}"
            try:
                content = store.read(key)
            except local_files.UnusableError as exc:
                looked.append((name, digest.UNUSABLE))
                return UnreadableError(store.location(key), str(exc)), looked
            if content is not None:
                looked.append((name, content.mark.tag))
                return Found(store, key, content.data), looked
            looked.append((name, digest.MISSING))
        return Found(store, key, None), looked

    def exists(self, dataset: predicted.Dataset, values: catalog.Values) -> bool:
        """Return whether any file of a dataset exists (execution-files.md section 4.4).

        Raises
        ------
        UnreadableError
            If that can't be found out.
        MachineError
            If the machine is in trouble.
        """
        return self._mark(dataset, values) is not None

    def size(self, dataset: predicted.Dataset, values: catalog.Values) -> int:
        """Return the size of the file that `read` would read, 0 if there is none; raises as `exists`."""
        mark = self._mark(dataset, values)
        return 0 if mark is None else mark.size

    def _mark(self, dataset: predicted.Dataset, values: catalog.Values) -> stores.Mark | None:
        for file, key in self.places(dataset, values):
            try:
                mark = self._stores[file.store].mark(key)
            except local_files.UnusableError as exc:
                raise self._unreadable(file.store, key, exc) from exc
            self._looked.append((f"{file.store}:{key}", digest.MISSING if mark is None else mark.tag))
            if mark is not None:
                return mark
        return None

    def _unreadable(self, store: int, key: str, exc: local_files.UnusableError) -> UnreadableError:
        self._looked.append((f"{store}:{key}", digest.UNUSABLE))
        return UnreadableError(self._stores[store].location(key), str(exc))

    def tags(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the tags that files have now, given their names.

        Raises
        ------
        MachineError
            If the machine is in trouble.
        """
        parted = [_parted(name) for name in names]
        looks = [
            store.marks([key for each, key in parted if each == number])
            for number, store in enumerate(self._stores)
        ]
        for number, _ in parted:
            look = next(looks[number])
            if look is None:
                yield digest.MISSING
            else:
                yield look.tag if isinstance(look, stores.Mark) else digest.UNUSABLE

    def is_same(self, name: str, before: bytes, now: bytes) -> bool:
        """Return whether two tags of a file tell that it has stayed the same."""
        number, _ = _parted(name)
        return self._stores[number].is_same(before, now)


def _parted(name: str) -> tuple[int, str]:
    number, _, key = name.partition(":")
    return int(number), key
