"""What is durable before what: looked at from outside at each step, and stopped there."""

from __future__ import annotations

import os
import pathlib

import pytest
from aggregator.schemas.checkpoints import checkpoint, ledger, manifest
from aggregator.storage import fault_points

import aggregator
from aggregator.aggregation import checkpoint_content, checkpoints
from tests.helpers import samples


@pytest.fixture
def layout(sample: samples.Sample) -> checkpoint.Layout:
    return checkpoint.Layout(str(sample.repo / "predicted.qg.checkpoint"))


def _stop(monkeypatch: pytest.MonkeyPatch, sample: samples.Sample, point: str) -> None:
    """Aggregate, but end at a point as a kill would, with nothing tidied up by the checkpoint."""

    def reached(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", reached)
        with pytest.raises(KeyboardInterrupt):
            samples.aggregate(sample)


@pytest.mark.ordering("M1")
def test_manifest_comes_last(
    sample: samples.Sample, layout: checkpoint.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop(monkeypatch, sample, "manifest")
    assert not os.path.exists(layout.manifest)
    kept = {path: pathlib.Path(path).read_bytes() for path in (layout.records, layout.edges)}
    dictionary = layout.read_dictionary()
    samples.aggregate(sample, dry_run=True)
    found = manifest.read(layout.manifest)
    assert found.edges == checkpoint_content.checksum(kept[layout.edges])
    assert found.records == checkpoint_content.checksum(kept[layout.records])
    assert found.identity.dictionary == checkpoint_content.checksum(dictionary)


@pytest.mark.ordering("L1")
def test_ledger_has_what_is_committed(
    sample: samples.Sample, layout: checkpoint.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def reached(name: str) -> None:
        if name in ("committed", "report"):
            # One batch, so nothing is told of it before it is committed and reported.
            if "told" not in seen:
                assert ledger.read_all(layout.ledger) == []
            seen.append(name)
            if seen[-2:] == ["committed", "report"]:
                seen.append("told")

    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", reached)
        done = samples.aggregate(sample, keep_checkpoint=True)
    assert "told" in seen
    assert sum(line.n_datasets for line in ledger.read_all(layout.ledger)) == done.n_ingested


@pytest.mark.ordering("L3")
def test_dry_run_leaves_no_line(sample: samples.Sample, layout: checkpoint.Layout) -> None:
    samples.aggregate(sample, dry_run=True)
    assert os.path.exists(layout.manifest)
    assert ledger.read_all(layout.ledger) == []
    assert samples.aggregate(sample).n_ingested > 0


@pytest.mark.ordering("G3")
@pytest.mark.parametrize("point", ["output", "renamed"])
def test_checkpoint_outlives_the_graph(
    sample: samples.Sample, layout: checkpoint.Layout, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    synced: list[str] = []
    original = checkpoints.Checkpoint.remove

    def remove(held: checkpoints.Checkpoint, keeps_directory: bool = False) -> None:
        synced.append("removed")
        original(held, keeps_directory)

    _stop(monkeypatch, sample, point)
    assert os.path.exists(layout.manifest)
    monkeypatch.setattr(checkpoints.Checkpoint, "remove", remove)
    monkeypatch.setattr("aggregator.storage.durable_files.sync_directory", synced.append)
    assert samples.aggregate(sample).n_ingested == 0
    assert synced.index(str(sample.root)) < synced.index("removed")
    assert not os.path.exists(layout.directory)


@pytest.mark.ordering("G2", "G3", "W5")
def test_held_run_publishes_nothing(sample: samples.Sample, layout: checkpoint.Layout) -> None:
    output = sample.root / "out.qg"
    samples.aggregate(sample, dry_run=True)
    older = output.read_bytes()
    log = next((sample.repo / "u").rglob("*_log*.json"))
    kept = log.read_bytes()
    log.write_bytes(b"garbage")
    with pytest.raises(aggregator.AggregatorError) as caught:
        samples.aggregate(sample, fresh=True)
    assert caught.value.exit_code == 1
    assert output.read_bytes() == older
    assert os.path.exists(layout.manifest)
    log.write_bytes(kept)
    samples.aggregate(sample)
    assert not os.path.exists(layout.directory)
