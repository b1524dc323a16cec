"""Parts of graphs are graphs, for the reference, too, and tell the same of what is in them."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler")

import numpy as np
from aggregator.schemas.graphs import addresses, provenance_graph, slicing

from tests.helpers import samples
from tests.helpers.oracle import compare, container, difference


def _cut(source: pathlib.Path, target: pathlib.Path, quanta: list[str]) -> None:
    ids = np.sort(addresses.parse_ids(quanta))
    with provenance_graph.ProvenanceGraph(str(source)) as graph, target.open("xb") as stream:
        slicing.write(graph, ids, stream)


def _chosen(models: dict[str, Any], tasks: tuple[str, ...]) -> list[str]:
    return sorted(node for node, each in models["quanta"].items() if each["task"] in tasks)


@pytest.mark.parametrize("tasks", [("measure",), ("clean", "stack"), (), None])
def test_a_part_tells_what_the_whole_tells(
    sample: samples.Sample, tmp_path: pathlib.Path, tasks: tuple[str, ...] | None
) -> None:
    source, target = sample.root / "provenance_dict.qg", tmp_path / "part.qg"
    whole = compare.provenance_models(source)
    quanta = sorted(whole["quanta"]) if tasks is None else _chosen(whole, tasks)
    _cut(source, target, [*quanta, str(uuid.uuid4())])
    part = compare.provenance_models(target)
    assert sorted(part["quanta"]) == quanta
    assert part["init_quanta"] == whole["init_quanta"]
    inside = {*quanta, *(node for node, _ in whole["init_quanta"].values())}
    edges = {pair: each for pair, each in whole["edges"].items() if inside & set(pair)}
    datasets = {node for pair in edges for node in pair} - inside
    assert set(part["datasets"]) == datasets
    difference.assert_same(edges, part["edges"], "Edges")
    for name in ("quanta", "datasets"):
        there = {node: each for node, each in whole[name].items() if node in part[name]}
        difference.assert_same(there, part[name], name)
    logs = {key: log for key, log in whole["logs"].items() if key[:36] in quanta}
    difference.assert_same(logs, part["logs"], "Logs")
    blocks = compare.metadata_blocks(container.Container(source))
    there = {node: each for node, each in blocks.items() if node in quanta}
    assert repr(there) == repr(compare.metadata_blocks(container.Container(target)))
    counts = part["header"]["n_task_quanta"]
    assert sum(counts.values()) == part["header"]["n_quanta"] == len(quanta)
    assert counts.keys() == whole["header"]["n_task_quanta"].keys()
    with provenance_graph.ProvenanceGraph(str(source)) as graph:
        datasets = [whole["quanta"][node][f"{kind}_id"] for node in quanta for kind in ("log", "metadata")]
        chosen = slicing.quanta_of(graph, np.sort(addresses.parse_ids(datasets)))
        attempted = {node for node in quanta if whole["quanta"][node]["attempts"]}
        assert {str(uuid.UUID(digits)) for digits in addresses.hex_digits(chosen)} == attempted
        assert slicing.part(graph, chosen).n_all_quanta == len(whole["quanta"])
