"""Leases of processes that are killed, and of many that want one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from aggregator.storage import errors, leases

import aggregator
from aggregator.aggregation import checkpoint_status
from tests.helpers import samples

_HOLD = """
import sys, os, errno
from aggregator.storage import leases, locks
def flock(*_):
    raise OSError(errno.ENOLCK, "no locks")
locks.fcntl.flock = flock
lease = leases.take(sys.argv[1], "")
if len(sys.argv) > 2:
    # A worker: it has nothing but what it inherits.
    os.set_inheritable(lease.descriptor, True)
    import subprocess
    worker = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
    print(worker.pid, flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


def _hold(subject: pathlib.Path, *arguments: str) -> Any:
    command = [sys.executable, "-c", _HOLD, str(subject), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.ordering("C5")
def test_lease_of_a_killed_process_is_free_when_its_workers_are_gone(tmp_path: pathlib.Path) -> None:
    subject = tmp_path / "aggregation.lock"
    with _hold(subject, "worker") as running:
        worker = int(running.stdout.readline())
        running.kill()
        running.wait()
        try:
            assert f"process {running.pid} on" in leases.holder(str(subject))
            with pytest.raises(errors.InUseError):
                leases.take(str(subject), "")
        finally:
            os.kill(worker, 9)
        while leases.holder(str(subject)):
            pass
        leases.take(str(subject), "").release()
    assert os.listdir(tmp_path) == []


def test_host_with_locks_respects_a_lease(sample: samples.Sample) -> None:
    """Not every host has the file system mounted in the same way."""
    directory = sample.repo / "predicted.qg.checkpoint"
    samples.aggregate(sample, dry_run=True)
    with _hold(directory / "aggregation.lock") as running:
        running.stdout.readline()
        with pytest.raises(aggregator.InUseError, match=f"process {running.pid} on"):
            samples.aggregate(sample)
        assert f"process {running.pid} on" in checkpoint_status.read(str(directory)).process
        running.kill()
    samples.aggregate(sample)
    assert not directory.exists()


_STRESS = """
import errno, os, sys
from aggregator.aggregation import checkpoints
from aggregator.storage import errors, leases, locks
kind, directory = sys.argv[1:]
locks._PATIENCE = 0
def flock(*_):
    raise OSError(errno.ENOLCK, "no locks")
if kind != "lock":
    locks.fcntl.flock = flock
if kind == "hosts":
    leases.system = lambda: str(os.getpid())
n_held = 0
while n_held < 40:
    try:
        held = checkpoints.Checkpoint(directory)
    except errors.InUseError:
        continue
    probe = directory + ".probe"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL))
    open(held.layout.ledger, "w").close()
    os.unlink(probe)
    if n_held % 3:
        held.remove()
    held.lock.release()
    n_held += 1
"""


@pytest.mark.ordering("C3", "C5", "T1")
@pytest.mark.parametrize("kind", ["lock", "lease", "hosts"])
def test_many_that_want_one_checkpoint(tmp_path: pathlib.Path, kind: str) -> None:
    """It is made, held, removed and left by three processes at once; no two ever have it."""
    command = [sys.executable, "-c", _STRESS, kind, str(tmp_path / "checkpoint")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    complaints = [each.communicate(timeout=120)[1] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], complaints
    assert not (tmp_path / "checkpoint.probe").exists()
