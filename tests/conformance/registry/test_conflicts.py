"""Batches that contradict the repository, themselves, or a process that writes at the same time."""

from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.butler.databases import database
from aggregator.butler.registry import batch, conflicts
from aggregator.storage import errors

from tests.helpers import databases, registry_rows

RUN, NEW = registry_rows.RUN, registry_rows.NEW

ID, DATA_ID = batch.ConflictKind.ID, batch.ConflictKind.DATA_ID
DIMENSION, RECORD = batch.ConflictKind.DIMENSION, batch.ConflictKind.RECORD


@pytest.fixture
def target(
    sample_databases: tuple[databases.Database, databases.Database],
) -> Iterator[registry_rows.Target]:
    with registry_rows.open_target(*sample_databases) as opened:
        yield opened


def contradicting(target: registry_rows.Target, raw_id: str) -> batch.Batch:
    """Make one dataset for each kind of conflict, and one (6) that is good."""
    log = target.registry.dataset_types.row("clean_log")
    return registry_rows.join(
        target.image(raw_id, 1, 101),
        registry_rows.make(log, ("SampleCam", 1, 102), NEW + "1"),
        target.image(NEW + "2", 1, 102),
        target.image(NEW + "3", 1, 999),
        target.image(NEW + "4", 7, 101),
        target.image(NEW + "5", 2, 103),
        target.image(NEW + "6", 2, 102),
        target.image(NEW + "7", 2, 102),
    )


def first_raw(target: registry_rows.Target) -> str:
    """Return the id of an input."""
    condition = "visit = 101 AND detector = 1"
    [(raw_id,)] = target.database.query(f"SELECT dataset_id FROM dataset_tags_00000002 WHERE {condition}")
    return str(raw_id)


@pytest.mark.parametrize("defensive", [False, True])
def test_conflicts_are_named_and_the_rest_is_committed(
    target: registry_rows.Target, *, defensive: bool
) -> None:
    raw_id = first_raw(target)
    target.registry.datasets.ingest(RUN, registry_rows.join(target.image(NEW + "1", 1, 102)))
    left_over = f"'{NEW}5', 'path', 'formatter', 'class', '__NULL_STRING__', NULL, 1"
    target.database.execute(f"INSERT INTO file_datastore_records VALUES ({left_over})")
    bad = contradicting(target, raw_id)
    good = [dataset for dataset in target.offered.datasets if dataset[1].name == "packages"]
    offered = batch.Batch([*bad.datasets, *good], bad.files)
    result = target.registry.datasets.ingest(RUN, offered, defensive=defensive)
    assert (result.n_ingested, result.n_skipped) == (2, 0)
    assert {(c.dataset_id, c.kind, c.reason, c.other_id) for c in result.conflicts} == {
        (raw_id, ID, "the repository has a raw with this id, of run in/raw", None),
        (NEW + "1", ID, f"the repository has a clean_image with this id, of run {RUN}", None),
        (NEW + "2", DATA_ID, f"the run has this data ID under id {NEW}1", NEW + "1"),
        (NEW + "3", DIMENSION, "there is no visit record for instrument='SampleCam', visit=999", None),
        (NEW + "4", DIMENSION, "there is no detector record for instrument='SampleCam', detector=7", None),
        (
            NEW + "5",
            RECORD,
            "table file_datastore_records has a file record for this id, though there is no such dataset",
            None,
        ),
        (NEW + "7", DATA_ID, f"the same batch has this data ID under id {NEW}6", NEW + "6"),
    }
    ids = [c.dataset_id for c in result.conflicts]
    assert ids == sorted(ids)
    assert registry_rows.ids(target.database, RUN) == {good[0][0], NEW + "1", NEW + "6"}


def test_nothing_comes_in_of_a_dataset_left_out(target: registry_rows.Target) -> None:
    before = target.database.content()
    bad = contradicting(target, first_raw(target))
    bad = batch.Batch(bad.datasets[3:5], bad.files[3:5])
    assert len(target.registry.datasets.ingest(RUN, bad).conflicts) == 2
    assert target.database.content() == before


