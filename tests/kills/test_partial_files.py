"""Graphs that are being written: whatever else happens beside them, and when their run is killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import pytest
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import errors, fault_points, partial_files

from tests.helpers import kills, samples, thinning


def content(path: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Return logs and metadata of all quanta, so that every block is read."""
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        ids = [quantum.quantum_id for quantum in graph.quanta()]
        return {i: (repr(graph.logs(i)), repr(graph.metadata(i))) for i in ids}


STEPS = list(itertools.product(["logs", "copy", "assembly", "output", "renamed"], [False, True]))


@pytest.mark.ordering("G4", "W1", "W2")
@pytest.mark.parametrize(("point", "is_killed"), thinning.thinned(STEPS, STEPS[::3]))
def test_two_runs_with_one_output(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, point: str, is_killed: bool
) -> None:
    """Another run with the same output comes at each step of the first, and is whole, or stopped half-way."""
    output = sample.root / "out.qg"
    samples.aggregate(sample, dry_run=True, keep_checkpoint=True)
    expected = content(output)
    output.unlink()
    seen: list[str] = []

    def reached(name: str) -> None:
        if name == point and not seen:
            seen.append(name)
            before = output.exists()
            with pytest.raises(errors.FatalWorkerError) if is_killed else contextlib.nullcontext():
                samples.aggregate(sample, checkpoint_dir=str(sample.root / "other.checkpoint"))
            assert output.exists() == (before or not is_killed)
            assert not output.exists() or content(output) == expected
            seen.append("done")
        elif name == "assembly" and len(seen) == 1 and is_killed:
            raise errors.FatalWorkerError("killed")

    monkeypatch.setattr(fault_points, "reached", reached)
    samples.aggregate(sample)
    assert seen == [point, "done"]
    assert content(output) == expected
    assert [p.name for p in sample.root.iterdir() if p.name.endswith(".partial")] == []


@pytest.mark.ordering("G5")
@pytest.mark.parametrize("options", [{}, {"fresh": True}, {"output_path": None}, {"incomplete": True}])
def test_next_run_removes_what_a_killed_one_left(sample: samples.Sample, options: dict[str, Any]) -> None:
    marker = sample.root / "marker"
    environment = dict(os.environ) | {fault_points.VARIABLE: f"copy:1:{marker}"}
    command = [
        *(sys.executable, "-m", "aggregator", "aggregate-graph", "--mock-storage-classes"),
        *(str(sample.repo / "predicted.qg"), str(sample.repo), "-o", str(sample.root / "out.qg")),
    ]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        kills.wait_for(marker, running)
        os.kill(running.pid, signal.SIGKILL)
    [left] = sample.root.glob("out.qg.*.partial")
    foreign = sample.root / "out.qg.0123456789ab.partial"
    foreign.write_bytes(b"of another run")
    samples.aggregate(sample, **options)
    assert not left.exists()
    assert foreign.read_bytes() == b"of another run"


@pytest.mark.ordering("G5", "C2")
@pytest.mark.parametrize("step", ["noted", "made", "written"])
def test_only_the_file_that_was_made_is_removed(
    tmp_path: pathlib.Path, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = tmp_path / "partial.jsonl"
    with partial_files.create(str(record), str(tmp_path / "out.qg")) as stream:
        stream.write(b"half a graph" if step == "written" else b"")
    path = pathlib.Path(stream.name)
    if step != "written":
        record.write_bytes(record.read_bytes().splitlines(keepends=True)[0])
    if step == "noted":
        path.unlink()
    kept = record.read_bytes()
    # As long as it is open, no other file gets its inode.
    opened = path.open("rb") if step != "noted" else None
    partial_files.remove(str(record))
    assert os.listdir(tmp_path) == []
    # Once more, and in the meantime somebody has put a file of theirs in its place.
    record.write_bytes(kept)
    path.write_bytes(b"somebody's")
    partial_files.remove(str(record))
    assert path.read_bytes() == b"somebody's"
    assert f"{path}: is not removed" in caplog.text
    if opened is not None:
        opened.close()


def test_file_that_cannot_be_noted_is_not_left(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_files.os, "fsync", _full)
    with pytest.raises(errors.AggregatorError, match="No space left"):
        partial_files.create(str(tmp_path / "record"), str(tmp_path / "out.qg"))
    assert os.listdir(tmp_path) == ["record"]


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["x" * 252 + ".qg", "x" * 250 + ".qg"])
def test_output_whose_name_is_as_long_as_it_can_be(sample: samples.Sample, name: str) -> None:
    name = name[-255:]
    samples.aggregate(sample, output_path=str(sample.root / name))
    assert content(sample.root / name)
