"""Killed at any step and given again, the commands of a round trip leave what they leave undisturbed."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

import aggregator
from aggregator.running import graph_run, run_config
from tests.helpers import kills, plain_runs, sharing


def _seldom(point: str) -> Any:
    return pytest.param(point, marks=pytest.mark.exhaustive)


def undisturbed(directory: pathlib.Path) -> pathlib.Path:
    """Make a round trip; keep what there is at each step."""
    run = plain_runs.make(directory / "repo", 60)
    graph_run.init_run(run.graph, run.root)
    ids = {data.id for data in run.quanta() if data.task == "isr"}
    aggregator.pack(run.root, run.graph, directory / "job.pack", quanta=ids)
    aggregator.pack(run.root, run.graph, directory / "registry.pack", quanta=ids, registry=True)
    aggregator.unpack(directory / "job.pack", directory / "node")
    node = directory / "executed"
    shutil.copytree(directory / "node", node)
    graph_run.execute(node / "graph.qg", node, run_config.RunConfig(in_process=True))
    aggregator.collect(node, directory / "out.pack")
    (directory / "ids").write_text("\n".join(map(str, ids)))
    shutil.copytree(run.root, directory / "delivered")
    graph = directory / "delivered" / "predicted.qg"
    aggregator.deliver(
        [directory / "out.pack"], directory / "delivered", graph_path=graph, other_repository=True
    )
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return sharing.made_once(tmp_path_factory, "killed_round_trip", undisturbed)


def content(directory: pathlib.Path) -> dict[str, bytes]:
    """Return all files of a directory but those under temporary names, and locks."""
    paths = (path for path in directory.rglob("*") if path.is_file() and path.suffix not in (".tmp", ".lock"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def kill(arguments: Sequence[str], point: str, marker: pathlib.Path) -> None:
    """Start a command, and kill it at a point."""
    with kills.start(arguments, point, marker) as running:
        kills.wait_for(marker, running)
        os.killpg(running.pid, signal.SIGKILL)


@pytest.mark.ordering("K1")
@pytest.mark.parametrize("point", ["packed:9", _seldom("packed:1"), "rename.pack:1"])
@pytest.mark.parametrize("name", ["pack", "collect"])
def test_packs_appear_whole_or_not_at_all(
    made: pathlib.Path, tmp_path: pathlib.Path, name: str, point: str
) -> None:
    target = tmp_path / "new.pack"
    arguments = ["collect", str(made / "executed"), "-o", str(target)]
    if name == "pack":
        graph = made / "repo" / "predicted.qg"
        arguments = ["pack", str(made / "repo"), str(graph), "-o", str(target)]
        arguments += ["--quantum-file", str(made / "ids")]
    kill(arguments, point, tmp_path / "marker")
    assert not target.exists()
    kills.finish_here(arguments)
    # Only the time in the manifest differs.
    expected = made / ("job.pack" if name == "pack" else "out.pack")
    assert target.stat().st_size == expected.stat().st_size


@pytest.mark.parametrize("pack_format", ["butler-yaml", _seldom("butler-zip")])
def test_exports_appear_whole_or_not_at_all(
    made: pathlib.Path, tmp_path: pathlib.Path, pack_format: str
) -> None:
    target = tmp_path / "exported"
    arguments = ["pack", str(made / "repo"), str(made / "repo" / "predicted.qg"), "-o", str(target)]
    arguments += ["--quantum-file", str(made / "ids"), "--format", pack_format]
    kill(arguments, "exported:1", tmp_path / "marker")
    assert not target.exists()
    assert [path.name for path in tmp_path.glob(".aggregator-*")]
    kills.finish_here(arguments)
    assert target.exists()
    # What the killed one has left is gone, too.
    assert not list(tmp_path.glob(".aggregator-*"))


@pytest.mark.ordering("K4")
@pytest.mark.parametrize(
    "point", ["rename.json:1", _seldom("rename.qg:1"), _seldom("unpacked:1"), "unpacked:9", "rename.yaml:1"]
)
def test_unpacking(made: pathlib.Path, tmp_path: pathlib.Path, point: str) -> None:
    node = tmp_path / "node"
    arguments = ["unpack", str(made / "job.pack"), str(node)]
    kill(arguments, point, tmp_path / "marker")
    assert not (node / "butler.yaml").exists()
    kills.finish_here(arguments)
    assert content(node) == content(made / "node")


@pytest.mark.parametrize(
    "point", [_seldom("taken-DatasetTypes:1"), "taken-Datasets:1", "registry:1", _seldom("rename.yaml:2")]
)
def test_the_database_of_a_node(made: pathlib.Path, tmp_path: pathlib.Path, point: str) -> None:
    node = tmp_path / "node"
    arguments = ["unpack", str(made / "registry.pack"), str(node)]
    kill(arguments, point, tmp_path / "marker")
    assert not (node / "butler.yaml").exists()
    kills.finish_here(arguments)
    with sqlite3.connect(node / "gen3.sqlite3") as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM dataset").fetchall()
        [(located,)] = connection.execute("SELECT count(*) FROM dataset_location").fetchall()
    connection.close()
    assert count == located > 0
    assert not list(node.glob(".aggregator-*"))


@pytest.mark.parametrize(
    "point", ["write:1", "delivered:1", _seldom("delivered:2"), _seldom("delivered:3"), "write:8"]
)
def test_delivery(made: pathlib.Path, tmp_path: pathlib.Path, point: str) -> None:
    root = tmp_path / "repo"
    shutil.copytree(made / "repo", root)
    arguments = ["deliver", str(made / "out.pack"), str(root), "--graph", str(root / "predicted.qg")]
    arguments.append("--other-repository")
    kill(arguments, point, tmp_path / "marker")
    assert content(root).items() < content(made / "delivered").items()
    kills.finish_here(arguments)
    assert content(root) == content(made / "delivered")
