"""Where scanners on other hosts find what they need, and leave digests (docs/design.md, Engines for jobs).

A coordinator makes an exchange anew for each run, under a name that no other has: its *generation*. What a
scanner leaves has a name of its own, too. It is of use only to the coordinator that was told this name, which
brings it into the checkpoint under its lock; so whoever comes late changes nothing.
"""

from __future__ import annotations

import abc
import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from typing import Final

import msgspec
from aggregator.schemas.checkpoints import checkpoint
from aggregator.storage import durable_files, errors, local_files, opening, uris

_GENERATION: Final = re.compile(r"[0-9a-f]{12}")


class Exchange(msgspec.Struct, frozen=True):
    """An exchange, as scanners are told of it."""

    place: str
    """Directory of a checkpoint that all hosts see, or the URI of a place in an object store."""
    generation: str
    """Hexadecimal digits."""


def make(place: str) -> Exchange:
    """Return an exchange that nobody had before."""
    return Exchange(place, secrets.token_hex(6))


class Access(abc.ABC):
    """What can be done in an exchange.

    Methods raise AggregatorError for trouble, and FileNotFoundError for what is certainly not there.
    """

    @abc.abstractmethod
    def read_kit(self) -> bytes:
        """Return what scanners need."""

    @abc.abstractmethod
    def is_open(self) -> bool:
        """Return whether somebody may still wait for digests."""

    @abc.abstractmethod
    @contextlib.contextmanager
    def graph(self, path: str) -> Iterator[str]:
        """Give the path of the predicted graph, which is at a path on the coordinator's host."""

    @abc.abstractmethod
    def leave(self, source: str) -> str:
        """Leave a digest, durably; return under which name."""

    @abc.abstractmethod
    def take_back(self, name: str) -> None:
        """Remove what was left under a name, if it is still there."""

    @abc.abstractmethod
    def open(self, kit: bytes, graph_path: str) -> None:
        """Put there what scanners need."""

    @abc.abstractmethod
    def fetch(self, name: str, target: str) -> None:
        """Bring what was left under a name to a path in the checkpoint."""

    @abc.abstractmethod
    def close(self) -> None:
        """Remove what is there."""


class SharedDirectory(Access):
    """A checkpoint that all hosts see.

    Parameters
    ----------
    directory
        The checkpoint.
    generation
        Generation of the exchange.
    """

    def __init__(self, directory: str, generation: str) -> None:
        self._layout = checkpoint.Layout(directory)
        self._kit = self._layout.kit(generation)

    def read_kit(self) -> bytes:
        """Read it."""
        return local_files.read(self._kit)

    def is_open(self) -> bool:
        """Look whether the kit is there."""
        return local_files.exists(self._kit)

    @contextlib.contextmanager
    def graph(self, path: str) -> Iterator[str]:
        """Give the path itself: all hosts see it."""
        yield path

    def leave(self, source: str) -> str:
        """Copy a digest into the checkpoint, under a name that is removed by whoever has its lock next."""
        place = os.path.join(self._layout.directory, os.path.basename(source))
        temporary = durable_files.temporary_name(place)
        # Never makes a directory that somebody has removed.
        with durable_files.writing(temporary), open(temporary, "xb") as stream:
            stream.write(local_files.read(source))
            stream.flush()
            os.fsync(stream.fileno())
        return os.path.basename(temporary)

    def take_back(self, name: str) -> None:
        """Remove the copy."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._layout.directory, name))

    def open(self, kit: bytes, graph_path: str) -> None:
        """Write the kit."""
        durable_files.write_atomically(self._kit, [kit], sync=False)

    def fetch(self, name: str, target: str) -> None:
        """Give it another name."""
        os.rename(os.path.join(self._layout.directory, name), target)

    def close(self) -> None:
        """Remove the kit; what is left of digests, the next one with the lock removes."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._kit)


class StorePlace(Access):
    """A place in an object store.

    Parameters
    ----------
    location
        Its URI.
    generation
        Generation of the exchange.
    """

    def __init__(self, location: str, generation: str) -> None:
        self._store = opening.open_store(location.rstrip("/"))
        self._prefix = f"scan-{generation}"

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _read(self, name: str) -> bytes:
        content = self._store.read(self._key(name))
        if content is None:
            raise FileNotFoundError(2, "No such object", self._store.location(self._key(name)))
        return content.data

    def read_kit(self) -> bytes:
        """Download it."""
        return self._read("kit")

    def is_open(self) -> bool:
        """Look whether the kit is there."""
        return self._store.is_there(self._key("kit"))

    @contextlib.contextmanager
    def graph(self, path: str) -> Iterator[str]:
        """Download the graph, for as long as it is needed."""
        with opening.local_copy(self._store.location(self._key("graph.qg"))) as copy:
            yield copy

    def leave(self, source: str) -> str:
        """Upload a digest."""
        name = os.path.basename(durable_files.temporary_name(source))
        self._store.write(self._key(name), local_files.read(source), overwrite=True, durable=True)
        return name

    def take_back(self, name: str) -> None:
        """Delete it."""
        self._delete([self._key(name)])

    def open(self, kit: bytes, graph_path: str) -> None:
        """Upload kit and graph."""
        self._store.adopt(graph_path, self._key("graph.qg"), "copy", lambda: None, lambda: None)
        self._store.write(self._key("kit"), kit, overwrite=True)

    def fetch(self, name: str, target: str) -> None:
        """Download a digest; it is removed with all others."""
        durable_files.write_atomically(target, [self._read(name)])

    def close(self) -> None:
        """Remove all that is there."""
        self._delete([key for key, _ in self._store.list(f"{self._prefix}/")])

    def _delete(self, keys: list[str]) -> None:
        deletion = self._store.delete_many(keys)
        if deletion.failures:
            raise errors.AggregatorError(f"can't remove {deletion.failures[0]}")


def note(layout: checkpoint.Layout, exchange: Exchange) -> None:
    """Let the next run know of an exchange that is not in the checkpoint, if this one is killed."""
    if exchange.place != layout.directory:
        durable_files.write_atomically(layout.exchange(exchange.generation), [exchange.place.encode()])


def close(layout: checkpoint.Layout, exchange: Exchange) -> None:
    """Remove what is in an exchange, and what tells of it.

    Raises
    ------
    AggregatorError, OSError
        If something can't be removed; then the next run does it.
    """
    access(exchange).close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.exchange(exchange.generation))


def close_all(layout: checkpoint.Layout) -> None:
    """Remove what is in exchanges of a checkpoint; whoever does that has its lock."""
    for generation in layout.generations():
        place = layout.directory
        with contextlib.suppress(FileNotFoundError):
            place = local_files.read(layout.exchange(generation)).decode(errors="replace")
        close(layout, Exchange(place, generation))


def access(exchange: Exchange) -> Access:
    """Return what gives access to an exchange.

    Raises
    ------
    RefusedError
        If it needs a library that is not installed.
    ValueError
        If its generation is none.
    """
    if not _GENERATION.fullmatch(exchange.generation):
        raise ValueError(f"{exchange.generation!r} is no generation")
    kind = StorePlace if uris.is_remote(exchange.place) else SharedDirectory
    return kind(exchange.place, exchange.generation)


def is_digest_name(name: str, path: str) -> bool:
    """Return whether a digest that belongs at a path may have been left under a name."""
    return os.path.basename(name) == name != os.path.basename(path) and durable_files.final_name(
        name
    ) == os.path.basename(path)
