"""Connections to a PostgreSQL server that end after a COMMIT has reached it, before its answer comes back."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

from tests.helpers import postgresql_server

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_READY = b"Z\x00\x00\x00\x05I"
"""What a server says when a transaction has ended."""


class LossyConnections:
    """A TCP port in front of a server.

    Parameters
    ----------
    server
        The server, which is reached through its socket, where it asks for no password.
    is_lost
        Tells of each COMMIT, by its number from 1, whether its answer is lost, and the connection with it.
    """

    def __init__(self, server: postgresql_server.Server, is_lost: Callable[[int], bool]) -> None:
        self._server = server
        self._is_lost = is_lost
        self._counting = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.n_commits = 0
        """COMMITs that have reached the server."""
        self.n_lost = 0
        """Answers that were lost."""
        threading.Thread(target=self._listen, daemon=True).start()

    def url(self, database: str) -> str:
        """Return the URL of a database for its owner."""
        port = self._listener.getsockname()[1]
        return f"postgresql://{postgresql_server.OWNER}@127.0.0.1:{port}/{database}"

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=[client], daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        upstream = socket.socket(socket.AF_UNIX)
        with client, upstream, contextlib.suppress(OSError):
            upstream.connect(str(self._server.directory / f".s.PGSQL.{self._server.port}"))
            while True:
                for source in select.select([client, upstream], [], [])[0]:
                    if not (data := source.recv(1 << 16)):
                        return
                    if source is upstream:
                        client.sendall(data)
                        continue
                    upstream.sendall(data)
                    if data.endswith(_COMMIT) and self._counts_as_lost():
                        answer = b""
                        while not answer.endswith(_READY):
                            answer += upstream.recv(1 << 16)
                        return

    def _counts_as_lost(self) -> bool:
        with self._counting:
            self.n_commits += 1
            is_lost = self._is_lost(self.n_commits)
            self.n_lost += is_lost
            return is_lost


@contextlib.contextmanager
def in_front_of(
    server: postgresql_server.Server, is_lost: Callable[[int], bool]
) -> Iterator[LossyConnections]:
    """Give such a port for a while."""
    connections = LossyConnections(server, is_lost)
    try:
        yield connections
    finally:
        connections.close()
