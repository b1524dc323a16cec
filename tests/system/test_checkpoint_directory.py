"""Whose a checkpoint directory is: what is made, what is removed, and what is left alone."""

from __future__ import annotations

import fcntl
import itertools
import os
import pathlib
import subprocess
import sys
import threading
from typing import Any

import pytest
from aggregator.schemas.checkpoints import digest
from aggregator.storage import errors, locks

import aggregator
from aggregator.aggregation import checkpoint_status, checkpoints
from tests.helpers import samples, thinning


@pytest.mark.ordering("C1", "W5")
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("which", ["notes", "repository", "file"])
def test_directory_of_somebody_is_refused(sample: samples.Sample, which: str, fresh: bool) -> None:
    directory = sample.repo
    if which != "repository":
        directory = sample.root / "mine"
        directory.mkdir()
        # Even if the names are those of a checkpoint.
        (directory / "ledger").write_text("my accounts")
        (directory / "manifest.json").write_text("{}")
    before = samples.tree(sample.root)
    place = directory / "ledger" if which == "file" else directory
    with pytest.raises(aggregator.RefusedError, match=r"is no checkpoint|can't write the checkpoint"):
        samples.aggregate(sample, checkpoint_dir=str(place), fresh=fresh)
    assert samples.tree(sample.root) == before


@pytest.mark.ordering("C2")
@pytest.mark.parametrize("fresh", [False, True])
def test_only_names_of_a_checkpoint_are_removed(
    sample: samples.Sample, fresh: bool, caplog: pytest.LogCaptureFixture
) -> None:
    directory = sample.repo / "predicted.qg.checkpoint"
    samples.aggregate(sample, dry_run=True)
    foreign = {"shard-000000.digest.bak": b"1", "logs/scanner.log": b"2", "notes.tmp": b"3"}
    for name, content in foreign.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
    (directory / "manifest.json.0123456789ab.tmp").write_bytes(b"of a run that was killed")
    samples.aggregate(sample, fresh=fresh)
    left = samples.tree(directory)
    assert set(left) == {*foreign, "aggregation.lock"}
    assert {name: left[name] for name in foreign} == foreign
    assert "is not removed" in caplog.text
    assert "logs, notes.tmp, shard-000000.digest.bak" in caplog.text
    # It is a checkpoint still.
    samples.aggregate(sample)


def test_empty_directory_becomes_a_checkpoint(sample: samples.Sample) -> None:
    directory = sample.root / "empty"
    directory.mkdir()
    samples.aggregate(sample, checkpoint_dir=str(directory))
    assert not directory.exists()


def test_what_a_late_scanner_has_left_is_in_nobodys_way(sample: samples.Sample) -> None:
    """It came when everything else was removed, so that the directory stayed."""
    directory = sample.repo / "predicted.qg.checkpoint"
    directory.mkdir()
    (directory / "shard-000003.digest.0123456789ab.tmp").write_bytes(b"late")
    samples.aggregate(sample)
    assert not directory.exists()


def test_refused_run_leaves_an_empty_directory_as_it_was(sample: samples.Sample) -> None:
    directory = sample.root / "empty"
    directory.mkdir(mode=0o750)
    inode = directory.stat().st_ino
    held = checkpoints.Checkpoint(str(directory))
    held.undo()
    held.lock.release()
    assert list(directory.iterdir()) == []
    assert (directory.stat().st_ino, directory.stat().st_mode & 0o777) == (inode, 0o750)


@pytest.mark.ordering("C7", "C3")
def test_second_user_changes_nothing(sample: samples.Sample) -> None:
    directory = sample.repo / "predicted.qg.checkpoint"
    samples.aggregate(sample, dry_run=True)
    (sample.root / "out.qg").unlink()
    with checkpoints.Checkpoint(str(directory)):
        before = samples.tree(sample.root)
        for fresh in (False, True):
            with pytest.raises(aggregator.InUseError, match=f"in use by process {os.getpid()} on ") as caught:
                samples.aggregate(sample, fresh=fresh)
            assert caught.value.exit_code == 1
            assert "--checkpoint-dir" in str(caught.value)
        assert samples.tree(sample.root) == before
    samples.aggregate(sample)


