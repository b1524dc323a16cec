"""File systems without locks: leases, among them those of other hosts."""

from __future__ import annotations

import errno
import os
import pathlib
from typing import Any

import pytest
from aggregator.schemas.checkpoints import ledger
from aggregator.storage import errors, leases, locks

from aggregator.aggregation import checkpoints
from tests.helpers import lease_hosts, samples


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file system be without locks."""

    def flock(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(locks.fcntl, "flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_run_without_locks_says_so_and_is_whole(
    sample: samples.Sample, caplog: pytest.LogCaptureFixture
) -> None:
    samples.aggregate(sample)
    assert "its file system has no locks" in caplog.text
    assert sorted(p.name for p in sample.repo.iterdir() if "checkpoint" in p.name) == []


@pytest.mark.usefixtures("no_locks")
@pytest.mark.ordering("C5", "C7")
@pytest.mark.parametrize("host", ["first", "second"])
def test_lease_of_a_living_process_is_not_taken(
    sample: samples.Sample, hosts: lease_hosts.Hosts, host: str
) -> None:
    directory = sample.repo / "predicted.qg.checkpoint"
    with checkpoints.Checkpoint(str(directory)) as held:
        assert held.lock.claim is not None
        if host == "second":
            lease_hosts.grow_old(held.lock.claim.path, leases.STALE_SECONDS - 30)
        else:
            # On its own host it is known to live, however long it could not write.
            lease_hosts.grow_old(held.lock.claim.path)
        hosts.go_to(host)
        before = samples.tree(sample.root)
        with pytest.raises(errors.InUseError, match=f"process {os.getpid()} on first, since 20") as caught:
            samples.aggregate(sample)
        assert caught.value.exit_code == 1
        assert samples.tree(sample.root) == before


@pytest.mark.usefixtures("no_locks")
@pytest.mark.ordering("C4")
def test_lease_of_another_host_is_taken_over_when_it_is_not_renewed(
    sample: samples.Sample, hosts: lease_hosts.Hosts
) -> None:
    """The first host was out of reach for a while; when it is back, it does not go on."""
    directory = sample.repo / "predicted.qg.checkpoint"
    with checkpoints.Checkpoint(str(directory)) as first:
        assert first.lock.claim is not None
        lease_hosts.grow_old(first.lock.claim.path)
        hosts.go_to("second")
        with checkpoints.Checkpoint(str(directory)) as second:
            leases.check(second.lock.claim)
            with pytest.raises(errors.AggregatorError, match="the lease was taken over") as caught:
                leases.check(first.lock.claim)
            assert caught.value.exit_code == 1
            # Nor does it take away what is the other's by now.
            first.remove()
            leases.check(second.lock.claim)
            assert os.path.exists(second.layout.lock)
            second.remove()
    assert not directory.exists()


@pytest.mark.usefixtures("no_locks")
@pytest.mark.ordering("C4")
@pytest.mark.parametrize("step", ["digest", "ledger", "publication"])
def test_what_relies_on_a_lease_looks_again(
    sample: samples.Sample, hosts: lease_hosts.Hosts, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The lease is taken over right before a step: it is not done, and the second host can do it all."""
    directory = sample.repo / "predicted.qg.checkpoint"
    point = {"digest": "shard", "ledger": "report", "publication": "output"}[step]
    taken: list[leases.Lease] = []

    def reached(name: str) -> None:
        if name == point and not taken:
            [lease] = directory.glob("*.lease")
            lease_hosts.grow_old(str(lease))
            hosts.go_to("second")
            taken.append(leases.take(str(directory / "aggregation.lock"), ""))

    monkeypatch.setattr("aggregator.storage.fault_points.reached", reached)
    with pytest.raises(errors.AggregatorError, match=r"the lease was taken over by process .* on second"):
        samples.aggregate(sample)
    assert not (sample.root / "out.qg").exists()
    if step != "publication":
        assert ledger.read_all(str(directory / "ledger")) == []
    if step == "digest":
        assert list(directory.glob("*.digest")) == []
    taken[0].release()
    samples.aggregate(sample)
    assert (sample.root / "out.qg").exists()


def test_lease_is_renewed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 0.01)
    lease = leases.take(str(tmp_path / "subject"), "")
    lease_hosts.grow_old(lease.path)
    old = os.stat(lease.path).st_mtime
    for _ in range(1000):
        if os.stat(lease.path).st_mtime != old:
            break
        lease._is_released.wait(0.01)
    assert os.stat(lease.path).st_mtime > old + leases.STALE_SECONDS
    lease.release()


def test_of_two_that_take_over_at_once_one_gives_way(
    tmp_path: pathlib.Path, hosts: lease_hosts.Hosts
) -> None:
    """The other one took over, finished, and somebody began anew, all between our look and our lease."""
    subject = str(tmp_path / "subject")
    stale = leases.take(subject, "")
    lease_hosts.grow_old(stale.path)
    hosts.go_to("second")
    original, calls = leases.Lease, []

    def slow(path: str) -> leases.Lease:
        if not calls:
            calls.append(path)
            os.unlink(stale.path)
            calls.append(original(f"{subject}.000001.lease"))
        return original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "Lease", slow)
        with pytest.raises(errors.InUseError):
            leases.take(subject, "")
    leases.check(calls[1].claim)
    assert os.listdir(tmp_path) == ["subject.000001.lease"]
    calls[1].release()
    stale.release()


def test_lease_that_gives_way_hides_no_other(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one in the list may be gone when it is read, and one before it be held all the same."""
    subject = str(tmp_path / "subject")
    held = leases.take(subject, "")
    passing = f"{subject}.000002.lease"
    original = leases._read

    def read(path: str) -> Any:
        if path == passing:
            os.unlink(path)
        return original(path)

    monkeypatch.setattr(leases, "_read", read)
    pathlib.Path(passing).write_bytes(b"")
    with pytest.raises(errors.InUseError):
        leases.take(subject, "")
    pathlib.Path(passing).write_bytes(b"")
    assert leases.holder(subject)
    leases.check(held.claim)
    held.release()


@pytest.mark.usefixtures("no_locks")
def test_a_shared_lease_is_shared_until_somebody_wants_it_alone(
    tmp_path: pathlib.Path, hosts: lease_hosts.Hosts
) -> None:
    subject = str(tmp_path / "jobs.lock")
    first = leases.take_shared(subject, "")
    hosts.go_to("second")
    second = leases.take_shared(subject, "")
    assert leases.holder(subject) == ""
    assert leases.holder(subject, shared=True)
    with pytest.raises(errors.InUseError, match=f"process {os.getpid()} on"):
        leases.take(subject, "")
    first.release()
    # Its host shows no sign of life any more.
    lease_hosts.grow_old(second.path)
    hosts.go_to("third")
    alone = leases.take(subject, "")
    assert [str(path) for path in tmp_path.iterdir()] == [alone.path]
    with pytest.raises(errors.InUseError):
        leases.take_shared(subject, "")
    alone.release()
    second.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_locks")
def test_a_lease_is_none_of_what_is_called_alike(tmp_path: pathlib.Path) -> None:
    """As runs are, whose names differ in what comes after a period."""
    longer = leases.take(str(tmp_path / "run.1"), "")
    assert leases.holder(str(tmp_path / "run")) == ""
    leases.take(str(tmp_path / "run"), "").release()
    leases.check(longer.claim)
    longer.release()
