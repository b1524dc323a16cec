"""SQLite on file systems without locks, and mounts whose locks other hosts do not see."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import sqlite3
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
            first.collections.register_run("u/me/late")
        with contextlib.closing(sqlite3.connect(database(sample))) as connection, connection:
            assert connection.execute("SELECT * FROM collection WHERE name = 'u/me/late'").fetchall() == []
        other.release()


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
