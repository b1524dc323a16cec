"""SQLite without locks, beside processes that write."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
from aggregator.storage import errors, leases

from tests.helpers import lease_hosts, sample_case, samples
from tests.unit.butler import test_file_protection

no_record_locks = test_file_protection.no_record_locks


@pytest.mark.usefixtures("no_record_locks")
def test_reader_does_not_undo_what_is_being_written(sample: samples.Sample, hosts: lease_hosts.Hosts) -> None:
    """Without locks, a journal looks the same whether its writer lives or not; the lease tells."""
    writing = (
        "import sqlite3, sys, os\n"
        "connection = sqlite3.connect(f'file:{sys.argv[1]}?nolock=1', uri=True, isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size=1')\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "connection.execute('CREATE TABLE big (x)')\n"
        "for i in range(2000): connection.execute('INSERT INTO big VALUES (?)', (b'x' * 1000,))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    lease = leases.take(str(test_file_protection.database(sample)), "")
    subprocess.run([sys.executable, "-c", writing, str(test_file_protection.database(sample))], check=False)
    journal = test_file_protection.database(sample).with_name("gen3.sqlite3-journal")
    before = test_file_protection.database(sample).read_bytes(), journal.read_bytes()
    hosts.go_to("second")
    with pytest.raises(errors.InUseError):
        test_file_protection.opened(sample, writeable=False)
    assert (test_file_protection.database(sample).read_bytes(), journal.read_bytes()) == before
    lease.release()
    test_file_protection.opened(sample, writeable=False).close()
    assert not journal.exists()
    assert sample_case.database(sample).query("SELECT * FROM sqlite_master WHERE name = 'big'") == []


_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#define DENY(name) \
int name(int fd, int cmd, ...) { \
    va_list rest; va_start(rest, cmd); void *value = va_arg(rest, void *); va_end(rest); \
    if (cmd == F_SETLK || cmd == F_SETLKW || cmd == F_GETLK) { errno = NUMBER; return -1; } \
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name); return real(fd, cmd, value); }
DENY(fcntl)
DENY(fcntl64)
int flock(int fd, int operation) { errno = NUMBER; return -1; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a compiler")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_system_without_any_locks(sample: samples.Sample, number: int) -> None:
    """All libraries of all processes get the error."""
    library = sample.root / "nolocks.so"
    (sample.root / "nolocks.c").write_text(_SOURCE.replace("NUMBER", str(number)))
    build = ["gcc", "-shared", "-fPIC", "-o", str(library), str(sample.root / "nolocks.c"), "-ldl"]
    subprocess.run(build, check=True)
    program = [sys.executable, "-m", "aggregator"]
    output = str(sample.root / "out.qg")
    commands: Any = (
        ["aggregate-graph", str(sample.repo / "predicted.qg"), str(sample.repo), "-o", output, "-j", "2"],
        ["ingest-graph", str(sample.repo), output],
        ["show", str(sample.repo)],
    )
    for command in commands:
        more = ["--mock-storage-classes"] if command[0] == "aggregate-graph" else []
        environment = dict(os.environ) | {"LD_PRELOAD": str(library)}
        done = subprocess.run(
            [*program, *command, *more],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (
            done.stderr.count("has no locks")
            == {"aggregate-graph": 2, "ingest-graph": 4, "show": 0}[command[0]]
        )
    assert list(sample.repo.rglob("*.lease")) == []
