"""The dataset section of a graph: outputs by shard, overall inputs by ranges of ids."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from aggregator.schemas.checkpoints import dataset_part
from aggregator.schemas.graphs import addresses, provenance_graph
from aggregator.workers.roles.scanning import shard_builder
from aggregator.workers.roles.writing import input_datasets

import aggregator
from tests.helpers import kills
from tests.helpers.oracle import runs


@pytest.fixture
def case(oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> kills.Case:
    return kills.Case(runs.copy_run(oracle_run, tmp_path / "repo"), tmp_path / "out.qg")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of names of the parts that are written."""
    names: list[str] = []
    original = dataset_part.write

    def recording(path: str, *arguments: Any, **options: Any) -> None:
        names.append(pathlib.Path(path).name)
        original(path, *arguments, **options)

    monkeypatch.setattr(dataset_part, "write", recording)
    return names


def aggregate(case: kills.Case, **config: Any) -> dict[str, bytes]:
    """Aggregate in this process; return the documents of all datasets."""
    options = aggregator.AggregatorConfig(
        output_path=str(case.output), mock_storage_classes=True, keep_checkpoint=True, **config
    )
    aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), options)
    with provenance_graph.ProvenanceGraph(str(case.output)) as graph:
        return {dataset.dataset_id: msgspec.json.encode(dataset) for dataset in graph.datasets()}


def test_parts_are_used_again(case: kills.Case, written: list[str]) -> None:
    first = aggregate(case)
    shards = [name for name in written if name.startswith("shard-")]
    assert len(shards) > 3
    assert len(shards) == len(set(shards))
    written.clear()
    assert aggregate(case) == first
    assert not [name for name in written if name.startswith("shard-")]


@pytest.mark.parametrize("damage", ["truncated", "changed", "swapped", "empty"])
def test_damaged_part_is_built_again(case: kills.Case, written: list[str], damage: str) -> None:
    first = aggregate(case)
    checkpoint = pathlib.Path(f"{case.run.predicted_path}.checkpoint")
    path = checkpoint / "shard-000002.datasets"
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[:-5],
            "changed": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
            "swapped": (checkpoint / "shard-000001.datasets").read_bytes(),
            "empty": b"",
        }[damage]
    )
    written.clear()
    assert aggregate(case) == first
    assert [name for name in written if name.startswith("shard-")] == [path.name]


def test_inputs_that_look_like_outputs_are_looked_up(
    case: kills.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests without what they should tell of overall inputs: the predicted graph is asked."""
    first = aggregate(case)
    original = shard_builder.ShardBuilder.add_input

    def forgetful(self: Any, dataset_id: str, *rest: Any) -> None:
        if int(dataset_id.replace("-", ""), 16) % 2:
            original(self, dataset_id, *rest)

    monkeypatch.setattr(shard_builder.ShardBuilder, "add_input", forgetful)
    asked = []
    look_up = input_datasets.InputDatasets._look_up
    monkeypatch.setattr(
        input_datasets.InputDatasets, "_look_up", lambda *args: asked.append(args) or look_up(*args)
    )
    assert aggregate(case, fresh=True) == first
    assert asked


def test_outputs_that_look_like_inputs_are_told_apart(
    case: kills.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests that take everything that is read for an overall input as well."""
    first = aggregate(case)
    original = shard_builder.ShardBuilder.encode

    def confused(self: Any, *arguments: Any) -> Any:
        for dataset_id in self._ids["edge"]:
            self.add_input(dataset_id, 0, b"[]", "nonsense")
        return original(self, *arguments)

    monkeypatch.setattr(shard_builder.ShardBuilder, "encode", confused)
    assert aggregate(case, fresh=True) == first


def test_texts_of_ids() -> None:
    some = [uuid.UUID(int=0), uuid.UUID(int=(1 << 128) - 1), uuid.UUID(int=0x0123456789ABCDEF << 64)]
    ids = np.frombuffer(b"".join(u.bytes for u in some), dtype=addresses.ID_TYPE)
    assert addresses.text_list(ids) == [str(u).encode() for u in some]
    assert addresses.text_list(ids[:0]) == []


def test_edges_from_inputs() -> None:
    edges = np.array([b"a", b"b", b"b", b"b", b"d", b"f"], dtype="S16")
    inputs = np.array([b"b", b"c", b"d", b"f"], dtype="S16")
    assert input_datasets.edges_from(edges, inputs).tolist() == [1, 2, 3, 4, 5]
    assert input_datasets.edges_from(edges, inputs[:0]).tolist() == []
    assert input_datasets.edges_from(edges[:0], inputs).tolist() == []
