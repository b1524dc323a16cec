"""The command `aggregator show` on a graph that was written anew under other names and ids."""

from __future__ import annotations

import pathlib

import pytest

from tests.helpers import graph_files, renewed_graphs
from tests.unit.command_line import test_show


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = graph_files.unpack_sample(tmp_path_factory.mktemp("sample"))
    renewed_graphs.renew(root / "provenance.qg", root / "new.qg")
    return root / "new.qg"


def test_it_tells_where_it_was_before(graph: pathlib.Path) -> None:
    document = test_show.run_json(str(graph))
    assert document["run"] == renewed_graphs.NEW_RUN
    [origin] = document["merged_from"]
    assert origin["source"] == str(graph.with_name("provenance.qg"))
    assert [run["source"] for run in origin["runs"]] == [renewed_graphs.RUN]
    assert f"Merged    from run {renewed_graphs.RUN} in {origin['source']}" in test_show.run(str(graph))


def test_nodes_are_known_by_their_former_ids(graph: pathlib.Path) -> None:
    expected = graph_files.expected()["provenance"]
    old = str(graph.with_name("provenance.qg"))
    former = [*expected["quanta"], *expected["datasets"]]
    init = [test_show.run_json(old, "--dataset", "clean_config")["producer"]]
    for node_id in [*former[::7], *init]:
        now, before = (
            test_show.run_json(str(graph), "--id", node_id),
            test_show.run_json(old, "--id", node_id),
        )
        assert before["id"] == node_id
        if before.get("run") in ("u/sample/run1", None):
            assert now["former_id"] == node_id != now["id"]
            assert test_show.run_json(str(graph), "--id", now["id"]) == now
            assert f"before    {node_id}" in test_show.run(str(graph), "--id", node_id.upper())
        else:
            assert now["id"] == node_id
            assert "former_id" not in now
        for key in ("kind", "data_id", "task", "dataset_type", "status"):
            assert now.get(key) == before.get(key)
    assert "INFO" in test_show.run(str(graph), "--id", former[0], "--logs")


@pytest.mark.parametrize("node_id", ["6f75754f-2b21-4c9d-a9ad-8efe71b937d0", "nonsense"])
def test_ids_that_never_were_are_refused(graph: pathlib.Path, node_id: str) -> None:
    assert node_id in test_show.run(str(graph), "--id", node_id, code=2)
