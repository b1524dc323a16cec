"""What was found out once is used again, and only as far as it is still true."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from typing import Any

import pytest
from aggregator.schemas.graphs import predicted

import aggregator
from aggregator.aggregation import checkpoint_status
from tests.helpers import kills, thinning
from tests.helpers.oracle import compare, runs


@pytest.fixture
def case(oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> kills.Case:
    return kills.Case(runs.copy_run(oracle_run, tmp_path / "repo"), tmp_path / "out.qg")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of execution files that have been opened."""
    paths: list[str] = []
    original = os.open

    def counting(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(".json") and ("_log/" in str(path) or "_metadata/" in str(path)):
            paths.append(str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", counting)
    return paths


def aggregate(case: kills.Case, graph: bool = True, **config: Any) -> Any:
    output = str(case.output) if graph else None
    options = aggregator.AggregatorConfig(output_path=output, mock_storage_classes=True, **config)
    return aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), options)


def checkpoint(case: kills.Case) -> pathlib.Path:
    return pathlib.Path(f"{case.run.predicted_path}.checkpoint")


def settled(case: kills.Case) -> dict[str, Any]:
    """Return a quantum that has succeeded, with both files."""
    return next(
        entry
        for entry in case.run.quanta("isr")
        if all(case.run.file(entry, c).exists() for c in ("_log", "_metadata"))
    )


def files_of(case: kills.Case) -> dict[str, set[tuple[str, int, int]]]:
    """Return path, time and inode of each file of each quantum."""
    return {
        entry["id"]: {
            (str(p), p.stat().st_mtime_ns, p.stat().st_ino) for p in case.run.files(entry) if p.exists()
        }
        for entry in case.run.manifest["quanta"]
    }


def test_incomplete_runs_and_a_complete_one_equal_one_complete_run(
    case: kills.Case, undisturbed: Any, opened: list[str]
) -> None:
    """Each run opens files of new and changed quanta only; the margin is nothing."""
    owners = {
        str(case.run.file(entry, connection)): entry["id"]
        for entry in case.run.manifest["quanta"]
        for connection in ("_log", "_metadata")
    }
    before: dict[str, set[tuple[str, int, int]]] = {}
    for stage, fraction in (("final", 0.25), ("final", 0.5), ("final", 0.75), ("final", 1.0)):
        runs.show(case.run, stage=stage, fraction=fraction)
        opened.clear()
        last = fraction == 1.0
        done = aggregate(case, graph=last, incomplete=not last)
        now = files_of(case)
        changed = {quantum for quantum, files in now.items() if files != before.get(quantum)}
        assert {owners[path] for path in opened} <= changed
        assert done.n_reused == (len(now) - len(changed) if before else 0)
        before = now
    assert case.content() == undisturbed
    assert case.leftovers() == []


def test_log_that_is_written_after_the_metadata_is_judged_again(case: kills.Case, undisturbed: Any) -> None:
    entry = settled(case)
    log = case.run.file(entry, "_log")
    kept = log.read_bytes()
    log.unlink()
    aggregate(case, graph=False, incomplete=True)
    log.write_bytes(kept)
    aggregate(case)
    assert case.content() == undisturbed


@pytest.mark.ordering("D4")
@pytest.mark.parametrize("empty", [b"", b'{"extended":true,"version":2,"records":[]}'])
def test_a_success_with_a_log_without_records_is_looked_at_again(
    case: kills.Case, undisturbed: Any, opened: list[str], empty: bytes
) -> None:
    """Nobody can tell whether such a log is of the success; while nothing changes, nothing is read again."""
    entry = settled(case)
    log, metadata = (case.run.file(entry, connection) for connection in ("_log", "_metadata"))
    kept = log.read_bytes()
    log.write_bytes(empty)
    # It is older than nothing else: a copy, or a coarse clock, may have made it so.
    later = metadata.stat().st_mtime_ns + 3600 * 10**9
    os.utime(log, ns=(later, later))
    aggregate(case, graph=False, incomplete=True)
    opened.clear()
    aggregate(case, graph=False, incomplete=True)
    assert not {str(log), str(metadata)} & set(opened)
    log.write_bytes(kept)
    aggregate(case)
    assert case.content() == undisturbed


