"""A store in memory, for tests of what uses stores; it can be told to be in trouble."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator

from aggregator.storage import errors, local_files, stores


@dataclasses.dataclass(slots=True)
class MemoryStore(stores.Store):
    """Objects in memory."""

    root: str = "memory://store"
    """What locations begin with."""

    objects: dict[str, tuple[bytes, stores.Mark]] = dataclasses.field(default_factory=dict)
    """Content and mark by key."""

    trouble: Callable[[str, str], None] | None = None
    """Called with the name of a method and a key at each look; what it raises is what the caller gets:
    UnusableError or MachineError."""

    _held: set[str] = dataclasses.field(default_factory=set)

    def location(self, key: str) -> str:
        """Return the root and the key."""
        return f"{self.root}/{key}"

    def key_of(self, location: str) -> str | None:
        """Return what comes after the root."""
        key = location.removeprefix(f"{self.root}/")
        return None if key == location else key

    def _object(self, method: str, key: str) -> tuple[bytes, stores.Mark] | None:
        if self.trouble is not None:
            self.trouble(method, key)
        return self.objects.get(key)

    def read(self, key: str, admit: Callable[[int], None] | None = None) -> stores.Content | None:
        """Return an object."""
        entry = self._object("read", key)
        if entry is not None and admit is not None:
            admit(len(entry[0]))
        return None if entry is None else stores.Content(*entry)

    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        """Return bytes of an object."""
        entry = self._object("read_range", key)
        if entry is None:
            raise FileNotFoundError(self.location(key))
        data, mark = entry
        if tag is not None and mark.tag != tag:
            raise stores.ChangedError(self.location(key))
        return data[start : start + length]

    def mark(self, key: str) -> stores.Mark | None:
        """Return what is known of an object."""
        entry = self._object("mark", key)
        return None if entry is None else entry[1]

    def list(self, prefix: str) -> Iterator[tuple[str, stores.Mark]]:
        """Yield what is below a prefix."""
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix) and (entry := self._object("list", key)) is not None:
                yield key, entry[1]

    def write(self, key: str, data: bytes, *, overwrite: bool, durable: bool = False) -> None:
        """Put an object there."""
        if self._object("write", key) is not None and not overwrite:
            raise FileExistsError(self.location(key))
        now = time.time_ns()
        tag = hashlib.blake2b(data, digest_size=16).digest()
        self.objects[key] = bytes(data), stores.Mark(len(data), now, now, tag)

    def delete_many(self, keys: Iterable[str], unchanged_since: int | None = None) -> stores.Deletion:
        """Remove objects."""
        done = stores.Deletion()
        for key in keys:
            try:
                entry = self._object("delete_many", key)
            except (local_files.UnusableError, errors.MachineError) as exc:
                done.failures.append(f"{self.location(key)} ({exc})")
                continue
            if entry is None:
                continue
            if unchanged_since is not None and entry[1].changed > unchanged_since:
                done.changed.append(key)
                continue
            del self.objects[key]
            done.n_deleted += 1
        return done

    def identity(self) -> tuple[str, int, int]:
        """Return root and id of this store."""
        return self.root, 0, id(self.objects)

    def place(self, key: str) -> tuple[str, ...]:
        """Return root and key."""
        return self.root, key

    def workplace(self, key: str, directory: str) -> str:
        """Return a path in the directory."""
        return os.path.join(directory, os.path.basename(key))

    def publish(self, source: str, key: str, look: Callable[[], object]) -> None:
        """Put the content of a file there, and remove that."""
        with open(source, "rb") as stream:
            data = stream.read()
        look()
        self.write(key, data, overwrite=True)
        os.unlink(source)

    def check_adoption(self, source: str, key: str, mode: str) -> None:
        """Refuse links, which can't lead into memory."""
        if mode not in ("auto", "copy", "move"):
            raise errors.RefusedError(f"{source}: can't be linked into {self.root}; copy it instead.")

    def adopt(
        self, source: str, key: str, mode: str, tick: Callable[[], None], look: Callable[[], object]
    ) -> None:
        """Put the content of a file there."""
        with open(source, "rb") as stream:
            data = stream.read()
        tick()
        look()
        self.write(key, data, overwrite=True)

    def make_durable(self, key: str) -> None:
        """Look whether an object is there; nothing outlives the process."""
        if self._object("make_durable", key) is None:
            raise FileNotFoundError(self.location(key))

    @contextlib.contextmanager
    def lock(self, key: str, advice: str) -> Iterator[None]:
        """Lock an object in this process."""
        if key in self._held:
            raise errors.InUseError(f"{self.location(key)}: in use. {advice}")
        self._held.add(key)
        try:
            yield
        finally:
            self._held.discard(key)
