"""Parts of a run that are scanned alone, at once, killed, or late: an aggregation finds what is done."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

import aggregator
from aggregator.aggregation import configuration, partial_scan
from tests.helpers import divided_runs, graph_files, kills, small_runs


@pytest.fixture
def run(divided_run: divided_runs.DividedRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(divided_run.run, tmp_path / "repo")


def scan(run: small_runs.SmallRun, part: str, **options: Any) -> partial_scan.ScanSummary:
    """Scan a part in this process."""
    config = configuration.AggregatorConfig(**options)
    return partial_scan.scan(str(run.predicted), str(run.root), partial_scan.part(part), config)


def start(run: small_runs.SmallRun, part: str, point: str, marker: pathlib.Path) -> Any:
    """Start the scan of a part; it stops at a point."""
    return kills.start(["scan", str(run.predicted), str(run.root), "--shards", part], point, marker)


def checkpoint(run: small_runs.SmallRun) -> pathlib.Path:
    return run.root / "predicted.qg.checkpoint"


def leftovers(run: small_runs.SmallRun) -> list[str]:
    return sorted(path.name for path in run.root.glob("*.checkpoint*"))


@pytest.mark.parametrize("point", ["dictionary:1", "digest:3", "hand-over:1", "handed-over:2"])
def test_a_killed_part_goes_on_and_others_are_not_disturbed(
    run: small_runs.SmallRun, expected: dict[str, bytes], tmp_path: pathlib.Path, point: str
) -> None:
    marker = tmp_path / "marker"
    with start(run, "1/2", point, marker) as running:
        kills.wait_for(marker, running)
        if point not in ("hand-over:1", "handed-over:2"):
            # These hold the run's checkpoint, for a moment.
            assert scan(run, "2/2").n_shards == divided_runs.N_SHARDS // 2
        running.kill()
    again = scan(run, "1/2")
    assert again.n_shards == divided_runs.N_SHARDS - divided_runs.N_SHARDS // 2
    if point == "digest:3":
        assert again.n_reused > 0
    scan(run, "2/2")
    assert leftovers(run) == ["predicted.qg.checkpoint"]
    summary = run.aggregate(keep_checkpoint=True)
    assert summary.n_reused == divided_runs.N_QUANTA
    assert graph_files.members(run.output) == expected


def test_the_same_part_twice_at_once(run: small_runs.SmallRun, tmp_path: pathlib.Path) -> None:
    marker = tmp_path / "marker"
    with start(run, "1/2", "digest:1", marker) as running:
        process = kills.wait_for(marker, running)
        with pytest.raises(aggregator.AggregatorError, match=rf"in use by process {process}") as caught:
            scan(run, "1/2")
        assert caught.value.exit_code == 1
        marker.write_text("")
        assert running.wait(timeout=120) == 0
    assert scan(run, "1/2").n_reused > 0


@pytest.mark.ordering("D6")
def test_an_aggregation_does_not_wait_and_what_is_late_leaves_it_alone(
    run: small_runs.SmallRun, expected: dict[str, bytes], tmp_path: pathlib.Path
) -> None:
    marker = tmp_path / "marker"
    scan(run, "2/2")
    with start(run, "1/2", "digest:1", marker) as running:
        kills.wait_for(marker, running)
        run.aggregate()
        assert graph_files.members(run.output) == expected
        marker.write_text("")
        assert running.wait(timeout=120) == 1
        assert "was removed or replaced meanwhile" in running.stderr.read()
    assert leftovers(run) == ["predicted.qg.checkpoint.scan-1-of-2"]
    scan(run, "2/2")
    # What was read before the new checkpoint was begun is read again: a graph tells since when that was.
    assert scan(run, "1/2").n_reused == 0


def test_what_comes_later_is_found(run: small_runs.SmallRun, expected: dict[str, bytes]) -> None:
    away = {path: path.with_suffix(".away") for path in run.files("*_log*.json")[::7]}
    for path, place in away.items():
        path.rename(place)
    scan(run, "1/1")
    digest = checkpoint(run) / "shard-000001.digest"
    before = digest.read_bytes()
    for path, place in away.items():
        place.rename(path)
    again = scan(run, "1/1")
    assert 0 < again.n_reused < divided_runs.N_QUANTA
    assert digest.read_bytes() != before
    assert run.aggregate().n_reused == divided_runs.N_QUANTA
    assert graph_names(run) == set(expected)


def graph_names(run: small_runs.SmallRun) -> set[str]:
    return set(graph_files.members(run.output))


@pytest.mark.ordering("D6")
def test_a_newer_digest_of_somebody_else_stays(run: small_runs.SmallRun, tmp_path: pathlib.Path) -> None:
    marker = tmp_path / "marker"
    digest = checkpoint(run) / "shard-000000.digest"
    with start(run, "1/2", "digest:2", marker) as running:
        kills.wait_for(marker, running)
        # Incomplete, so that the checkpoint stays.
        run.aggregate(incomplete=True)
        newer = digest.stat()
        marker.write_text("")
        assert running.wait(timeout=120) == 0
    assert os.path.samestat(digest.stat(), newer)


def test_without_any_file_nothing_is_kept(run: small_runs.SmallRun) -> None:
    run.run_directory.rename(run.root / "unmounted")
    with pytest.raises(aggregator.AggregatorError, match="not one file of run") as caught:
        scan(run, "1/2")
    assert caught.value.exit_code == 1
    assert not checkpoint(run).exists()


def test_other_options_are_refused(run: small_runs.SmallRun) -> None:
    scan(run, "1/2")
    names = {path.name: path.read_bytes() for path in checkpoint(run).iterdir()}
    with pytest.raises(aggregator.AggregatorError, match="with other options") as caught:
        scan(run, "2/2", zstd_level=5)
    assert caught.value.exit_code == 2
    assert leftovers(run) == ["predicted.qg.checkpoint"]
    assert {path.name: path.read_bytes() for path in checkpoint(run).iterdir()} == names


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(aggregator.RefusedError, match="is no part"):
        partial_scan.part(text)


def test_parts_have_each_shard_once() -> None:
    shards = [shard for number in range(1, 6) for shard in partial_scan.Part(number, 5).shards(13)]
    assert sorted(shards) == list(range(13))