def test_lock_names_nobody_when_it_is_free(tmp_path: pathlib.Path) -> None:
    """Whoever has it next may not be able to write a name, and must not be taken for the one before."""
    directory = tmp_path / "checkpoint"
    with checkpoints.Checkpoint(str(directory)) as held:
        assert f"process {os.getpid()} on" in locks.holder(held.layout.lock)
    assert (directory / "aggregation.lock").read_bytes() == b""
    with open(directory / "aggregation.lock") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert locks.holder(held.layout.lock) == "another process"


@pytest.mark.ordering("C6")
def test_status_disturbs_no_start(sample: samples.Sample) -> None:
    """Whoever looks whether a checkpoint is in use has its lock for a moment."""
    directory = sample.repo / "predicted.qg.checkpoint"
    samples.aggregate(sample, dry_run=True)
    with open(directory / "aggregation.lock") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        release = threading.Timer(0.1, fcntl.flock, (stream, fcntl.LOCK_UN))
        release.start()
        samples.aggregate(sample, dry_run=True)
        release.join()
    before = samples.tree(directory)
    assert checkpoint_status.read(str(directory)).process == ""
    assert samples.tree(directory) == before


def test_checkpoint_removed_by_its_last_user_is_made_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one may be done right between our opening of the lock file and our lock."""
    directory = tmp_path / "checkpoint"
    first = checkpoints.Checkpoint(str(directory))
    original, calls = locks.take, []

    def take(*arguments: Any) -> locks.Lock:
        calls.append(arguments)
        if len(calls) == 1:
            first.remove()
            first.lock.release()
        return original(*arguments)

    monkeypatch.setattr(locks, "take", take)
    with checkpoints.Checkpoint(str(directory)) as second:
        assert len(calls) == 2
        assert os.path.samestat(os.fstat(second.lock.fd), os.stat(second.layout.lock))


def test_refused_run_leaves_no_temporary_checkpoint(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(checkpoints.tempfile, "tempdir", str(tmp_path))

    def fail(*_: object) -> None:
        raise errors.InUseError("somebody has it")

    monkeypatch.setattr(locks, "take", fail)
    before = set(tmp_path.iterdir())
    with pytest.raises(errors.InUseError):
        samples.aggregate(sample, checkpoint=False)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.ordering("T1", "C3", "C6", "C7")
def test_others_come_at_each_step(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second aggregation is sent away at each step of the first, and whoever looks sees what is there."""
    directory = sample.repo / "predicted.qg.checkpoint"
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    seen: set[str] = set()

    def reached(name: str) -> None:
        if name in seen or name.startswith("insert"):
            return
        seen.add(name)
        for fresh in (False, True):
            with pytest.raises(aggregator.InUseError):
                samples.aggregate(sample, fresh=fresh)
        if (directory / "manifest.json").exists():
            assert f"process {os.getpid()} on" in checkpoint_status.read(str(directory)).process
        else:
            with pytest.raises(aggregator.RefusedError, match="not a complete one"):
                checkpoint_status.read(str(directory))

    with monkeypatch.context() as patch:
        patch.setattr("aggregator.storage.fault_points.reached", reached)
        done = samples.aggregate(sample)
    assert {"start", "digest", "committed", "ledger", "output", "renamed", "complete"} <= seen
    assert done.n_ingested > 0
    assert not directory.exists()
    assert samples.aggregate(sample).n_ingested == 0


