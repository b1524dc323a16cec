"""An S3 server on this host, for tests."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import itertools
import json
import logging
import os
import pathlib
import shutil
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Self

import obstore
import pytest
from moto import core
from moto.moto_server import threaded_moto_server
from moto.s3 import models
from obstore import store as clients

KEY, SECRET = "AKIDEXAMPLE", "secret/with+odd=characters"

CUT = -1
"""In place of a status: the body ends too early."""

DROPPED = -2
"""In place of a status: the connection ends without an answer."""

_NUMBERS = itertools.count()
"""Numbers of buckets: all servers of a process have the same ones, with what was left in them before."""

_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@dataclasses.dataclass(frozen=True, slots=True)
class S3Server:
    """A server that has everything in memory."""

    url: str
    """Its endpoint."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the product and the reference reach it."""
        return {
            "S3_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
        self._request(name, "PUT")
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Make an object, without a request: that would take a hundred times as long."""
        models.s3_backends[core.DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, data)

    def take(self, bucket: str, prefix: str, directory: pathlib.Path) -> None:
        """Move a directory into a bucket."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{directory.name}/{path.relative_to(directory)}"
                self.put(bucket, key, path.read_bytes())
        shutil.rmtree(directory)

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket, which has to be empty."""
        self._request(name, "DELETE")

    def _request(self, name: str, method: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.url}/{name}", method=method)
        with opener.open(request):
            pass

    def client(self, bucket: str) -> clients.S3Store:
        """Return a client that does not go through the product."""
        config: clients.S3Config = {
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": "us-east-1",
            "endpoint": self.url,
        }
        return clients.S3Store(bucket, config=config, client_options={"allow_http": True})

    def keys(self, bucket: str) -> list[str]:
        """Return all keys of a bucket."""
        pages = obstore.list(self.client(bucket), chunk_size=1000)
        return [meta["path"] for page in pages for meta in page]


@contextlib.contextmanager
def running() -> Iterator[S3Server]:
    """Run a server; while it runs, there are no proxies."""
    # It tells of every request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = threaded_moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in _VARIABLES:
                patch.delenv(name, raising=False)
            host, port = server.get_host_and_port()
            yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


class FaultyServer:
    """Passes requests on to a server, but for those that fail.

    Parameters
    ----------
    server
        The server behind it.
    fault
        Is told method and path of each request; returns a status to answer with instead, `CUT`, `DROPPED`, or
        0.
    port
        Where it listens; by default anywhere.
    """

    def __init__(self, server: S3Server, fault: Callable[[str, str], int], port: int = 0) -> None:
        self._behind = urllib.parse.urlsplit(server.url).netloc
        self._fault = fault
        self.delay = 0.0
        """Seconds to wait before each answer."""
        self.n_requests = 0
        """Requests so far."""
        self.n_bytes = 0
        """Bytes of bodies that it has sent so far."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        """Where it listens."""
        self.url = f"http://127.0.0.1:{self.port}"
        """Its endpoint."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.n_requests += 1
        time.sleep(self.delay)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fault = self._fault(handler.command, urllib.parse.unquote(handler.path))
        if fault == DROPPED:
            handler.close_connection = True
            return
        if fault > 0:
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        connection = http.client.HTTPConnection(self._behind)
        path, headers = self._translated(handler.path, dict(handler.headers.items()))
        connection.request(handler.command, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "server", "date", "content-length"):
                handler.send_header(name, value)
        size = answer.getheader("Content-Length") if handler.command == "HEAD" else len(data)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        self.n_bytes += len(data) if handler.command != "HEAD" else 0
        if fault == CUT:
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
        elif handler.command != "HEAD":
            handler.wfile.write(data)

    def _translated(self, path: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return path and headers of a request as the server behind it knows them."""
        return path, headers


class GoogleServer(FaultyServer):
    """Looks like Google's cloud storage: the objects are those of an S3 server, whose dialect is similar."""

    _SIGNED = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, Signature=0"

    def environment(self, directory: pathlib.Path) -> dict[str, str]:
        """Return variables with which the product reaches it; credentials are written to a directory."""
        credentials = directory / "google.json"
        user = ("client_id", "client_secret", "refresh_token")
        credentials.write_text(json.dumps({"type": "authorized_user"} | dict.fromkeys(user, SECRET)))
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "GOOGLE_BASE_URL": self.url,
            "GOOGLE_BEARER_TOKEN": SECRET,
        }

    def _translated(self, path: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        if headers.pop("authorization", "") != f"Bearer {SECRET}":
            return "/", {}
        names = {"x-goog-copy-source": "x-amz-copy-source", "x-goog-if-generation-match": "If-None-Match"}
        renamed = {names.get(name.lower(), name): value for name, value in headers.items()}
        if "If-None-Match" in renamed:
            # No generation is zero: there must be no object.
            renamed["If-None-Match"] = "*"
        key, mark, query = path.partition("?")
        key = urllib.parse.quote(urllib.parse.unquote(key), safe="/~")
        return f"{key}{mark}{query}", renamed | {"Authorization": self._SIGNED}
