"""Stores on S3-compatible servers and Google's cloud storage, by way of `obstore`.

Imported for remote roots only. What the server says in other words than "no such key" is never taken for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import obstore
from aggregator.storage import (
    errors,
    fault_points,
    in_flight,
    local_files,
    object_clients,
    remote_store,
    stores,
    uris,
)
from obstore import exceptions

_TIMES = struct.Struct("<qq")
"""Size and modification time in ns: the tag where a server gives no ETag."""

_PART = 16 << 20
"""Bytes of a part of a large object."""

_MOST_AT_ONCE = 4 * _PART
"""Bytes of the largest object that is written by one request."""

_PARTS_AT_ONCE = 4
"""Parts under way; each takes its room in memory."""

_FEWEST_LISTED = 20
"""Objects that are looked for in a list, rather than one by one."""

_MOST_OTHERS = 4
"""Others that a list may have for each of those, until that is given up."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectStore(remote_store.RemoteStore):
    """Objects of a bucket."""

    root: str
    """URI of the bucket, and the beginning that all keys have there."""

    def check(self) -> None:
        """Look into the bucket, in the way that the environment says now."""
        object_clients.connect(self.root)

    @property
    def _client(self) -> Any:
        return object_clients.client(self.root)

    def _path(self, key: str) -> str:
        prefix = uris.parse(self.root).prefix
        return f"{prefix}/{key}" if prefix else key

    def read(self, key: str, admit: Callable[[int], None] | None = None) -> stores.Content | None:
        """Return an object by one request."""

        def read() -> stores.Content:
            with self._explained(key):
                result = obstore.get(self._client, self._path(key))
                if admit is not None:
                    admit(result.meta["size"])
                return stores.Content(result.bytes().to_bytes(), _mark(result.meta))

        try:
            return object_clients.patiently(read)
        except FileNotFoundError:
            return None

    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        """Return bytes of an object by one request."""

        def read() -> bytes:
            with self._explained(key):
                options: obstore.GetOptions = {"range": (start, start + length)}
                result = obstore.get(self._client, self._path(key), options=options)
                if tag is not None and _mark(result.meta).tag != tag:
                    raise stores.ChangedError(self.location(key))
                return result.bytes().to_bytes()

        if length:
            with contextlib.suppress(object_clients.OutOfRangeError):
                return object_clients.patiently(read)
        mark = self.mark(key)
        if mark is None:
            raise FileNotFoundError(self.location(key))
        if tag is not None and mark.tag != tag:
            raise stores.ChangedError(self.location(key))
        if length and start < mark.size:
            raise local_files.UnusableError("the server gives no parts of it")
        return b""

    def mark(self, key: str) -> stores.Mark | None:
        """Return what a server tells of an object."""
        try:
            with self._explained(key):
                return _mark(obstore.head(self._client, self._path(key)))
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[tuple[str, stores.Mark]]:
        """Yield what a server lists, in its order, which is that of bytes."""
        above = self._path("")
        with self._explained(prefix):
            for page in obstore.list(self._client, prefix=f"{above}{prefix}", chunk_size=1000):
                for meta in page:
                    yield meta["path"].removeprefix(above), _mark(meta)

    def write(self, key: str, data: bytes, *, overwrite: bool, durable: bool = False) -> None:
        """Write an object by one request; what a server has acknowledged is durable."""
        with self._written(key):
            mode: obstore.PutMode = "overwrite" if overwrite else "create"
            obstore.put(self._client, self._path(key), data, mode=mode, use_multipart=False)

    def delete_many(self, keys: Iterable[str], unchanged_since: int | None = None) -> stores.Deletion:
        """Delete objects together, if a server can do that."""
        done = stores.Deletion()
        chosen = []
        batch = list(keys)
        for key, look in zip(batch, self._looks(batch), strict=True):
            if isinstance(look, local_files.UnusableError):
                done.failures.append(f"{self.location(key)} ({look})")
            elif look is not None and unchanged_since is not None and look.changed > unchanged_since:
                done.changed.append(key)
            elif look is not None:
                chosen.append(key)
        try:
            if chosen:
                obstore.delete(self._client, [self._path(key) for key in chosen])
            done.n_deleted += len(chosen)
        except (exceptions.BaseError, OSError):
            # Which of them it was is found out one by one.
            with in_flight.Requests() as requests:
                for key, problem in zip(chosen, requests.map(self._delete, chosen), strict=True):
                    done.n_deleted += not problem
                    done.failures += [f"{self.location(key)} ({problem})"] if problem else []
        return done

    def _looks(self, keys: Sequence[str]) -> Sequence[stores.Look]:
        """Return what is known of objects that mostly are neighbours: a list tells of a thousand at once."""
        if len(keys) < _FEWEST_LISTED:
            return [*self.marks(keys)]
        ordered = sorted(keys, key=str.encode)
        listed: dict[str, stores.Mark] = {}
        last, n_others = "", _MOST_OTHERS * len(keys)
        asked = frozenset(keys)
        for key, mark in self._neighbours(ordered[0], ordered[-1]):
            last = key
            if key in asked:
                listed[key] = mark
            elif (n_others := n_others - 1) < 0:
                break
        else:
            return [listed.get(key) for key in keys]
        beyond = [key for key in keys if key.encode() > last.encode()]
        looks = dict(zip(beyond, self.marks(beyond), strict=True))
        return [listed.get(key) or looks.get(key) for key in keys]

    def _neighbours(self, first: str, last: str) -> Iterator[tuple[str, stores.Mark]]:
        """Yield what a server lists from a key to another one."""
        above = self._path("")
        with self._explained(first):
            pages = obstore.list(
                self._client,
                prefix=self._path(os.path.commonpath([os.path.dirname(first), os.path.dirname(last)])),
                # What is listed comes after this.
                offset=f"{above}{first[:-1]}",
                chunk_size=1000,
            )
            for page in pages:
                for meta in page:
                    key = meta["path"].removeprefix(above)
                    if key.encode() > last.encode():
                        return
                    yield key, _mark(meta)

    def _delete(self, key: str) -> str:
        try:
            with self._explained(key):
                obstore.delete(self._client, self._path(key))
        except FileNotFoundError:
            pass
        except (local_files.UnusableError, errors.MachineError) as exc:
            return getattr(exc, "reason", str(exc))
        return ""

    def place(self, key: str) -> tuple[str, ...]:
        """Return server, bucket and path: several profiles may lead to one bucket."""
        return object_clients.server(self.root), uris.parse(self.root).authority, self._path(key)

    def _upload(self, source: str, key: str, tick: Callable[[], None], look: Callable[[], object]) -> None:
        """Upload a file, in parts if it is large; it appears with the last one, so that comes after the look.

        What is not there is not replaced if it comes there meanwhile, unless it is large: few servers have a
        condition for the last part.
        """
        size = os.path.getsize(source)
        path = self._path(key)
        with self._written(key), open(source, "rb") as stream:
            if size <= _MOST_AT_ONCE:
                mode: obstore.PutMode = "overwrite" if self.mark(key) else "create"
                look()
                fault_points.reached("uploading")
                obstore.put(self._client, path, stream.read(), mode=mode, use_multipart=False)
            else:
                parts = obstore.open_writer(
                    self._client, path, buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE
                )
                # It gives the parts back if there is an error.
                with parts as writer:
                    while piece := stream.read(_PART):
                        writer.write(piece)
                        tick()
                    fault_points.reached("uploading")
                    look()
        fault_points.reached("uploaded")
        mark = self.mark(key)
        if mark is None or mark.size != size:
            raise errors.MachineError(self.location(key), "is not complete after it was uploaded")

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what the client raises into our own errors.

        Raises
        ------
        FileNotFoundError
            If a server says that there is no such key.
        """
        with object_clients.explained(self.location(key)):
            yield

    @contextlib.contextmanager
    def _written(self, key: str) -> Iterator[None]:
        try:
            with self._explained(key):
                yield
        except local_files.UnusableError as exc:
            raise PermissionError(13, str(exc), self.location(key)) from exc


def _mark(meta: Any) -> stores.Mark:
    since: datetime.timedelta = meta["last_modified"] - _EPOCH
    modified = (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    etag = meta["e_tag"]
    tag = b"=" + etag.encode() if etag else b"~" + _TIMES.pack(meta["size"], modified)
    return stores.Mark(meta["size"], modified, modified, tag)
