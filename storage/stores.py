"""What is asked of the storage of a repository's files, whatever kind it is.

A store has a root and objects below it, each under a key: a path relative to the root, parted by slashes and
unquoted. Every look at an object ends in one of four ways: here it is; it is certainly not there (nothing is
returned); it is there and no use (`local_files.UnusableError`); or nobody knows (`errors.MachineError`). What
can't be looked at is never missing.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from aggregator.storage import in_flight, leases, local_files


class ChangedError(Exception):
    """An object is not the one any more that was asked for."""


class TooLargeError(Exception):
    """An object is larger than what is to be read."""


class Mark(NamedTuple):
    """What a store tells of an object without its content."""

    size: int
    """Bytes."""

    modified: int
    """When its content was written, in ns, as far as is known; whoever copied it may have set this back."""

    changed: int
    """When it came to be what it is, in ns; nobody can set this back."""

    tag: bytes
    """Differs between contents of an object; only its store knows what is in it (see `Store.is_same`)."""


class Content(NamedTuple):
    """An object as it was read."""

    data: bytes
    """Its bytes."""

    mark: Mark
    """What it was when they were read."""


Look = Mark | local_files.UnusableError | None
"""Result of a look at one of many objects; nothing if it is certainly not there."""


@dataclasses.dataclass(slots=True)
class Deletion:
    """What became of objects that were to be deleted; all others were not there."""

    n_deleted: int = 0
    """Objects deleted."""

    changed: list[str] = dataclasses.field(default_factory=list)
    """Keys of those that were left because they had changed."""

    failures: list[str] = dataclasses.field(default_factory=list)
    """Locations of those that could not be deleted, with the reason."""


class Pruning(NamedTuple):
    """What became of a directory that may be empty."""

    n_removed: int
    """Directories removed, with those in it."""

    n_left: int
    """Objects in there."""

    refused: list[str]
    """Directories that can't be looked into or removed, with the reason."""


