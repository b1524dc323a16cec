"""A WebDAV server on this host, for tests."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cheroot import wsgi
from cheroot.ssl import builtin
from wsgidav import wsgidav_app

_NUMBERS = itertools.count()


@dataclasses.dataclass(slots=True)
class DavServer:
    """A server of the files below a directory."""

    url: str
    """Its URL."""

    directory: pathlib.Path
    """The files."""

    requests: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    """Method, path and authorization of each request."""

    fault: Callable[[str, str], int] = lambda method, path: 0
    """Is told method and path of each request; returns a status to answer with instead, or 0."""

    def new_root(self) -> str:
        """Return the URL of a new directory."""
        name = f"root {os.getpid()} {next(_NUMBERS)}"
        (self.directory / name).mkdir()
        return f"{self.url}/{name}"


@contextlib.contextmanager
def running(
    directory: pathlib.Path, certificate: tuple[pathlib.Path, pathlib.Path] | None = None
) -> Iterator[DavServer]:
    """Run a server, with TLS if there is a certificate with its key."""
    options: dict[str, Any] = {
        "provider_mapping": {"/": str(directory)},
        "simple_dc": {"user_mapping": {"*": True}},
        "verbose": 0,
        "logging": {"enable": False},
        "property_manager": None,
        "lock_storage": None,
    }
    app = wsgidav_app.WsgiDAVApp(options)
    known = DavServer("", directory)

    def watched(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        known.requests.append((method, path, environ.get("HTTP_AUTHORIZATION", "")))
        if status := known.fault(method, path):
            start(f"{status} Fault", [("Content-Length", "0")])
            return []
        answer: Iterable[bytes] = app(environ, start)
        return answer

    server = wsgi.Server(("127.0.0.1", 0), watched, numthreads=20)
    if certificate is not None:
        server.ssl_adapter = builtin.BuiltinSSLAdapter(*map(str, certificate))
    server.prepare()
    known.url = f"http{'' if certificate is None else 's'}://127.0.0.1:{server.bind_addr[1]}"
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.stop()
        thread.join(10)
