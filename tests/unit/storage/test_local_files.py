"""What can be where a file should be, and trouble of the machine."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import pickle
import shutil
import socket
from collections.abc import Callable
from typing import Any

import pytest
from aggregator.schemas.graphs import container
from aggregator.storage import (
    errors,
    local_files,
    local_store,
    machine_trouble,
    opening,
    partial_files,
    stores,
)

import aggregator
from tests.helpers import small_runs, thinning

TROUBLE = [
    *("ESTALE", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EINTR", "ETIMEDOUT", "EAGAIN", "ENOBUFS", "ENETDOWN"),
    *("EHOSTDOWN", "ECONNRESET", "EREMOTEIO", "EBUSY", "ENOLINK", "EKEYEXPIRED", "ENOTCONN", "ESHUTDOWN"),
]
PROPERTIES = ["ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EACCES", "EPERM", "ENXIO"]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_trouble, "_PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("clean") / "run")


@pytest.fixture
def run(clean_run: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(clean_run, tmp_path / "run")


def test_every_error_is_of_the_file_or_of_the_machine() -> None:
    for name in TROUBLE:
        assert machine_trouble.is_machine_trouble(OSError(getattr(errno, name), "")), name
    for name in PROPERTIES:
        assert not machine_trouble.is_machine_trouble(OSError(getattr(errno, name), "")), name


def test_an_error_of_the_machine_crosses_processes() -> None:
    error = errors.MachineError("a/b", "Stale file handle")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.exit_code) == (str(error), 1)


def make_socket(path: pathlib.Path) -> None:
    # The address of a socket must be short.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    assert path.is_socket()


def link_parent(path: pathlib.Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.symlink_to("/nowhere/purged")


def file_as_parent(path: pathlib.Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


def link_to_link(path: pathlib.Path) -> None:
    path.symlink_to("other")
    path.with_name("other").symlink_to("gone")


def loop(path: pathlib.Path) -> None:
    path.symlink_to(path.name)


ODDITIES: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "pipe": (os.mkfifo, "is a pipe"),
    "socket": (make_socket, "can't open it .No such device"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "directory": (os.mkdir, "is a directory"),
    "dangling link": (lambda path: path.symlink_to("/nowhere/purged"), "is a link to /nowhere/purged, which"),
    "link to a link": (link_to_link, "is a link to other, which is not there"),
    "dangling parent": (link_parent, "is a link to /nowhere/purged, which"),
    "parent that is a file": (file_as_parent, "is no directory"),
    "loop": (loop, "Too many levels"),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_what_is_no_file_is_neither_read_nor_missing(name: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "parent" / "file.json"
    path.parent.mkdir()
    make, message = ODDITIES[name]
    make(path)
    with pytest.raises(local_files.UnusableError, match=message):
        local_files.read(str(path))


@pytest.mark.parametrize("name", ["dangling link", "dangling parent", "parent that is a file", "loop"])
def test_what_can_not_be_looked_at_is_not_missing(name: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "parent" / "file.json"
    path.parent.mkdir()
    ODDITIES[name][0](path)
    with pytest.raises(local_files.UnusableError):
        local_files.status(str(path))
    with pytest.raises(errors.AggregatorError, match="Mend that"):
        local_files.exists(str(path))


def test_what_is_not_there_is_missing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for path in (tmp_path / "a", tmp_path / "a" / "b" / "c", tmp_path / "link" / "a" / "b"):
        assert not local_files.exists(str(path))
        with pytest.raises(FileNotFoundError):
            local_files.read(str(path))
    assert not local_files.exists("relative/path")


def test_a_directory_that_is_missing_is_looked_for_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "there").write_text("")
    looks: list[str] = []
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path, **options: looks.append(path) or real(path, **options))
    keys = [f"a/b/c/{i}" for i in range(10)]
    store = local_store.LocalStore(str(tmp_path))
    assert list(store.marks(keys)) == [None] * 10
    assert len(looks) == 10 + len(["a/b/c", "a/b", "a"])
    looks.clear()
    first, second, there = store.marks(["link/b/1", "link/b/2", "a/there"])
    # What was seen of one that can't be looked at says nothing of others.
    assert isinstance(first, local_files.UnusableError)
    assert isinstance(second, local_files.UnusableError)
    assert isinstance(there, stores.Mark)
    assert looks[-1:] == [f"{tmp_path}/a/there"]


def failing(monkeypatch: pytest.MonkeyPatch, code: int, part: str, times: int = 10**9) -> None:
    """Let opening and looking at paths fail."""
    left = [times]

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str) and part in path and left[0] > 0:
                left[0] -= 1
                raise OSError(code, os.strerror(code))
            return call(path, *args, **kwargs)

        return wrapped

    for name in ("open", "stat", "lstat"):
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))


@pytest.mark.ordering("D3")
@pytest.mark.parametrize(
    "name",
    thinning.thinned(["ESTALE", "EMFILE", "ENOMEM", "EIO", "ETIMEDOUT", "ENETDOWN"], ["ESTALE", "EMFILE"]),
)
def test_trouble_of_the_machine_is_no_failure(
    name: str, run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, getattr(errno, name), run.files("isr_metadata_*")[0].name)
        with pytest.raises(aggregator.AggregatorError, match="trouble of the machine") as caught:
            run.aggregate(unreadable="failed")
    assert caught.value.exit_code == 1
    assert not run.output.exists()
    done = run.aggregate(unreadable="failed")
    assert sum(count["Failed"] for count in done.counts.values()) == 0


def test_trouble_that_passes_is_nothing(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch, errno.ESTALE, run.files("isr_metadata_*")[0].name, times=2)
        done = run.aggregate()
    assert sum(count["Successful"] for count in done.counts.values()) == 60


@pytest.mark.ordering("D3")
def test_trouble_does_not_cost_a_checkpoint(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.aggregate(dry_run=True)
    for part in ("manifest.json", "edges", "shard-000001.digest"):
        with monkeypatch.context() as patch:
            failing(patch, errno.EMFILE, f"checkpoint/{part}")
            with pytest.raises(aggregator.AggregatorError, match="trouble of the machine"):
                run.aggregate()
    assert run.aggregate().n_reused == 60


def test_trouble_with_the_graph_is_worth_another_attempt(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code, exit_code in ((errno.ESTALE, 1), (errno.ELOOP, 2)):
        with monkeypatch.context() as patch:
            failing(patch, code, "predicted.qg")
            with pytest.raises(aggregator.AggregatorError) as caught:
                run.aggregate()
        assert caught.value.exit_code == exit_code


@pytest.mark.ordering("D2")
@pytest.mark.parametrize(
    "name",
    thinning.thinned(["pipe", "dangling link", "dangling parent", "device"], ["pipe", "dangling parent"]),
)
def test_what_is_no_file_is_held(name: str, run: small_runs.SmallRun) -> None:
    path = run.files("isr_metadata_*")[0]
    saved = path.parent.with_name("saved")
    shutil.copytree(path.parent, saved)
    path.unlink()
    ODDITIES[name][0](path)
    with pytest.raises(aggregator.AggregatorError, match="files that can't be read"):
        run.aggregate()
    assert not run.output.exists()
    if path.parent.is_symlink():
        path.parent.unlink()
    else:
        shutil.rmtree(path.parent)
    saved.rename(path.parent)
    assert sum(count["Successful"] for count in run.aggregate().counts.values()) == 60


@pytest.mark.ordering("D2")
def test_an_output_behind_a_dangling_link_is_held(run: small_runs.SmallRun) -> None:
    # Nobody lists the outputs of a quantum without log and metadata, so they are looked for.
    for path in (run.files("isr_metadata_*")[0], run.files("isr_log_*")[0]):
        path.unlink()
    produced = sorted(
        p for p in run.run_directory.iterdir() if not p.name.endswith(("_log", "_metadata", "_config"))
    )
    for directory in produced:
        shutil.rmtree(directory) if directory.is_dir() else directory.unlink()
        directory.symlink_to("/nowhere/purged")
    with pytest.raises(aggregator.AggregatorError, match="which is not there"):
        run.aggregate()


TIMES = [2**63 // 10**9 + 5, 13569465600, -1, -(2**31), 2**33]


@pytest.mark.parametrize("seconds", thinning.thinned(TIMES, [min(TIMES), max(TIMES)]))
def test_any_modification_time_is_accepted(seconds: int, run: small_runs.SmallRun) -> None:
    metadata, log = run.files("isr_metadata_*")[0], run.files("isr_log_*")[0]
    metadata.unlink()
    os.utime(log, (seconds, seconds))
    assert run.aggregate(keep_checkpoint=True).counts["isr"]["Failed"] == 1
    assert run.aggregate(keep_checkpoint=True).n_reused == 60
    os.utime(log, (seconds + 1, seconds + 1))
    assert run.aggregate().n_reused == 59


def _fail(
    monkeypatch: pytest.MonkeyPatch, function: str, path: pathlib.Path, code: int
) -> pytest.MonkeyPatch:
    """Let a function of the system fail for a path."""
    original = getattr(os, function)

    def call(given: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(given, int) and os.fspath(given) == str(path):
            raise OSError(code, os.strerror(code), given)
        return original(given, *args, **options)

    monkeypatch.setattr(os, function, call)
    return monkeypatch


@pytest.mark.parametrize(
    ("function", "name", "code"),
    [
        ("stat", "", errno.EIO),
        ("stat", "gen3.sqlite3", errno.ESTALE),
        ("lstat", "out.qg", errno.EIO),
        ("lstat", "aggregation.lock", errno.ESTALE),
        ("mkdir", "predicted.qg.checkpoint", errno.ENOSPC),
        ("open", "predicted.qg.checkpoint/aggregation.lock", errno.EMFILE),
    ],
)
def test_trouble_before_the_start_is_no_refusal(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch, function: str, name: str, code: int
) -> None:
    """What is only for the moment is worth another attempt, and no directory is left behind."""
    before = sorted(run.root.rglob("*"))
    config = aggregator.AggregatorConfig(output_path=str(run.root / "out.qg"))
    call = lambda: aggregator.aggregate_graph(str(run.predicted), str(run.root), config)  # noqa: E731
    with monkeypatch.context() as patch:
        _fail(patch, function, run.root / name, code)
        with pytest.raises(aggregator.AggregatorError, match=os.strerror(code)) as caught:
            call()
    assert caught.value.exit_code == 1
    if name != "gen3.sqlite3":
        # A checkpoint stays once it has something in it.
        assert sorted(run.root.rglob("*")) == before
    assert call().graph_path == str(run.root / "out.qg")


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("which", ["graph", "output"])
def test_a_directory_that_cannot_be_reached_is_no_refusal(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, which: str, code: int
) -> None:
    """The system only says that nothing can be written there, for whatever reason."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    directory = run.root if which == "graph" else outputs
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, *_: os.fspath(path) != str(directory))
        _fail(patch, "open", directory, code)
        if code == errno.EACCES:
            assert not local_files.is_writeable(str(directory))
            return
        with pytest.raises(errors.MachineError, match=os.strerror(code)) as caught:
            run.aggregate(output_path=str(outputs / "out.qg"))
    assert caught.value.exit_code == 1
    assert not list(outputs.iterdir())
    assert not run.predicted.with_name("predicted.qg.checkpoint").exists()


def test_graph_that_a_library_cannot_read(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls that damage."""

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(errors.MachineError, match="Input/output error"):
        container.Container(str(run.predicted))


def test_output_that_cannot_be_made_for_the_moment(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(*paths: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(partial_files, "create", create)
    config = aggregator.AggregatorConfig(output_path=str(run.root / "out.qg"))
    with pytest.raises(aggregator.AggregatorError, match="No space left") as caught:
        aggregator.aggregate_graph(str(run.predicted), str(run.root), config)
    assert caught.value.exit_code == 1


def test_the_root_of_a_datastore_is_made_in_its_repository_alone(tmp_path: pathlib.Path) -> None:
    """A repository that is gone may come back, and nothing must be in its place then."""
    repository = tmp_path / "repository"
    repository.mkdir()
    store = opening.open_store(f"{repository}/a/b", str(repository))
    store.write("c", b"content", overwrite=False)
    assert (repository / "a/b/c").read_bytes() == b"content"
    shutil.rmtree(repository)
    for root in (f"{repository}/a/b", str(repository), f"{tmp_path}/repository-2"):
        with pytest.raises(FileNotFoundError):
            opening.open_store(root, str(repository)).write("c", b"content", overwrite=False)
    assert list(tmp_path.iterdir()) == []