class Store(abc.ABC):
    """Files of a datastore. Objects of this class can be pickled, and used by several threads.

    Methods raise MachineError for trouble of machine, network or server, and UnusableError as said above.
    """

    root: str
    """Absolute path, or URI, without a slash at its end."""

    replaces_atomically: bool = True
    """Whether `write` and `adopt` replace an object in one step."""

    has_directories: bool = False
    """Whether there are directories, which stay when they are empty."""

    has_links: bool = False
    """Whether `adopt` can make links, so that it matters how an object came to its place."""

    deleted_at_once: int = 1000
    """How many keys `delete_many` deals best with."""

    def check(self) -> None:  # noqa: B027  (for many there is nothing to check)
        """Refuse a root that can't be looked into, before any work.

        Raises
        ------
        RefusedError
            If so; says why.
        """

    def check_writeable(self) -> None:
        """Refuse a root below which nothing can be written, as far as that shows before any work.

        Raises
        ------
        RefusedError
            If so; says why.
        """
        self.check()

    @abc.abstractmethod
    def location(self, key: str) -> str:
        """Return the path or URI of an object, for messages and for other programs."""

    @abc.abstractmethod
    def key_of(self, location: str) -> str | None:
        """Return the key of an object, given its location; nothing if that is not below the root."""

    @abc.abstractmethod
    def read(self, key: str, admit: Callable[[int], None] | None = None) -> Content | None:
        """Return an object; nothing if it is certainly not there.

        Parameters
        ----------
        key
            Its key.
        admit
            Called with its size before its content is read; may raise `TooLargeError`.
        """

    @abc.abstractmethod
    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        """Return bytes of an object, fewer if it ends before.

        Raises
        ------
        FileNotFoundError
            If it is certainly not there.
        ChangedError
            If a tag is given, and it has another one.
        """

    @abc.abstractmethod
    def mark(self, key: str) -> Mark | None:
        """Return what is known of an object or directory; nothing if it is certainly not there."""

    def marks(self, keys: Iterable[str], requests: in_flight.Requests | None = None) -> Iterator[Look]:
        """Yield what is known of many objects, in their order.

        Parameters
        ----------
        keys
            Their keys.
        requests
            Does several looks at a time where they take long; threads of this call alone by default.
        """
        ways: set[str] = set()

        def look(key: str) -> Look:
            try:
                return self._mark(key, ways)
            except local_files.UnusableError as exc:
                return exc

        if requests is not None:
            yield from requests.map(look, keys)
            return
        with in_flight.Requests() as own:
            yield from own.map(look, keys)

    def _mark(self, key: str, ways: set[str]) -> Mark | None:
        """Return what is known of one of many objects, which share what was seen on the way to them."""
        return self.mark(key)

    def is_there(self, key: str) -> bool:
        """Return whether there is an object or directory that can be used."""
        try:
            return self.mark(key) is not None
        except local_files.UnusableError:
            return False

    def is_same(self, before: bytes, now: bytes) -> bool:
        """Return whether two tags of an object tell that its content has stayed the same.

        Parameters
        ----------
        before
            A tag that may have been made where the repository was before.
        now
            The tag that it has.
        """
        return before == now

    @abc.abstractmethod
    def list(self, prefix: str) -> Iterator[tuple[str, Mark]]:
        """Yield keys and marks of all objects below a directory, ordered by the bytes of their keys.

        Parameters
        ----------
        prefix
            Key of the directory with a slash at its end; empty for the root. It need not exist.
        """

    def directory_tags(self, directories: Collection[str]) -> dict[str, bytes]:
        """Return what differs after objects have come into some directories, gone, or changed there.

        Parameters
        ----------
        directories
            Their keys, without a slash at the end; they need not exist.

        Returns
        -------
        tags
            By what was looked at, which may be directories that these lie in.
        """
        tags = {}
        # A server lists a thousand objects at a time, wherever below a directory they are.
        for above in _directories_above(directories):
            state = hashlib.blake2b(digest_size=16)
            for key, mark in self.list(f"{above}/" if above else ""):
                state.update(b"%d %b %d %b" % (len(key), key.encode(), len(mark.tag), mark.tag))
            tags[above] = state.digest()
        return tags

    @abc.abstractmethod
    def write(self, key: str, data: bytes, *, overwrite: bool, durable: bool = False) -> None:
        """Write an object, which appears complete or not at all.

        Parameters
        ----------
        key
            Its key.
        data
            Its content.
        overwrite
            Whether to replace what is there.
        durable
            Whether it has to outlive a loss of power from the moment when it appears.

        Raises
        ------
        FileExistsError
            If there is one that is not to be overwritten.
        OSError
            If it can't be written.
        """

    @abc.abstractmethod
    def delete_many(self, keys: Iterable[str], unchanged_since: int | None = None) -> Deletion:
        """Delete objects.

        Parameters
        ----------
        keys
            Their keys; none of them has to exist.
        unchanged_since
            Leave those that have changed after this time, in ns.
        """

    def remove_directories(self, directories: Iterable[str]) -> Sequence[str]:
        """Remove those of some directories that hold nothing and can be removed; return these.

        Parameters
        ----------
        directories
            Their keys.
        """
        return ()

    def prune(self, directory: str, tick: Callable[[], None]) -> Pruning:
        """Remove a directory and those in it, as far as they hold nothing.

        Parameters
        ----------
        directory
            Its key.
        tick
            Called now and then; what it raises ends the work.
        """
        n_left = 0
        for _ in self.list(f"{directory}/"):
            tick()
            n_left += 1
        return Pruning(0, n_left, [])

    @abc.abstractmethod
    def identity(self) -> tuple[str, int, int]:
        """Return what tells the root from others: its place, and numbers of what is there now."""

    @abc.abstractmethod
    def place(self, key: str) -> tuple[str, ...]:
        """Return what tells an object from others by whatever way they are named; its path comes last."""

    @abc.abstractmethod
    def workplace(self, key: str, directory: str) -> str:
        """Return the path that the name of a file is made from which is going to be published as an object.

        Parameters
        ----------
        key
            Key of the object.
        directory
            A directory of this host that may be used, if the root is none.
        """

    @abc.abstractmethod
    def publish(self, source: str, key: str, look: Callable[[], object]) -> None:
        """Make a file of this host, complete and synced, an object in one step; replace what is there.

        Parameters
        ----------
        source
            The file, beside its `workplace`. It is gone afterwards.
        key
            Key of the object.
        look
            Called right before the object is replaced; what it raises prevents that.

        Raises
        ------
        OSError
            If it can't be written.
        """

    @abc.abstractmethod
    def check_adoption(self, source: str, key: str, mode: str) -> None:
        """Refuse to `adopt` a file where that can't work.

        Raises
        ------
        RefusedError
            If so; says why.
        """

    @abc.abstractmethod
    def adopt(
        self, source: str, key: str, mode: str, tick: Callable[[], None], look: Callable[[], object]
    ) -> None:
        """Make a local file an object, which appears complete or not at all; replace what is there.

        What is moved stays where it was, too, wherever that is possible (see `origin`).

        Parameters
        ----------
        source
            The file, no link.
        key
            Key of the object.
        mode
            How: "auto", "link", "symlink", "hardlink", "copy", "move" or "relsymlink".
        tick
            Called now and then; what it raises ends the work.
        look
            Called right before the object is replaced; what it raises prevents that.
        """

    def origin(self, key: str) -> str | None:
        """Return where an object was before it was moved to its place, if that is known."""
        return None

    @abc.abstractmethod
    def make_durable(self, key: str) -> None:
        """Make sure that an object, and the way to it, outlive a loss of power.

        Raises
        ------
        OSError
            If the object is missing, or the system reports an error.
        """

    @abc.abstractmethod
    def lock(self, key: str, advice: str) -> contextlib.AbstractContextManager[leases.Claim | None]:
        """Keep other processes from doing the same with an object.

        Parameters
        ----------
        key
            Key of the object, which need not exist.
        advice
            What to do if another process is at it, for the message.

        Returns
        -------
        lock
            Yields what shows whether it is still held; nothing if it can't be lost.

        Raises
        ------
        InUseError
            If one is.
        """


def _directories_above(directories: Collection[str]) -> set[str]:
    """Return few directories that some lie in: those right below the one that all lie in."""
    if not directories:
        return set()
    common = os.path.commonpath(directories)
    n_parts = len(common.split("/")) if common else 0
    return {"/".join(each.split("/")[: n_parts + 1]) for each in directories}
