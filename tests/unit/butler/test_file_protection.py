"""SQLite on file systems without locks, and mounts whose locks other hosts do not see."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
from aggregator.butler.registry import registry
from aggregator.storage import errors, leases, locks, mounts

import aggregator
from tests.helpers import lease_hosts, sample_case, samples


@pytest.fixture
def no_record_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)


def database(sample: samples.Sample) -> pathlib.Path:
    return sample.repo / "gen3.sqlite3"


def opened(sample: samples.Sample, writeable: bool = True) -> registry.Registry:
    return registry.open_registry(f"sqlite:///{database(sample)}", None, writeable=writeable)


@pytest.mark.usefixtures("no_record_locks")
def test_run_says_so_and_is_whole(sample: samples.Sample, caplog: pytest.LogCaptureFixture) -> None:
    done = samples.aggregate(sample)
    assert f"{database(sample)}: its file system has no locks" in caplog.text
    assert done.n_ingested > 0
    assert list(sample.repo.glob("*.lease")) == []
    sample_case.ingest(sample, sample.root / "out.qg")
    assert list(sample.repo.glob("*.lease")) == []


@pytest.mark.usefixtures("no_record_locks")
@pytest.mark.ordering("C5")
def test_one_writer_at_a_time(sample: samples.Sample, hosts: lease_hosts.Hosts) -> None:
    with opened(sample), opened(sample):
        hosts.go_to("second")
        [lease] = sample.repo.glob("*.lease")
        before = database(sample).read_bytes()
        with pytest.raises(errors.InUseError, match=f"process {os.getpid()} on first"):
            # In this process, a lease that it has is shared.
            leases.take(str(database(sample)), "")
        assert database(sample).read_bytes() == before
    assert not lease.exists()


def test_host_with_locks_respects_a_lease(sample: samples.Sample) -> None:
    lease = leases.take(str(database(sample)), "")
    with pytest.raises(errors.InUseError) as caught:
        sample_case.ingest(sample, sample.root / "provenance.qg")
    assert caught.value.exit_code == 1
    with pytest.raises(errors.AggregatorError, match="in use by process") as caught:
        samples.aggregate(sample)
    assert caught.value.exit_code == 1
    # Those who only read are not kept away.
    opened(sample, writeable=False).close()
    lease.release()
    samples.aggregate(sample)


@pytest.mark.usefixtures("no_record_locks")
@pytest.mark.ordering("C4", "B1")
def test_transaction_is_not_committed_without_the_lease(
    sample: samples.Sample, hosts: lease_hosts.Hosts
) -> None:
    with opened(sample) as first:
        [lease] = sample.repo.glob("*.lease")
        lease_hosts.grow_old(str(lease))
        hosts.go_to("second")
        other = leases.take(str(database(sample)), "")
        with pytest.raises(errors.AggregatorError, match="the lease was taken over"):
            first.register_run("u/me/late")
        with sqlite3.connect(database(sample)) as connection:
            assert connection.execute("SELECT * FROM collection WHERE name = 'u/me/late'").fetchall() == []
        other.release()


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
    lease = leases.take(str(database(sample)), "")
    subprocess.run([sys.executable, "-c", writing, str(database(sample))], check=False)
    journal = database(sample).with_name("gen3.sqlite3-journal")
    before = database(sample).read_bytes(), journal.read_bytes()
    hosts.go_to("second")
    with pytest.raises(errors.InUseError):
        opened(sample, writeable=False)
    assert (database(sample).read_bytes(), journal.read_bytes()) == before
    lease.release()
    opened(sample, writeable=False).close()
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
    program = [sys.executable, "-m", "aggregator.command_line.main"]
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
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (
            done.stderr.count("has no locks")
            == {"aggregate-graph": 2, "ingest-graph": 2, "show": 0}[command[0]]
        )
    assert list(sample.repo.rglob("*.lease")) == []


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Any:
    """Return a function that lets the temporary directory be mounted with options."""
    device = tmp_path.stat().st_dev

    def mount(options: str) -> None:
        table = tmp_path / "mountinfo"
        number = f"{os.major(device)}:{os.minor(device)}"
        table.write_text(
            f"36 35 {number} / /data rw,noatime shared:1 - nfs server:/data rw,vers=3,{options}\n"
        )
        monkeypatch.setattr(mounts, "_TABLE", str(table))

    return mount


@pytest.mark.parametrize(
    ("options", "whole", "records"),
    [
        ("hard", True, True),
        ("nolock", False, False),
        ("local_lock=none", True, True),
        ("local_lock=all", False, False),
        ("local_lock=flock", False, True),
        ("local_lock=posix", True, False),
        ("localflock", False, True),
    ],
)
def test_locks_that_other_hosts_do_not_see(
    sample: samples.Sample,
    mounted: Any,
    options: str,
    whole: bool,
    records: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mounted(options)
    samples.aggregate(sample)
    assert ("other hosts do not see them" in caplog.text) == (not whole)
    assert (f"{database(sample)}: its file system has no locks" in caplog.text) == (not records)


@pytest.mark.ordering("C7")
def test_second_host_is_kept_away_although_its_own_locks_work(
    sample: samples.Sample, mounted: Any, hosts: lease_hosts.Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted("nolock")
    samples.aggregate(sample, dry_run=True)
    lock = sample.repo / "predicted.qg.checkpoint" / "aggregation.lock"
    with locks.take(str(lock), os.open(lock, os.O_RDWR), ""):
        hosts.go_to("second")
        # There, nobody has the lock.
        monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
        before = samples.tree(sample.root)
        with pytest.raises(aggregator.InUseError, match="on first"):
            samples.aggregate(sample)
        assert samples.tree(sample.root) == before
