"""Ingesting batches: the same rows as the reference, all or none."""

import contextlib
import dataclasses
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy
from aggregator.butler.registry import batch, insertion
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

from tests.helpers import databases, registry_rows, thinning

RUN, NEW = registry_rows.RUN, registry_rows.NEW


@pytest.fixture
def target(
    sample_databases: tuple[databases.Database, databases.Database],
) -> Iterator[registry_rows.Target]:
    with registry_rows.open_target(*sample_databases) as opened:
        yield opened


@pytest.mark.parametrize("defensive", [False, True])
def test_sample_gives_the_reference_rows(target: registry_rows.Target, *, defensive: bool) -> None:
    start = time.time_ns()
    result = target.registry.datasets.ingest(RUN, target.offered, defensive=defensive)
    assert result == batch.IngestResult(61, 0, ())
    assert target.database.content() == target.after.content()
    assert target.database.schema() == target.after.schema()
    [(date,)] = target.database.query("SELECT DISTINCT ingest_date FROM dataset WHERE run_id = 3")
    assert start <= date - 37 * 10**9 <= time.time_ns()
    assert len(target.registry.datasets.ids(RUN)) == 61
    assert registry_rows.ids(target.database, RUN) == {
        dataset_id for dataset_id, _, _ in target.offered.datasets
    }
    assert target.registry.datasets.graphs(RUN) == target.registry.datasets.graphs("u/nobody") == frozenset()


def test_rows_are_sorted_by_id(target: registry_rows.Target) -> None:
    """Also with random ids, which some software makes: neighbours go to neighbouring pages of the indices."""
    chance = random.Random(1)
    ids = {
        dataset[0]: uuid.UUID(int=chance.getrandbits(128), version=4).hex
        for dataset in target.offered.datasets
    }
    datasets = [(ids[dataset_id], *rest) for dataset_id, *rest in target.offered.datasets]
    files = [(*file[:2], ids[file[2]], *file[3:]) for file in target.offered.files]
    target.registry.datasets.ingest(RUN, batch.Batch(datasets, files))
    tables = {"dataset": "id"} | dict.fromkeys(("file_datastore_records", "dataset_location"), "dataset_id")
    for table, column in tables.items():
        rows = target.database.query(f"SELECT {column} FROM {table} ORDER BY {target.database.row_place}")[
            -61:
        ]
        assert rows == sorted(rows)
        assert set(rows) == {(dataset_id,) for dataset_id in ids.values()}
    tags = target.registry.dataset_types.row("clean_image").tag_table
    rows = target.database.query(f"SELECT dataset_id FROM {tags} ORDER BY {target.database.row_place}")
    rows = [row for row in rows if row[0] in set(ids.values())]
    assert len(rows) > 20
    assert rows == sorted(rows)


def test_run_ids(target: registry_rows.Target) -> None:
    assert len(target.registry.datasets.ids(RUN)) == 0
    # Zeros at the end of an id are a part of it.
    odd = [NEW[:-4] + "a0000", NEW[:-4] + "a0001"]
    pairs = [target.image(each, 1, 101 + number) for number, each in enumerate(odd)]
    target.registry.datasets.ingest(RUN, target.offered)
    target.registry.datasets.ingest("in/raw", registry_rows.join(*pairs))
    known = sorted(dataset_id for dataset_id, _, _ in target.offered.datasets)
    assert addresses.hex_digits(target.registry.datasets.ids(RUN)) == known
    assert set(odd) < set(addresses.hex_digits(target.registry.datasets.ids("in/raw")))
    assert len(target.registry.datasets.ids("nowhere")) == 0


@pytest.mark.parametrize("n_present", [0, 1, 7])
def test_ids_are_looked_for_among_others(n_present: int) -> None:
    texts = [f"{number:032x}" for number in (0, 1 << 8, 255, 256 << 8, 1 << 120, 77, 78)]
    present = np.sort(addresses.parse_ids(texts[:n_present]))
    assert addresses.are_in(addresses.parse_ids(texts), present).tolist() == [
        number < n_present for number in range(7)
    ]