@pytest.mark.ordering("D4")
def test_a_retry_whose_log_is_still_that_of_the_failure_is_looked_at_again(
    case: kills.Case, undisturbed: Any
) -> None:
    """A run looks between the moments in which a retry replaces its metadata and its log."""
    kept = {}
    for entry in case.run.quanta():
        log, metadata = (case.run.file(entry, connection) for connection in ("_log", "_metadata"))
        failed = case.run.workdir / "stages" / "pass1" / log.relative_to(case.run.root)
        is_retry = log.exists() and b'"previous_attempts":[{' in log.read_bytes()
        if is_retry and metadata.exists() and failed.exists():
            kept[log] = log.read_bytes()
            log.unlink()
            shutil.copy2(failed, log)
    assert len(kept) > 3
    aggregate(case, graph=False, incomplete=True)
    for log, content in kept.items():
        log.unlink()
        log.write_bytes(content)
    aggregate(case)
    assert case.content() == undisturbed


@pytest.mark.ordering("D4")
def test_retried_quanta_are_judged_again_and_the_rest_is_reused(
    case: kills.Case, oracle_run: runs.OracleRun, tmp_path: pathlib.Path, opened: list[str]
) -> None:
    """Execution goes on after a complete run: what failed or was blocked is ingested now."""
    runs.show(case.run, stage="pass1")
    first = aggregate(case, keep_checkpoint=True)
    before = files_of(case)
    runs.show(case.run, stage="pass2")
    opened.clear()
    # One of the quanta that had succeeded was made to fail in between: such a thing shows only when verified.
    second = aggregate(case, verify_checkpoint=True)
    changed = {quantum for quantum, files in files_of(case).items() if files != before[quantum]}
    assert 0 < len(changed) < 200
    assert len(opened) <= 2 * len(changed)
    assert second.n_reused >= 311 - len(changed)
    assert second.n_ingested > 0
    blocked = [sum(count["Blocked"] for count in done.counts.values()) for done in (first, second)]
    assert blocked[1] < blocked[0]
    alone = kills.Case(runs.copy_run(oracle_run, tmp_path / "alone"), tmp_path / "alone.qg")
    runs.show(alone.run, stage="pass2")
    aggregate(alone)
    assert case.content()[1:] == alone.content()[1:]
    rows = [compare.database_rows(each.run.database) for each in (case, alone)]
    assert second.n_stale == len(rows[0]["dataset"]) - len(rows[1]["dataset"])


@pytest.mark.parametrize("first", [True, False])
def test_promised_and_not_promised(case: kills.Case, undisturbed: Any, first: bool) -> None:
    aggregate(case, promise_ingest_graph=first, keep_checkpoint=True)
    done = aggregate(case, promise_ingest_graph=not first, keep_checkpoint=True)
    assert done.n_reused > 250
    content = case.content()
    assert content == undisturbed
    shutil.rmtree(checkpoint(case))


def test_dry_run_then_a_real_one(case: kills.Case, undisturbed: Any, opened: list[str]) -> None:
    aggregate(case, dry_run=True)
    assert checkpoint(case).exists()
    opened.clear()
    done = aggregate(case)
    assert done.n_ingested == 1027
    assert done.n_reused > 250
    assert case.content() == undisturbed
    assert case.leftovers() == []


@pytest.mark.ordering("L2")
@pytest.mark.parametrize("n_processes", [1, 2])
def test_database_restored_from_a_backup(case: kills.Case, undisturbed: Any, n_processes: int) -> None:
    """What the ledger says counts only for datasets that are there."""
    backup = case.run.database.read_bytes()
    aggregate(case, keep_checkpoint=True, n_processes=n_processes)
    case.run.database.write_bytes(backup)
    done = aggregate(case, n_processes=n_processes)
    assert done.n_ingested == 1027
    assert case.content() == undisturbed


@pytest.mark.ordering("L2", "G1")
def test_rows_are_gone_and_as_many_others_have_come(case: kills.Case, undisturbed: Any) -> None:
    """The run holds as many datasets as the ledger says, but not the same."""
    aggregate(case, keep_checkpoint=True)
    chosen = sorted(undisturbed[0]["dataset"])[100:105]
    ids = ", ".join(f"'{each.replace('-', '')}'" for each in chosen)
    tables = case.run.tables
    tables.execute(
        "INSERT INTO dataset (id, dataset_type_id, ingest_date, run_id) SELECT "
        f"'ffff' || substr(id, 5), dataset_type_id, ingest_date, run_id FROM dataset WHERE id IN ({ids})"
    )
    for table in tables.tables():
        column = "id" if table == "dataset" else "dataset_id"
        if table.startswith(("dataset", "file_")) and column in tables.columns(table):
            tables.execute(f"DELETE FROM {table} WHERE {column} IN ({ids})")
    done = aggregate(case)
    assert done.n_ingested == len(chosen)
    rows = compare.database_rows(tables)
    assert {each: rows["dataset"][each] for each in chosen} == {
        each: undisturbed[0]["dataset"][each] for each in chosen
    }


