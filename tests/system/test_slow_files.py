"""Many files under way at a time: the same digests, and the same errors, as with one after the other."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from aggregator.storage import machine_trouble
from aggregator.workers.roles.scanning import execution_files, quantum_reader

import aggregator
from tests.helpers import small_runs
from tests.helpers.oracle import damage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    """Return a run with everything that can become of a quantum and its files."""
    run = small_runs.make(tmp_path_factory.mktemp("slow") / "run", 400, failed=0.1, aborted=0.05)
    logs, metadata = run.files("*_log_*.json"), run.files("*_metadata_*.json")
    for number, path in enumerate(logs[::7]):
        path.unlink() if number % 2 else path.write_bytes(path.read_bytes() + b" " * 2_000_000)
    for number, path in enumerate(metadata[::11]):
        path.unlink() if number % 2 else path.write_bytes(b"{")
    logs[1].unlink(missing_ok=True)
    logs[1].mkdir()
    # Outputs of failed quanta, which have to be looked for.
    for number, path in enumerate(run.files("*.pickle")[::9]):
        path.unlink()
        if number % 2:
            path.symlink_to("nowhere")
    return run


@pytest.fixture
def run(made: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(made, tmp_path / "run")


def digests(run: small_runs.SmallRun, name: str, **options: Any) -> dict[str, bytes]:
    """Scan a run; return its digests, and whether that ended well."""
    directory = run.root.parent / name
    config = {"output_path": None, "dry_run": True, "checkpoint_dir": str(directory)}
    with pytest.raises(aggregator.AggregatorError, match="can't be read"):
        run.aggregate(**config, **options)
    files = {path.name: path.read_bytes() for path in directory.glob("*.digest")}
    assert len(files) > 5
    return files


def slow_down(
    monkeypatch: pytest.MonkeyPatch, run: small_runs.SmallRun, wait: Callable[[str], object]
) -> list[int]:
    """Have something done before a file of the run is opened; return numbers of threads at each of them."""
    numbers: list[int] = []
    below, real = str(run.run_directory), os.open

    def slow_open(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).startswith(below):
            numbers.append(threading.active_count())
            wait(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", slow_open)
    return numbers


def test_digests_are_the_same(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digests(run, "one", n_requests=1)
    assert digests(run, "many", n_requests=32) == expected
    assert digests(run, "processes", n_requests=32, n_processes=2) == expected
    # Hardly anything fits, or may wait.
    monkeypatch.setattr(execution_files, "_READ_AHEAD", 5000)
    monkeypatch.setattr(quantum_reader, "_LARGE", 500)
    assert digests(run, "little", n_requests=32) == expected


def test_slow_files_are_noticed(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digests(run, "one", n_requests=1)
    numbers = slow_down(monkeypatch, run, lambda _: time.sleep(0.002))
    assert digests(run, "slow") == expected
    assert max(numbers) >= 32


def test_quick_files_need_no_thread(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    numbers = slow_down(monkeypatch, run, lambda _: None)
    digests(run, "quick")
    assert set(numbers) == {before}


def test_changes_are_found_again(run: small_runs.SmallRun) -> None:
    digests(run, "one", n_requests=1)
    shutil.copytree(run.root.parent / "one", run.root.parent / "many")
    first = digests(run, "many", n_requests=32)
    for path in run.files("*.pickle")[1::9]:
        path.unlink(missing_ok=True)
    for path in run.files("*_metadata_*.json")[::13]:
        path.write_bytes(path.read_bytes() + b" ")
    expected = digests(run, "one", n_requests=1)
    assert digests(run, "many", n_requests=32) == expected
    assert expected != first


@pytest.mark.ordering("D3")
def test_trouble_in_a_thread_ends_the_run(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = str(run.files("*_metadata_*.json")[200])

    def fail(path: str) -> None:
        if path == victim:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    ends = []
    for n_requests in (1, 32):
        name = f"trouble{n_requests}"
        directory = run.root.parent / name
        with monkeypatch.context() as patched:
            patched.setattr(machine_trouble, "_PAUSES", ())
            slow_down(patched, run, fail)
            with pytest.raises(aggregator.FatalWorkerError, match=r"_metadata_.*Input/output error"):
                run.aggregate(dry_run=True, checkpoint_dir=str(directory), n_requests=n_requests)
        before = {path.name: path.read_bytes() for path in directory.glob("*.digest")}
        ends.append((before, digests(run, name, n_requests=n_requests)))
    assert ends[0] == ends[1]
    assert 0 < len(ends[0][0]) < len(ends[0][1])


@pytest.mark.parametrize("n_requests", [1, 32])
def test_nothing_there_is_refused(run: small_runs.SmallRun, n_requests: int) -> None:
    run.run_directory.rename(run.root / "elsewhere")
    with pytest.raises(aggregator.AggregatorError, match="not one file of run"):
        run.aggregate(n_requests=n_requests)


def test_large_files_do_not_spoil_the_dictionary(run: small_runs.SmallRun) -> None:
    for path in run.files("*_log_*.json"):
        if path.is_file():
            damage.as_stream(path, {"exception": None, "metadata": None})
    options = {"zstd_dict_n_inputs": 200}
    assert digests(run, "one", n_requests=1, **options) == digests(run, "many", n_requests=32, **options)


@pytest.mark.parametrize("number", [0, 513, 1.5])
def test_other_numbers_are_refused(run: small_runs.SmallRun, number: Any) -> None:
    with pytest.raises(aggregator.RefusedError, match="n_requests"):
        run.aggregate(n_requests=number)