def test_path_of_the_file_is_compared(target: registry_rows.Target) -> None:
    target.registry.datasets.ingest(RUN, target.offered)
    table, _, dataset_id, path, *_ = target.offered.files[3]
    others = [each for each, _, _ in target.offered.datasets]
    assert addresses.hex_digits(target.registry.datasets.backed_ids(RUN, table, path)) == [dataset_id]
    assert target.registry.datasets.some_backed_ids(others, table, path) == {dataset_id}
    others.remove(dataset_id)
    assert target.registry.datasets.some_backed_ids(others, table, path) == set()
    assert len(target.registry.datasets.backed_ids("in/raw", table, path)) == 0


def test_keys_of_types_are_looked_at(target: registry_rows.Target) -> None:
    """After a fail-over, a key may be another type's."""
    before = target.database.content()
    row = target.registry.dataset_types.row("clean_image")
    wrong = dataclasses.replace(row, name="clean_log")
    pair = registry_rows.make(wrong, ("SampleCam", 1, 101), NEW + "1")
    with pytest.raises(insertion.UnregisteredError, match="types are not registered as they were"):
        target.registry.datasets.ingest(RUN, registry_rows.join(pair))
    assert target.database.content() == before


# More rows than any limit on the variables of a statement, and many more.
@pytest.mark.parametrize("n_visits", thinning.thinned([2_500, 25_000], [2_500]))
def test_large_batch(target: registry_rows.Target, n_visits: int) -> None:
    visits = registry_rows.add_visits(target.database, n_visits)
    rows = [target.registry.dataset_types.row(name) for name in ("clean_image", "clean_log")]
    pairs = [
        registry_rows.make(row, ("SampleCam", detector, visit), f"{row.id:02x}{detector:02x}{visit:028x}")
        for visit in visits
        for detector in (1, 2)
        for row in rows
    ]
    offered = registry_rows.join(*pairs)
    assert target.registry.datasets.ingest(RUN, offered) == batch.IngestResult(4 * n_visits, 0, ())
    # One of them gets another id: all others are found again, by joins.
    other = registry_rows.make(rows[0], ("SampleCam", 1, 1000), NEW + "1")
    result = target.registry.datasets.ingest(RUN, registry_rows.join(other, *pairs[1:]))
    assert (result.n_ingested, result.n_skipped) == (0, 4 * n_visits - 1)
    assert [c.other_id for c in result.conflicts] == [pairs[0][0][0]]
    assert target.database.count("file_datastore_records") == 4 * n_visits + 28


@pytest.mark.parametrize("defensive", [False, True])
def test_repeating_skips_everything(target: registry_rows.Target, *, defensive: bool) -> None:
    half = batch.Batch(target.offered.datasets[:30], [])
    assert target.registry.datasets.ingest(RUN, half).n_ingested == 30
    before = target.database.content()
    assert target.registry.datasets.ingest(RUN, half, defensive=defensive) == batch.IngestResult(0, 30, ())
    assert target.database.content() == before
    result = target.registry.datasets.ingest(RUN, target.offered, defensive=defensive)
    assert result == batch.IngestResult(31, 30, ())
    # Files of skipped datasets are skipped too, as in the reference.
    assert target.database.count("file_datastore_records") == 28 + 31


def test_empty_batch(target: registry_rows.Target) -> None:
    assert target.registry.datasets.ingest(RUN, batch.Batch([], [])) == batch.IngestResult(0, 0, ())


def test_wrong_number_of_values_is_an_error(target: registry_rows.Target) -> None:
    row = target.registry.dataset_types.row("clean_image")
    pairs = [
        registry_rows.make(row, values, NEW + str(n))
        for n, values in enumerate([("SampleCam", 1), ("SampleCam", 1, 101, 3)])
    ]
    with pytest.raises(ValueError, match="do not all have 6 values"):
        target.registry.datasets.ingest(RUN, registry_rows.join(*pairs))
    assert target.database.count("dataset") == 28


def test_file_without_dataset_is_an_error(target: registry_rows.Target) -> None:
    _, file = target.image(NEW + "1", 1, 101)
    with pytest.raises(ValueError, match="belongs to no dataset"):
        target.registry.datasets.ingest(RUN, batch.Batch(target.offered.datasets, [file]))


def test_run_must_be_registered(target: registry_rows.Target) -> None:
    with pytest.raises(errors.AggregatorError, match="no run 'u/nobody'"):
        target.registry.datasets.ingest("u/nobody", target.offered)
    with pytest.raises(errors.AggregatorError, match="'in/all' is a CHAINED collection"):
        target.registry.datasets.ingest("in/all", target.offered)