@pytest.mark.ordering("C1", "C2")
@pytest.mark.parametrize("step", range(6))
def test_killed_while_it_removes_its_checkpoint(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whatever is left can be gone on with."""
    left = [step]

    def die(original: Any) -> Any:
        def act(path: Any) -> None:
            if "predicted.qg.checkpoint" in str(path) and not str(path).endswith((".tmp", ".part")):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            original(path)

        return act

    directory = sample.repo / "predicted.qg.checkpoint"
    samples.aggregate(sample, dry_run=True)
    held = checkpoints.Checkpoint(str(directory))
    n_files = len(list(directory.iterdir()))
    left[0] = step if step < 3 else n_files + step - 5
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", die(os.unlink))
        patch.setattr(os, "rmdir", die(os.rmdir))
        with pytest.raises(KeyboardInterrupt):
            held.remove()
    held.lock.release()
    samples.aggregate(sample)
    assert not directory.exists()


STEPS = list(itertools.product(["shard", "report", "outputs", "output", "complete"], [False, True]))


@pytest.mark.ordering("C1", "C3")
@pytest.mark.parametrize(("point", "is_checkpoint"), thinning.thinned(STEPS, STEPS[::3]))
def test_what_took_the_place_of_a_checkpoint_is_left_alone(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, point: str, is_checkpoint: bool
) -> None:
    """Somebody moves it away, and something of somebody else's is there then, be it another run's."""
    directory = sample.repo / "predicted.qg.checkpoint"
    seen: list[dict[str, bytes]] = []

    def reached(name: str) -> None:
        if name == point and not seen:
            away = directory.rename(sample.root / "away")
            directory.mkdir()
            names = [p.name for p in away.iterdir()] if is_checkpoint else ["ledger", "manifest.json"]
            for each in names:
                (directory / each).write_bytes((away / each).read_bytes() if is_checkpoint else b"thesis")
            seen.append(samples.tree(directory))

    monkeypatch.setattr("aggregator.storage.fault_points.reached", reached)
    if point == "complete":
        samples.aggregate(sample)
    else:
        with pytest.raises(errors.AggregatorError, match="was moved or removed while") as caught:
            samples.aggregate(sample)
        assert caught.value.exit_code == 1
        assert not (sample.root / "out.qg").exists()
    assert samples.tree(directory) == seen[0]


def test_link_to_nowhere_as_a_checkpoint(sample: samples.Sample) -> None:
    (sample.root / "link").symlink_to(sample.root / "nowhere")
    with pytest.raises(aggregator.RefusedError, match="can't write the checkpoint"):
        samples.aggregate(sample, checkpoint_dir=str(sample.root / "link"))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")

_GROUP = 2000


def _as_member(sample: samples.Sample, *options: str) -> None:
    """Aggregate as a member of a group, with nothing but its rights."""
    capabilities = "-dac_override,-dac_read_search,-fowner,-chown"
    command = [
        *("setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", f"--regid={_GROUP}"),
        *("--clear-groups", sys.executable, "-m", "aggregator", "aggregate-graph"),
        *(str(sample.repo / "predicted.qg"), str(sample.repo), "-o", str(sample.root / "out.qg")),
        *("--mock-storage-classes", *options),
    ]
    done = subprocess.run(command, umask=0o002, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_root
def test_two_people_of_a_group(sample: samples.Sample) -> None:
    """The second resumes what the first began, with its lock, ledger and digests; both own files."""
    for path in (sample.root, *sample.root.rglob("*")):
        os.chown(path, -1, _GROUP)
        os.chmod(path, 0o2775 if path.is_dir() else 0o664)
    for parent in sample.root.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and os.access(parent, os.W_OK):
            os.chmod(parent, parent.stat().st_mode | 0o005)
    _as_member(sample, "--incomplete")
    directory = sample.repo / "predicted.qg.checkpoint"
    for path in (directory, *directory.iterdir(), sample.repo / "gen3.sqlite3"):
        assert path.stat().st_gid == _GROUP
        os.chown(path, 1001, -1)
    _as_member(sample)
    assert not directory.exists()


def test_a_checkpoint_of_another_version_is_not_used(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it holds means something else now: everything is scanned again."""
    with monkeypatch.context() as earlier:
        earlier.setattr(digest, "FORMAT_VERSION", digest.FORMAT_VERSION - 1)
        samples.aggregate(sample, dry_run=True)
        assert samples.aggregate(sample, dry_run=True).n_reused > 0
    assert samples.aggregate(sample, dry_run=True).n_reused == 0
    assert "by another version" in caplog.text