def test_conflict_reads_well(target: registry_rows.Target) -> None:
    result = target.registry.datasets.ingest(RUN, registry_rows.join(target.image(NEW + "3", 1, 999)))
    assert [str(conflict) for conflict in result.conflicts] == [
        f"clean_image {{instrument='SampleCam', detector=1, visit=999}} with id {NEW}3: "
        "there is no visit record for instrument='SampleCam', visit=999"
    ]


def test_same_id_with_another_data_id(target: registry_rows.Target) -> None:
    target.registry.datasets.ingest(RUN, registry_rows.join(target.image(NEW + "1", 1, 102)))
    result = target.registry.datasets.ingest(RUN, registry_rows.join(target.image(NEW + "1", 2, 102)))
    [conflict] = result.conflicts
    assert conflict.kind is batch.ConflictKind.ID
    assert (
        conflict.reason == f"the repository has a clean_image with this id, of another data ID in run {RUN}"
    )


def test_same_id_in_another_run(target: registry_rows.Target) -> None:
    target.registry.collections.register_run("u/other")
    pair = target.image(NEW + "1", 1, 102)
    target.registry.datasets.ingest("u/other", registry_rows.join(pair))
    [conflict] = target.registry.datasets.ingest(RUN, registry_rows.join(pair)).conflicts
    assert conflict.reason == "the repository has a clean_image with this id, of run u/other"
    # The same data ID in another run is no conflict.
    assert (
        target.registry.datasets.ingest(RUN, registry_rows.join(target.image(NEW + "2", 1, 102))).n_ingested
        == 1
    )


def test_batch_that_contradicts_itself(target: registry_rows.Target) -> None:
    first, again, other = (
        target.image(NEW + "1", 1, 102),
        target.image(NEW + "1", 1, 102),
        target.image(NEW + "1", 2, 102),
    )
    result = target.registry.datasets.ingest(RUN, registry_rows.join(first, again))
    assert result == batch.IngestResult(1, 1, ())
    result = target.registry.datasets.ingest(RUN, registry_rows.join(first, other))
    assert (result.n_ingested, result.n_skipped) == (0, 1)
    assert [c.reason for c in result.conflicts] == ["the same batch has a clean_image with this id"]


def test_conflict_that_appears_after_the_look_is_retried(
    target: registry_rows.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a database with finer locks than SQLite's, another process can write between look and insert."""
    target.registry.datasets.ingest(RUN, batch.Batch(target.offered.datasets[:10], []))
    examine, calls = conflicts.examine, []

    def blind(*arguments: Any) -> conflicts.Findings:
        calls.append(1)
        return conflicts.Findings(target.offered, 0, ()) if len(calls) < 3 else examine(*arguments)

    monkeypatch.setattr(conflicts, "examine", blind)
    assert target.registry.datasets.ingest(RUN, target.offered) == batch.IngestResult(51, 10, ())
    assert len(calls) == 3


def test_retries_are_bounded(target: registry_rows.Target, monkeypatch: pytest.MonkeyPatch) -> None:
    target.registry.datasets.ingest(RUN, target.offered)
    calls = []

    def blind(*arguments: Any) -> conflicts.Findings:
        calls.append(1)
        return conflicts.Findings(target.offered, 0, ())

    monkeypatch.setattr(conflicts, "examine", blind)
    message = "the database refuses a row: (UNIQUE constraint failed|duplicate key value)"
    with pytest.raises(database.ConstraintError, match=message) as caught:
        target.registry.datasets.ingest(RUN, target.offered)
    assert target.database.shown in str(caught.value)
    assert len(calls) == database.ATTEMPTS


def test_value_too_long_is_explained(target: registry_rows.Target) -> None:
    row = target.registry.dataset_types.register("by_band", "Plot", ["band"])
    with pytest.raises(
        errors.AggregatorError, match=r"CHECK constraint failed: dataset_tags_.*_len_band|value too long"
    ):
        target.registry.datasets.ingest(
            RUN, registry_rows.join(registry_rows.make(row, ("x" * 33,), NEW + "1"))
        )
