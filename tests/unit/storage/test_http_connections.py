"""Requests to servers that send one elsewhere, break off, or do not answer."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.storage import dav_store, errors, http_connections, local_files, stores

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server:
    """A server of this process, whose answers a test says."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, dict(self.headers.items()), body))
                answers = outer.answers[self.path]
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            do_HEAD = do_PUT = do_MOVE = do_GET

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        http_connections.idle.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http_connections, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(http_connections, "_LONGEST_PAUSE", 0.002)
    started = Server()
    yield started
    started.close()


def says(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        if length is not None:
            handler.close_connection = True

    return answer


def hangs_up(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def test_it_goes_where_a_server_sends_it(server: Server) -> None:
    server.answers["/a"] = [says(307, Location="/b")]
    server.answers["/b"] = [says(201, b"made")]
    answer = http_connections.request("PUT", f"{server.url}/a", {"Content-Length": "4"}, lambda: b"data")
    assert (answer.status, answer.data) == (201, b"made")
    assert [(method, path, body) for method, path, _, body in server.requests] == [
        ("PUT", "/a", b"data"),
        ("PUT", "/b", b"data"),
    ]


def test_servers_that_send_it_round(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "_ATTEMPTS", 2)
    server.answers["/a"] = [says(302, Location="/a")]
    with pytest.raises(errors.MachineError, match="from server to server"):
        http_connections.request("GET", f"{server.url}/a")


def test_a_body_that_breaks_off_is_asked_for_again(server: Server) -> None:
    server.answers["/a"] = [says(200, b"half", length=8), hangs_up, says(200, b"complete")]
    assert http_connections.request("GET", f"{server.url}/a").data == b"complete"
    assert len(server.requests) == 3


def test_a_body_that_always_breaks_off(server: Server) -> None:
    server.answers["/a"] = [says(200, b"half", length=8)]
    with pytest.raises(errors.MachineError, match="more expected"):
        http_connections.request("GET", f"{server.url}/a")


def test_what_may_have_been_done_is_not_asked_for_again(server: Server) -> None:
    server.answers["/a"] = [hangs_up]
    with pytest.raises(errors.MachineError):
        http_connections.request("MOVE", f"{server.url}/a", once=True)
    assert len(server.requests) == 1


def test_nobody_is_there() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_connections, "_ATTEMPTS", 1)
        with pytest.raises(errors.MachineError, match="refused"):
            http_connections.request("GET", "http://127.0.0.1:9/a")


def test_a_size_that_is_not_wanted(server: Server) -> None:
    def refuse(size: int) -> None:
        assert size == 7
        raise stores.TooLargeError

    server.answers["/a"] = [says(200, b"content")]
    with pytest.raises(stores.TooLargeError):
        http_connections.request("GET", f"{server.url}/a", admit=refuse)
    assert len(server.requests) == 1


def test_a_server_that_gives_no_parts(server: Server) -> None:
    server.answers["/a"] = [says(200, b"0123456789", ETag='"1"')]
    store = dav_store.DavStore(server.url)
    with pytest.raises(local_files.UnusableError, match="no parts"):
        store.read_range("a", 3, 4)
    assert store.read_range("a", 0, 10, b"=1") == b"0123456789"
    with pytest.raises(stores.ChangedError):
        store.read_range("a", 0, 10, b"=2")


def test_a_server_that_tells_no_size(server: Server) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()

    server.answers["/a"] = [answer]
    with pytest.raises(local_files.UnusableError, match="does not tell its size"):
        dav_store.DavStore(server.url).mark("a")


def test_without_etags_size_and_time_tell_files_apart() -> None:
    first = http_connections.make_mark("7", "Mon, 30 Nov 2026 19:30:55 GMT", "")
    assert first.size == 7
    assert first.modified == 1_796_067_055_000_000_000
    assert first.tag != http_connections.make_mark("8", "Mon, 30 Nov 2026 19:30:55 GMT", "").tag
    assert first.tag != http_connections.make_mark("7", "Mon, 30 Nov 2026 19:30:56 GMT", "").tag
    assert http_connections.make_mark("7", "", 'W/"x"').tag == http_connections.make_mark("7", "", "x").tag


def test_odd_lists() -> None:
    with pytest.raises(ValueError, match="document type"):
        dav_store._parse(b'<?xml version="1.0"?><!DOCTYPE a><a/>', "/a", False)
    listed = (
        b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>http://h/d/</D:href><D:propstat><D:prop/>'
        b"<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response><D:response><D:href>/d/x%20y</D:href>"
        b"<D:propstat><D:prop><D:getcontentlength>3</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK"
        b"</D:status></D:propstat></D:response><D:response><D:href>/d/z</D:href><D:propstat><D:prop/>"
        b"<D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response></D:multistatus>"
    )
    [entry] = dav_store._parse(listed, "/d", False)
    assert (entry.name, entry.mark.size, entry.is_directory) == ("x y", 3, False)
    with pytest.raises(ValueError, match="0 entries"):
        dav_store._parse(listed, "/other", True)


def closes_after(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer as if the connection could go on, and close it, as a server does with idle ones."""
    says(200, b"x")(handler)
    handler.close_connection = True


def test_connections_that_a_server_has_closed_cost_one_attempt(server: Server) -> None:
    barrier = threading.Barrier(12)

    def answers_together(handler: http.server.BaseHTTPRequestHandler) -> None:
        barrier.wait()
        closes_after(handler)

    server.answers["/a"] = [answers_together]
    threads = [
        threading.Thread(target=http_connections.request, args=("GET", f"{server.url}/a")) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.answers["/b"] = [says(200, b"new")]
    assert http_connections.request("GET", f"{server.url}/b").data == b"new"