def test_composite_has_one_location(target: registry_rows.Target) -> None:
    dataset, file = target.image(NEW + "1", 1, 101)
    files = [(*file[:3], f"{component}.json", *file[4:6], component) for component in ("wcs", "psf")]
    assert target.registry.datasets.ingest(RUN, batch.Batch([dataset], files)).n_ingested == 1
    records = "SELECT component, path, checksum, file_size FROM file_datastore_records WHERE dataset_id = "
    rows = target.database.query(f"{records}'{dataset[0]}' ORDER BY component")
    assert rows == [("psf", "psf.json", None, -1), ("wcs", "wcs.json", None, -1)]
    assert target.database.count("dataset_location") == 29


def test_two_datastores(target: registry_rows.Target) -> None:
    target.database.execute("CREATE TABLE recs_b AS SELECT * FROM file_datastore_records WHERE path = ''")
    files = [*target.offered.files, *(("recs_b", "Other", *file[2:]) for file in target.offered.files)]
    target.registry.datasets.ingest(RUN, batch.Batch(target.offered.datasets, files))
    assert (target.database.count("recs_b"), target.database.count("dataset_location")) == (61, 28 + 2 * 61)


def test_dataset_without_file(target: registry_rows.Target) -> None:
    dataset, _ = target.image(NEW + "1", 1, 101)
    assert target.registry.datasets.ingest(RUN, batch.Batch([dataset], [])).n_ingested == 1
    assert (target.database.count("dataset"), target.database.count("dataset_location")) == (29, 28)


@pytest.mark.parametrize("function", ["_insert_tags", "_insert_files"])
def test_all_tables_or_none(
    target: registry_rows.Target, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt

    before = target.database.content()
    with monkeypatch.context() as patch:
        patch.setattr(insertion, function, fail)
        with pytest.raises(KeyboardInterrupt):
            target.registry.datasets.ingest(RUN, target.offered)
    assert target.database.content() == before
    assert target.registry.datasets.ingest(RUN, target.offered).n_ingested == 61


@contextlib.contextmanager
def recorded(engine: sqlalchemy.Engine) -> Iterator[set[str]]:
    """Collect the statements that are executed."""
    statements = set()

    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        statements.add(statement)

    copy = psycopg.Cursor.copy

    def note_copy(self: Any, statement: bytes, *others: Any) -> Any:
        statements.add(statement.decode())
        return copy(self, statement, *others)

    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "copy", note_copy)
        yield statements
    sqlalchemy.event.remove(engine, "before_cursor_execute", note)


def test_no_statement_grows_with_the_batch(target: registry_rows.Target) -> None:
    visits = registry_rows.add_visits(target.database, 2500)
    pairs = [target.image(f"0190{visit:028x}", 1, visit) for visit in visits]
    with recorded(target.registry._db.engine) as small:
        assert target.registry.datasets.ingest(RUN, registry_rows.join(*pairs[:999])).n_ingested == 999
        assert target.registry.datasets.ingest(RUN, registry_rows.join(*pairs[:999])).n_skipped == 999
    with recorded(target.registry._db.engine) as large:
        assert target.registry.datasets.ingest(RUN, registry_rows.join(*pairs[999:])).n_ingested == 1501
        assert target.registry.datasets.ingest(RUN, registry_rows.join(*pairs)).n_skipped == 2500
    assert large <= small
    assert any("dataset_tags_" in statement for statement in small)


@pytest.mark.parametrize("sample_databases", ["sqlite"], indirect=True)
def test_full_disk(target: registry_rows.Target) -> None:
    before = target.database.content()
    limit = "PRAGMA max_page_count = {}"
    with target.registry._db.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(limit.format(pages))
    with pytest.raises(
        errors.AggregatorError, match=r"gen3\.sqlite3: database or disk is full .*free some space"
    ):
        target.registry.datasets.ingest(RUN, target.offered)
    assert target.database.content() == before
    with target.registry._db.reading() as connection:
        connection.exec_driver_sql(limit.format(pages + 1000))
    assert target.registry.datasets.ingest(RUN, target.offered).n_ingested == 61