def test_nothing_is_offered_again_that_the_ledger_knows(
    case: kills.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aggregator.butler.registry import ingested_datasets

    aggregate(case, keep_checkpoint=True)
    offered = []
    original = ingested_datasets.Datasets.ingest

    def ingest(self: Any, run: str, batch: Any, **options: Any) -> Any:
        offered.extend(batch.datasets)
        return original(self, run, batch, **options)

    monkeypatch.setattr(ingested_datasets.Datasets, "ingest", ingest)
    done = aggregate(case)
    assert offered == []
    assert (done.n_ingested, done.n_skipped) == (0, 1027)


@pytest.mark.ordering("M3")
def test_checkpoint_of_another_graph_is_refused(
    case: kills.Case, clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path, undisturbed: Any
) -> None:
    other = kills.Case(runs.copy_run(clean_oracle_run, tmp_path / "other"), tmp_path / "other.qg")
    aggregate(other, graph=False, keep_checkpoint=True, checkpoint_dir=str(tmp_path / "shared"))
    kept = sorted(p.name for p in (tmp_path / "shared").iterdir())
    with pytest.raises(aggregator.RefusedError, match="is the checkpoint of another graph") as caught:
        aggregate(case, checkpoint_dir=str(tmp_path / "shared"))
    assert caught.value.exit_code == 2
    assert sorted(p.name for p in (tmp_path / "shared").iterdir()) == kept
    aggregate(case, checkpoint_dir=str(tmp_path / "shared"), fresh=True)
    assert case.content() == undisturbed
    assert not (tmp_path / "shared").exists()


def test_other_settings_scan_again(
    case: kills.Case, undisturbed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    aggregate(case, dry_run=True)
    done = aggregate(case, zstd_level=7)
    assert done.n_reused == 0
    assert "made with other settings" in caplog.text
    assert case.content() == undisturbed


def test_same_graph_in_another_file_fits(case: kills.Case) -> None:
    aggregate(case, dry_run=True)
    renamed = case.run.predicted_path.with_name("again.qg")
    with zipfile.ZipFile(case.run.predicted_path) as source, zipfile.ZipFile(renamed, "w") as target:
        for name in reversed(source.namelist()):
            target.writestr(name, source.read(name))
    shutil.copytree(checkpoint(case), f"{renamed}.checkpoint")
    options = aggregator.AggregatorConfig(output_path=str(case.output), mock_storage_classes=True)
    done = aggregator.aggregate_graph(str(renamed), str(case.run.root), options)
    assert done.n_reused > 250


DAMAGES = list(
    itertools.product(
        ["shard-000003.digest", "dictionary", "records", "edges", "manifest.json"], ["changed", "cut"]
    )
)


@pytest.mark.parametrize(("name", "damage"), thinning.thinned(DAMAGES, [*DAMAGES[::2], DAMAGES[1]]))
@pytest.mark.ordering("M2", "D1")
def test_damaged_files_are_named_and_made_again(
    case: kills.Case, undisturbed: Any, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    aggregate(case, dry_run=True, zstd_dict_n_inputs=100)
    path = checkpoint(case) / name
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) * 2 // 3] ^= 0xFF
    path.write_bytes(data)
    aggregate(case, zstd_dict_n_inputs=100)
    assert str(path) in caplog.text
    assert case.content() == undisturbed


FOREIGN = ["of another shard", "with other settings", "with another dictionary", "of an earlier generation"]


@pytest.mark.ordering("D1", "D4")
@pytest.mark.parametrize("kind", FOREIGN)
def test_whole_digests_that_are_others_are_not_believed(
    case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has copied them: their checksums are right, but they are of something else."""
    path = checkpoint(case) / "shard-000005.digest"
    other = str(tmp_path / "other")
    match kind:
        case "of another shard":
            aggregate(case, dry_run=True)
            names = ["shard-000003.digest", "shard-000005.digest"]
            first, second = ((checkpoint(case) / name).read_bytes() for name in names)
            path.write_bytes(first)
            path.with_name(names[0]).write_bytes(second)
        case "with other settings":
            aggregate(case, dry_run=True, checkpoint_dir=other, zstd_level=7)
            aggregate(case, dry_run=True)
        case "with another dictionary":
            aggregate(case, dry_run=True, checkpoint_dir=other, zstd_dict_n_inputs=100)
            aggregate(case, dry_run=True, zstd_dict_n_inputs=0)
        case "of an earlier generation":
            # Of the same checkpoint, from before some quanta were run.
            runs.show(case.run, fraction=0.7)
            aggregate(case, graph=False, incomplete=True)
            shutil.copytree(checkpoint(case), other)
            runs.show(case.run)
            aggregate(case, graph=False, incomplete=True)
    if kind != "of another shard":
        path.write_bytes((pathlib.Path(other) / path.name).read_bytes())
    options = {"zstd_dict_n_inputs": 0} if kind == "with another dictionary" else {}
    damaged = checkpoint_status.read(str(checkpoint(case))).damaged
    done = aggregate(case, **options)
    assert case.content() == undisturbed
    if kind != "of an earlier generation":
        assert "Shard 5 is scanned again" in caplog.text
        assert [str(path) in reason for reason in damaged] == [False] * (len(damaged) - 1) + [True]
    assert done.n_reused > 0


def test_what_a_damaged_line_of_the_ledger_told_is_offered_again(case: kills.Case, undisturbed: Any) -> None:
    aggregate(case, keep_checkpoint=True)
    path = checkpoint(case) / "ledger"
    # Half a character, as a disk may leave it.
    path.write_bytes(path.read_bytes().replace(b'"run":"', b'"run":"\xc3', 1))
    done = aggregate(case)
    assert done.n_skipped > 0
    assert done.n_ingested == 0
    assert case.content() == undisturbed


def test_edges_are_read_from_the_graph_once(
    case: kills.Case, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate(case, dry_run=True)
    monkeypatch.delattr(predicted.PredictedGraph, "edges")
    aggregate(case)
    assert case.content() == undisturbed


def test_unverified_and_verified_settled_entries(case: kills.Case, opened: list[str]) -> None:
    """Files of settled quanta are looked at only if asked for."""
    aggregate(case, dry_run=True)
    entry = settled(case)
    os.utime(case.run.file(entry, "_log"), ns=(1, 1))
    opened.clear()
    aggregate(case, dry_run=True)
    assert opened == []
    aggregate(case, dry_run=True, verify_checkpoint=True)
    assert len(opened) == 2


def test_no_checkpoint_leaves_none(case: kills.Case, undisturbed: Any) -> None:
    aggregate(case, dry_run=True, checkpoint=False)
    assert not checkpoint(case).exists()
    aggregate(case, checkpoint=False, n_processes=2)
    assert case.content() == undisturbed


def test_status(case: kills.Case, tmp_path: pathlib.Path) -> None:
    done = aggregate(case, keep_checkpoint=True)
    report = checkpoint_status.read(str(checkpoint(case)))
    assert (report.n_done, report.n_ingested, report.process, report.damaged) == (8, 1027, "", [])
    assert report.counts is not None
    assert report.counts.counts == done.counts
    text = subprocess.run(
        [sys.executable, "-m", "aggregator", "status", str(checkpoint(case))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Shards done: 8 of 8 (up to 50 quanta each)" in text
    assert f"State: complete; provenance graph: {case.output}" in text
    with pytest.raises(aggregator.RefusedError, match="not a checkpoint"):
        checkpoint_status.read(str(tmp_path))


def test_checkpoint_in_use_is_refused_and_told(case: kills.Case, tmp_path: pathlib.Path) -> None:
    marker = tmp_path / "marker"
    with case.start(2, "insert:1", marker) as running:
        victim = kills.wait_for(marker, running)
        with pytest.raises(aggregator.InUseError, match=f"in use by process {running.pid} on "):
            aggregate(case)
        assert f"process {running.pid} on " in checkpoint_status.read(str(checkpoint(case))).process
        # The coordinator is gone, but a worker that has not noticed yet is still committing.
        os.kill(victim, 19)
        os.kill(running.pid, 9)
        running.wait(timeout=kills.GONE_SECONDS)
        try:
            with pytest.raises(aggregator.InUseError, match="its workers have gone"):
                aggregate(case)
        finally:
            os.kill(victim, 9)
        running.communicate(timeout=kills.GONE_SECONDS)
    kills.assert_gone(running.pid)
    aggregate(case)


def test_manifest_is_for_people_too(case: kills.Case) -> None:
    aggregate(case, dry_run=True)
    document = json.loads((checkpoint(case) / "manifest.json").read_text())
    assert document["predicted_graph"] == str(case.run.predicted_path)
    assert document["output_run"] == case.run.run
    assert document["n_quanta"] == 311
