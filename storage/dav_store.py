"""Stores on WebDAV servers; HTTP servers without WebDAV can be read from, too.

WebDAV has no PUT that is certain to be atomic: an object is put under another name, and moved.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from xml.etree import ElementTree

from aggregator.storage import (
    durable_files,
    errors,
    fault_points,
    http_connections,
    in_flight,
    local_files,
    remote_store,
    stores,
    uris,
)

_PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:getcontentlength/>'
    b"<D:getlastmodified/><D:getetag/><D:resourcetype/></D:prop></D:propfind>"
)

_DENIED = "access is denied; see token and certificate"
_TO_BE_CREATED = (404, 405, 409)
"""What servers answer to a PUT if there is no directory for it."""

_BEING_READ = 200


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """What a directory tells of something in it."""

    name: str
    is_directory: bool
    mark: stores.Mark


@dataclasses.dataclass(frozen=True, slots=True)
class DavStore(remote_store.RemoteStore):
    """Files of a server below a URL."""

    root: str
    """Its URI: http(s)://... or dav(s)://..."""

    replaces_atomically = False
    deleted_at_once = 128

    def check(self) -> None:
        """Ask for the root."""
        try:
            self._ask("HEAD", "")
        except local_files.UnusableError as exc:
            raise errors.RefusedError(f"{self.root}: can't look into it: {exc}.") from exc
        except FileNotFoundError:
            # Directories are made when something is put there.
            pass

    def check_writeable(self) -> None:
        """Refuse servers without WebDAV."""
        self.check()
        url = self._url("").rstrip("/")
        # Directories that are not there tell nothing.
        while "dav" not in http_connections.request("OPTIONS", f"{url}/").headers:
            url, _, name = url.rpartition("/")
            if not name or url.endswith(":/"):
                raise errors.RefusedError(
                    f"{self.root}: is no WebDAV server, so nothing can be written there. Choose another."
                )

    def _url(self, key: str) -> str:
        parts = uris.parse(self.root)
        scheme = {"dav": "http", "davs": "https"}.get(parts.scheme, parts.scheme)
        path = "/".join(filter(None, (parts.prefix, key)))
        return f"{scheme}://{parts.authority}/{urllib.parse.quote(path, safe='/~')}"

    def _ask(
        self,
        method: str,
        key: str,
        headers: dict[str, str] | None = None,
        body: http_connections.Body | None = None,
        admit: Callable[[int], None] | None = None,
        *,
        once: bool = False,
    ) -> http_connections.Answer:
        """Return an answer that is no error, or says that a condition is not met (412), or a conflict (409).

        Raises
        ------
        FileNotFoundError
            If there is certainly no such file.
        UnusableError
            If access is denied.
        MachineError
            If nobody knows.
        """
        answer = http_connections.request(method, self._url(key), headers, body, admit, once=once)
        if answer.status in (404, 410) and method != "PUT":
            raise FileNotFoundError(2, "No such file", self.location(key))
        if answer.status in (401, 403):
            raise local_files.UnusableError(_DENIED)
        if answer.status >= 400 and answer.status not in (412, 416, *_TO_BE_CREATED):
            raise errors.MachineError(self.location(key), f"the server answers {answer.status} to {method}")
        return answer

    def read(self, key: str, admit: Callable[[int], None] | None = None) -> stores.Content | None:
        """Return a file by one request."""
        try:
            answer = self._ask("GET", key, admit=admit)
        except FileNotFoundError:
            return None
        self._check_read(key, answer)
        return stores.Content(answer.data, answer.mark()._replace(size=len(answer.data)))

    def _check_read(self, key: str, answer: http_connections.Answer) -> None:
        if answer.status != _BEING_READ:
            raise errors.MachineError(self.location(key), f"the server answers {answer.status}")

    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        """Return bytes of a file by one request."""
        answer = self._ask("GET" if length else "HEAD", key, _range(start, length))
        if answer.status == 416 or not length:
            mark = self.mark(key)
            if mark is None:
                raise FileNotFoundError(2, "No such file", self.location(key))
            data = b""
        else:
            mark, data = answer.mark(), answer.data
            if answer.status == _BEING_READ and (start or len(data) > length):
                raise local_files.UnusableError("the server gives no parts of it")
        # A part has another size than the whole, so only tags of another kind can be compared.
        if tag is not None and _tag_of(mark, answer) != tag:
            raise stores.ChangedError(self.location(key))
        return data

    def mark(self, key: str) -> stores.Mark | None:
        """Return what a server tells of a file or directory."""
        try:
            answer = self._ask("HEAD", key)
        except FileNotFoundError:
            return None
        self._check_read(key, answer)
        if "content-length" not in answer.headers:
            raise local_files.UnusableError("the server does not tell its size")
        return answer.mark()

    def list(self, prefix: str) -> Iterator[tuple[str, stores.Mark]]:
        """Yield what the server tells of each directory."""
        for entry in sorted(self._entries(prefix), key=_order):
            if entry.is_directory:
                yield from self.list(f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.mark

    def _entries(self, directory: str) -> Sequence[_Entry]:
        """Return what is in a directory; nothing if there is none."""
        try:
            return self._properties(directory, "1")
        except FileNotFoundError:
            return ()

    def _properties(self, key: str, depth: str) -> Sequence[_Entry]:
        answer = self._ask(
            "PROPFIND", key, {"Depth": depth, "Content-Type": "application/xml"}, lambda: _PROPERTIES
        )
        if answer.status != 207:
            raise errors.MachineError(self.location(key), f"the server lists nothing ({answer.status})")
        try:
            return _parse(answer.data, urllib.parse.urlsplit(self._url(key)).path, depth == "0")
        except (ElementTree.ParseError, ValueError) as exc:
            raise errors.MachineError(self.location(key), f"the server's list is damaged ({exc})") from exc

    def write(self, key: str, data: bytes, *, overwrite: bool, durable: bool = False) -> None:
        """Write a file under another name, and move it."""
        if not overwrite and self.mark(key) is not None:
            raise FileExistsError(17, "There is a file already", self.location(key))
        temporary = durable_files.temporary_name(key)
        self._put(temporary, lambda: data, len(data))
        self._move(temporary, key, overwrite=overwrite)

    def _put(self, key: str, body: http_connections.Body, size: int) -> None:
        headers = {"Content-Length": str(size)}
        try:
            answer = self._ask("PUT", key, headers, body)
            if answer.status in _TO_BE_CREATED:
                _make_directory(self._url(key).rpartition("/")[0])
                answer = self._ask("PUT", key, headers, body)
        except local_files.UnusableError as exc:
            raise PermissionError(13, str(exc), self.location(key)) from exc
        if answer.status >= 300:
            raise errors.MachineError(self.location(key), f"the server answers {answer.status} to PUT")

    def _move(self, source: str, key: str, *, overwrite: bool) -> None:
        headers = {"Destination": self._url(key), "Overwrite": "T" if overwrite else "F"}
        try:
            answer = self._ask("MOVE", source, headers, once=True)
            if answer.status == 412:
                raise FileExistsError(17, "There is a file already", self.location(key))
            if answer.status >= 300:
                raise errors.MachineError(self.location(key), f"the server answers {answer.status} to MOVE")
        except BaseException:
            self._delete(source)
            raise

    def delete_many(self, keys: Iterable[str], unchanged_since: int | None = None) -> stores.Deletion:
        """Delete files, each right after the look at it."""
        done = stores.Deletion()
        batch = list(keys)
        with in_flight.Requests() as requests:
            looks = requests.map(lambda key: self._delete_old(key, unchanged_since), batch)
            for key, problem in zip(batch, looks, strict=True):
                if problem is None:
                    continue
                if problem == _CHANGED:
                    done.changed.append(key)
                elif problem:
                    done.failures.append(f"{self.location(key)} ({problem})")
                else:
                    done.n_deleted += 1
        return done

    def _delete_old(self, key: str, unchanged_since: int | None) -> str | None:
        """Delete a file; return what prevents it, nothing if it is not there."""
        try:
            [entry] = self._properties(key, "0")
        except FileNotFoundError:
            return None
        except local_files.UnusableError as exc:
            return str(exc)
        except errors.MachineError as exc:
            return exc.reason
        if entry.is_directory:
            # With everything in it.
            return "is a directory"
        if unchanged_since is not None and entry.mark.changed > unchanged_since:
            return _CHANGED
        return self._delete(key)

    def _delete(self, key: str) -> str:
        try:
            answer = self._ask("DELETE", key)
        except FileNotFoundError:
            return ""
        except local_files.UnusableError as exc:
            return str(exc)
        except errors.MachineError as exc:
            return exc.reason
        return "" if answer.status < 300 else f"the server answers {answer.status}"

    def place(self, key: str) -> tuple[str, ...]:
        """Return server and path."""
        parts = urllib.parse.urlsplit(self._url(key))
        return f"{parts.scheme}://{parts.netloc}", urllib.parse.unquote(parts.path)

    def check_adoption(self, source: str, key: str, mode: str) -> None:
        """Refuse links, and servers that nothing can be written to."""
        remote_store.RemoteStore.check_adoption(self, source, key, mode)
        self.check_writeable()

    def _upload(self, source: str, key: str, tick: Callable[[], None], look: Callable[[], object]) -> None:
        """Upload a file under another name, and move it."""
        size = os.path.getsize(source)
        temporary = durable_files.temporary_name(key)
        tick()
        self._put(temporary, functools.partial(io.FileIO, source), size)
        try:
            mark = self.mark(temporary)
            if mark is None or mark.size != size:
                raise errors.MachineError(self.location(key), "is not complete after it was uploaded")
            fault_points.reached("uploading")
            tick()
            is_there = self.mark(key) is not None
            look()
        except BaseException:
            self._delete(temporary)
            raise
        self._move(temporary, key, overwrite=is_there)
        fault_points.reached("uploaded")


_CHANGED = "changed"


def _make_directory(url: str) -> None:
    """Make a directory, and those above it; whether it is there now, the next request will tell."""
    above, _, name = url.rpartition("/")
    if name and http_connections.request("MKCOL", f"{url}/").status in (404, 409):
        _make_directory(above)
        http_connections.request("MKCOL", f"{url}/")


def _order(entry: _Entry) -> bytes:
    return (f"{entry.name}/" if entry.is_directory else entry.name).encode()


def _range(start: int, length: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-{start + length - 1}"} if length else {}


def _tag_of(mark: stores.Mark, answer: http_connections.Answer) -> bytes:
    """Return the tag of a whole file, of which a part was read."""
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    if answer.status == 206 and total.isdigit():
        return http_connections.make_mark(
            total, answer.headers.get("last-modified", ""), answer.headers.get("etag", "")
        ).tag
    return mark.tag


def _parse(data: bytes, path: str, is_single: bool) -> Sequence[_Entry]:
    """Return what a list tells, without the directory itself.

    Raises
    ------
    ValueError, ParseError
        If it is none.
    """
    if b"<!DOCTYPE" in data:
        raise ValueError("it has a document type")
    own = urllib.parse.unquote(path).rstrip("/")
    entries = []
    for response in ElementTree.fromstring(data).findall("{DAV:}response"):
        href = urllib.parse.urlsplit(response.findtext("{DAV:}href", "")).path
        place = urllib.parse.unquote(href).rstrip("/")
        properties = _found(response)
        if properties is None or (place == own) != is_single:
            continue
        texts = (properties.findtext(f"{{DAV:}}{name}") or "" for name in _MARKED)
        is_directory = properties.find("{DAV:}resourcetype/{DAV:}collection") is not None
        mark = http_connections.make_mark(*texts)
        entries.append(_Entry(place.rpartition("/")[2], is_directory, mark))
    if is_single and len(entries) != 1:
        raise ValueError(f"{len(entries)} entries for one file")
    return entries


_MARKED = ("getcontentlength", "getlastmodified", "getetag")


def _found(response: ElementTree.Element) -> ElementTree.Element | None:
    for part in response.findall("{DAV:}propstat"):
        if " 200" in part.findtext("{DAV:}status", ""):
            return part.find("{DAV:}prop")
    return None
