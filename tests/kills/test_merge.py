"""Merges that are killed leave nothing that is half, and the same command ends as if they had not been."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

pytest.importorskip("lsst.daf.butler")

from tests.helpers import databases, kills, merge_case, thinning, transfer_case
from tests.helpers.oracle import difference

_POINTS = [
    *("checked:1", "taken-DatasetTypes:1", "taken-Collections:1", "taken-DimensionRecords:2", "rewritten:1"),
    *("taken-Graph:1", "file:1", "file:9", "placed:1", "placed:4", "committed:1", "committed:4"),
    *("taken-Associations:1", "taken-Chain:1"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return merge_case.make(tmp_path_factory.mktemp("source"))


def _arguments(source: pathlib.Path, target: pathlib.Path) -> list[str]:
    rules = [text for rule in merge_case.RULES for text in ("--rename", rule)]
    return ["merge", str(source), str(target), "-c", transfer_case.TOP, "--ids", "renew", *rules]


@pytest.fixture(scope="module")
def undisturbed(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    target = tmp_path_factory.mktemp("undisturbed") / "repo"
    kills.finish_here(_arguments(source, target))
    return target


@pytest.mark.parametrize("point", thinning.thinned(_POINTS, ["rewritten:1", "placed:4"]))
def test_the_same_command_goes_on(
    source: pathlib.Path, undisturbed: pathlib.Path, tmp_path: pathlib.Path, point: str
) -> None:
    target, marker = tmp_path / "repo", tmp_path / "marker"
    with kills.start(_arguments(source, target), point, marker) as running:
        os.kill(kills.wait_for(marker, running), signal.SIGKILL)
    if (target / "gen3.sqlite3").exists():
        rows = databases.Sqlite(target / "gen3.sqlite3").query("SELECT path FROM file_datastore_records")
        assert all((target / path).exists() for (path,) in rows), "a file is recorded and not there"
    kills.finish_here(_arguments(source, target))
    difference.assert_same(merge_case.content(undisturbed), merge_case.content(target), point)
    assert not list(target.rglob("*.tmp"))
    assert not list(target.glob(".aggregator-transfer-*"))
