"""Graphs with members above 4 GiB, made with a hole in the file instead of so many logs."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import msgspec
import pytest
from aggregator.schemas.graphs import provenance_graph
from aggregator.workers.roles.writing import writer

import aggregator
from tests.helpers import samples

HOLE = (4 << 30) + (1 << 20)


def aggregate(sample: samples.Sample, name: str) -> pathlib.Path:
    output = sample.root / name
    # A dry run, so that the second one finds everything as the first one did.
    options = aggregator.AggregatorConfig(output_path=str(output), mock_storage_classes=True, dry_run=True)
    aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)
    return output


@pytest.fixture
def large(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return a graph whose first quantum seems to have a log of over 4 GiB; the other logs come after it."""
    copy = writer.Writer._copy

    def copy_after_a_hole(self: Any, opened: Any, name: str, out: Any) -> None:
        if name == "logs" and opened.shard == 1:
            out._fileobj.seek(HOLE, 1)
            out._file_size += HOLE
            out._compress_size += HOLE
        copy(self, opened, name, out)
        if name == "logs" and opened.shard == 1:
            # Sizes, until all are there.
            self._quanta._offsets[name][1] += HOLE

    monkeypatch.setattr(writer.Writer, "_copy", copy_after_a_hole)
    return aggregate(sample, "large.qg")


def test_members_above_4_gib(
    sample: samples.Sample, large: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    plain = aggregate(sample, "plain.qg")
    assert large.stat().st_size > plain.stat().st_size + HOLE
    assert large.stat().st_blocks * 512 < HOLE // 100
    with (
        provenance_graph.ProvenanceGraph(str(plain)) as expected,
        provenance_graph.ProvenanceGraph(str(large)) as found,
    ):
        quanta = list(expected.quanta())
        assert [q.quantum_id for q in found.quanta()] == [q.quantum_id for q in quanta]
        assert msgspec.json.encode(list(found.datasets())) == msgspec.json.encode(list(expected.datasets()))
        for quantum in quanta[1:]:
            assert found.logs(quantum.quantum_id) == expected.logs(quantum.quantum_id)
            assert found.metadata(quantum.quantum_id) == expected.metadata(quantum.quantum_id)


def test_the_reference_reads_members_above_4_gib(sample: samples.Sample, large: pathlib.Path) -> None:
    reference = pytest.importorskip("lsst.pipe.base.quantum_graph")
    with provenance_graph.ProvenanceGraph(str(large)) as graph:
        # Not the first one, whose log seems to be the hole.
        logs = {quantum.quantum_id: graph.logs(quantum.quantum_id) for quantum in list(graph.quanta())[1:]}
    # Nor the last one: at the end of a member its checksum is compared, and that of the hole is not known.
    quantum, expected = next((key, attempts) for key, attempts in logs.items() if attempts)
    with reference.ProvenanceQuantumGraphReader.open(str(large)) as reader:
        [found] = reader.fetch_logs([uuid.UUID(quantum)]).values()
    assert expected[-1] is not None
    assert [record.message for record in found[-1]] == [record.message for record in expected[-1]]
