"""Killed at any step, `subset` has left no dataset without its file, and the same command completes it."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
from typing import Any

import pytest

from tests.helpers import databases, kills, samples, thinning, transfer_case
from tests.helpers.oracle import difference

POINTS = [
    *("checked:1", "taken-DatasetTypes:1", "taken-Collections:1", "taken-DimensionRecords:2", "file:1"),
    *("file:30", "copied:2", "placed:1", "insert:1", "committed:1", "committed:4", "associated:1"),
    "taken-Chain:1",
]
"""Points of a transfer."""

MOVES = ["committed:1", "departed:1", "removed:1", "removed:4"]
"""Points at which files have two places, or leave one."""


@pytest.fixture
def source(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a source that may be changed."""
    return pathlib.Path(shutil.copytree(transfer_source, tmp_path / "source"))


def _recorded(root: pathlib.Path) -> list[str]:
    """Return the paths of all files that a repository has recorded; none if there is no repository."""
    if not (root / "butler.yaml").exists():
        return []
    database = databases.Sqlite(root / "gen3.sqlite3")
    located = "SELECT path FROM file_datastore_records JOIN dataset_location USING (dataset_id)"
    return [path for (path,) in database.query(located)]


def _kill(arguments: list[str], point: str, marker: pathlib.Path) -> None:
    with kills.start(arguments, point, marker) as running:
        kills.wait_for(marker, running)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(timeout=120)


@pytest.mark.ordering("N2", "N3")
@pytest.mark.parametrize(
    "point", thinning.thinned(POINTS, ["file:30", "insert:1", "committed:4", "taken-Chain:1"])
)
def test_a_killed_transfer_goes_on(source: pathlib.Path, tmp_path: pathlib.Path, point: str) -> None:
    target, before = tmp_path / "target", samples.tree(source)
    arguments = ["subset", str(source), str(target), "-c", transfer_case.TOP, "--registry", "full"]
    arguments += ["--files", "copy" if point.startswith("copied") else "auto"]
    _kill(arguments, point, tmp_path / "marker")
    for path in _recorded(target):
        assert (target / path).read_bytes() == (source / path).read_bytes()
    assert samples.tree(source) == before
    kills.finish_here(arguments)
    _check_complete(transfer_case.content(source), target)


@pytest.mark.ordering("N5")
@pytest.mark.parametrize("point", thinning.thinned(MOVES, ["departed:1", "removed:1"]))
def test_what_is_moved_is_always_somewhere(source: pathlib.Path, tmp_path: pathlib.Path, point: str) -> None:
    target, content, files = tmp_path / "target", transfer_case.content(source), samples.tree(source)
    arguments = ["subset", str(source), str(target), "-c", transfer_case.TOP, "--registry", "full"]
    arguments += ["--files", "move"]
    _kill(arguments, point, tmp_path / "marker")
    for root in (source, target):
        for path in _recorded(root):
            assert (root / path).read_bytes() == files[path]
    kills.finish_here(arguments)
    _check_complete(content, target)
    assert _recorded(source) == []


def _check_complete(content: Any, target: pathlib.Path) -> None:
    difference.assert_same(content, transfer_case.content(target), "Repositories")
    for path in _recorded(target):
        assert (target / path).exists()
    assert not [
        path for path in target.rglob("*.tmp") if path.stat().st_nlink == 1 and path.stat().st_size == 0
    ]
