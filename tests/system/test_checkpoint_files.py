"""What lies in a checkpoint under the name of one of its files, and is none, or is not its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aggregator
from aggregator.aggregation import checkpoint_status
from tests.helpers import samples, thinning

NAMES = [
    *("aggregation.lock", "aggregation.lock.000007.lease", "dictionary", "edges", "last-run.json", "ledger"),
    *("manifest.json", "manifest.json.old", "partial.jsonl", "records", "unreadable.jsonl"),
    *("shard-000001.digest", "shard-000001.datasets", "inputs-00000.part", "edges.0123456789ab.tmp"),
]


def make_pipe(path: pathlib.Path) -> None:
    os.mkfifo(path)


def make_directory(path: pathlib.Path) -> None:
    path.mkdir()
    (path / "mine").write_text("thesis")


def make_link(path: pathlib.Path) -> None:
    """Link to a file of somebody."""
    mine = path.parent.parent / "accounts"
    mine.write_bytes(b"mine\n")
    path.symlink_to(mine)


def make_socket(path: pathlib.Path) -> None:
    # The address of a socket must be short.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


KINDS: dict[str, Callable[[pathlib.Path], None]] = {
    "a pipe": make_pipe,
    "a directory": make_directory,
    "a link": make_link,
    "a socket": make_socket,
}


@pytest.fixture(autouse=True)
def _never_waiting() -> Iterator[None]:
    """Fail what waits for the other end of a pipe."""

    def fail(*_: Any) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


CASES = list(itertools.product(NAMES, KINDS))
CHOSEN = [(name, kind) for name, kind in CASES if kind == "a pipe" or name == "ledger"]


@pytest.mark.parametrize(("name", "kind"), thinning.thinned(CASES, CHOSEN))
def test_what_is_no_file_is_named_and_left_alone(sample: samples.Sample, name: str, kind: str) -> None:
    directory = sample.repo / "predicted.qg.checkpoint"
    samples.aggregate(sample, keep_checkpoint=True)
    path = directory / name
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    before = samples.tree(sample.root), sorted(directory.rglob("*"))
    for action in (
        lambda: samples.aggregate(sample),
        lambda: samples.aggregate(sample, fresh=True),
        lambda: checkpoint_status.find(str(directory)),
        lambda: checkpoint_status.find(str(sample.repo / "predicted.qg")),
        lambda: checkpoint_status.read(str(directory)),
    ):
        with pytest.raises(aggregator.RefusedError, match=f"{name}: is {kind}, where") as caught:
            action()
        assert caught.value.exit_code == 2
        assert (samples.tree(sample.root), sorted(directory.rglob("*"))) == before
    shutil.rmtree(path) if kind == "a directory" else path.unlink()
    # Without a lock it is no checkpoint, as anybody may have such files.
    if name == "aggregation.lock":
        path.touch()
    done = samples.aggregate(sample)
    assert done.n_ingested == 0
    assert not directory.exists()
