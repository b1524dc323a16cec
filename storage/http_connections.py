"""Requests to WebDAV and HTTP servers, over connections that are kept."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import email.utils
import http.client
import io
import itertools
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Final

from aggregator.storage import errors, http_settings, stores

_ATTEMPTS: Final = 10
_FIRST_PAUSE, _LONGEST_PAUSE, _PATIENCE = 0.1, 20.0, 180.0
"""Seconds: before the second attempt, before the last one, and in all."""

_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be others in a moment."""

_REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTIONS: Final = 5

_PORTS: Final = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}

Body = Callable[[], bytes | io.RawIOBase]
"""Gives the body of a request, for each attempt anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a server has answered."""

    status: int
    """Status code."""

    headers: Mapping[str, str]
    """Headers, by names in lower case."""

    data: bytes
    """Body."""

    def mark(self) -> stores.Mark:
        """Return what the headers tell of a file."""
        return make_mark(
            self.headers.get("content-length", ""),
            self.headers.get("last-modified", ""),
            self.headers.get("etag", ""),
        )


def make_mark(size: str, modified: str, tag: str) -> stores.Mark:
    """Return what a server tells of a file, by the texts of headers and properties."""
    time_ns = 0
    with contextlib.suppress(TypeError, ValueError):
        time_ns = int(email.utils.parsedate_to_datetime(modified).timestamp()) * 1_000_000_000
    n_bytes = int(size) if size.isdigit() else 0
    etag = tag.removeprefix("W/").strip('"')
    made = f"={etag}" if etag else f"~{n_bytes} {time_ns}"
    return stores.Mark(n_bytes, time_ns, time_ns, made.encode())


class _Pool:
    """Connections that nobody uses at the moment; may be used by several threads."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()
        atexit.register(self.close)

    def take(self, server: tuple[str, str]) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(server)
            return idle.pop() if idle else None

    def give_back(self, server: tuple[str, str], connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.setdefault(server, []).append(connection)

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            for connection in itertools.chain(*self._idle.values()):
                connection.close()
            self._idle.clear()


idle = _Pool()
"""Connections of this process."""


def request(
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    body: Body | None = None,
    admit: Callable[[int], None] | None = None,
    *,
    once: bool = False,
) -> Answer:
    """Return what a server answers.

    Parameters
    ----------
    method
        Method, like GET.
    url
        URL, quoted, with the scheme http or https.
    headers
        More headers.
    body
        Gives the body, if there is one.
    admit
        Called with the size of a body before it is read.
    once
        Whether not to ask again if there is no answer: the request may have been carried out.

    Raises
    ------
    MachineError
        If no answer comes for minutes, or only ones that say that it is too much at the moment.
    """
    began, pause = time.monotonic(), _FIRST_PAUSE
    for attempt in range(1, _ATTEMPTS + 1):
        if once:
            # A server may have closed the connection, and that would look like an answer that is lost.
            idle.close()
        try:
            answer = _follow(method, url, dict(headers or {}), body, admit)
            if answer.status not in _BUSY:
                return answer
            problem = f"the server answers {answer.status}"
        except ssl.SSLCertVerificationError as exc:
            raise errors.MachineError(
                url, f"its certificate can't be trusted ({exc.verify_message})"
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            problem = str(exc) or type(exc).__name__
            # A server that has closed an idle connection has closed the others: each would cost an attempt.
            idle.close()
            if once:
                break
        if attempt == _ATTEMPTS or time.monotonic() - began > _PATIENCE:
            break
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise errors.MachineError(url, problem[:300])


def _follow(
    method: str, url: str, headers: dict[str, str], body: Body | None, admit: Callable[[int], None] | None
) -> Answer:
    """Ask, also servers that the first one names."""
    first = urllib.parse.urlsplit(url)
    for _ in range(_MOST_REDIRECTIONS):
        parts = urllib.parse.urlsplit(url)
        is_first = (parts.scheme, parts.netloc) == (first.scheme, first.netloc)
        answer = _ask(method, parts, headers, body, admit, trusted=is_first)
        target = answer.headers.get("location")
        if answer.status not in _REDIRECTED or target is None:
            return answer
        url = urllib.parse.urljoin(url, target)
        if first.scheme == "https" and not url.startswith("https:"):
            raise http.client.HTTPException("it leads to a server without TLS")
    raise http.client.HTTPException("it leads from server to server")


def _ask(
    method: str,
    parts: urllib.parse.SplitResult,
    headers: dict[str, str],
    body: Body | None,
    admit: Callable[[int], None] | None,
    *,
    trusted: bool,
) -> Answer:
    server = (parts.scheme, parts.netloc)
    if trusted and parts.scheme == "https" and (token := http_settings.token()):
        headers = {**headers, "Authorization": f"Bearer {token}"}
    connection = idle.take(server) or _connect(server)
    data = None if body is None else body()
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        if admit is not None and response.status == 200:
            admit(int(response.getheader("Content-Length") or 0))
        answer = Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
    except BaseException:
        connection.close()
        raise
    finally:
        if data is not None and not isinstance(data, bytes):
            data.close()
    if response.will_close:
        connection.close()
    else:
        idle.give_back(server, connection)
    return answer


def _connect(server: tuple[str, str]) -> http.client.HTTPConnection:
    scheme, netloc = server
    settings = http_settings.read(scheme == "https")
    parts = urllib.parse.urlsplit(f"//{netloc.rpartition('@')[2]}")
    host, port = parts.hostname or "", parts.port or _PORTS[scheme]
    connection = (
        http.client.HTTPConnection(host, port, timeout=settings.connect_timeout)
        if settings.tls is None
        else http.client.HTTPSConnection(host, port, timeout=settings.connect_timeout, context=settings.tls)
    )
    connection.connect()
    sock: socket.socket = connection.sock
    sock.settimeout(settings.read_timeout)
    return connection
