"""Forgetting datasets: their rows go, and nothing else."""

from collections.abc import Iterator

import pytest
from aggregator.butler.registry import batch, new_ids
from aggregator.storage import errors

from tests.helpers import databases, registry_rows

RUN = registry_rows.RUN
TABLE = registry_rows.STORE[0]


@pytest.fixture
def target(
    sample_databases: tuple[databases.Database, databases.Database],
) -> Iterator[registry_rows.Target]:
    with registry_rows.open_target(*sample_databases) as opened:
        opened.registry.datasets.ingest(RUN, opened.offered)
        yield opened


def rows_with(database: databases.Database, ids: set[str]) -> dict[str, int]:
    """Return the number of rows of each table that have one of some ids."""
    content = database.content()
    return {
        table: count
        for table, rows in content.items()
        if (count := sum(1 for row in rows if not ids.isdisjoint(map(str, row))))
    }


def test_all_rows_go(target: registry_rows.Target) -> None:
    before = target.database.content()
    ids = [dataset_id for dataset_id, _, _ in target.offered.datasets]
    chosen, others = set(ids[::2]), set(ids[1::2])
    tables = rows_with(target.database, chosen)
    assert {"dataset", "dataset_location", TABLE} < set(tables)
    there = rows_with(target.database, others)
    assert target.registry.datasets.forget(RUN, chosen, {TABLE: []}) == len(chosen)
    assert rows_with(target.database, chosen) == {}
    assert rows_with(target.database, others) == there
    after = target.database.content()
    changed = {table for table in before if before[table] != after[table]}
    assert changed == set(tables)
    assert target.registry.datasets.forget(RUN, chosen, {TABLE: []}) == 0
    # What was forgotten can come back.
    assert target.registry.datasets.ingest(RUN, target.offered).n_ingested == len(chosen)
    assert target.database.content() == before


def test_what_has_certain_paths_is_kept(target: registry_rows.Target) -> None:
    before = target.database.content()
    ids = {dataset_id for dataset_id, _, _ in target.offered.datasets}
    kept = {file[3]: file[2] for file in target.offered.files[:5]}
    assert target.registry.datasets.forget(RUN, ids, {TABLE: list(kept)}) == len(ids) - 5
    assert registry_rows.ids(target.database, RUN) == set(kept.values())
    assert {row[0] for row in target.database.query(f"SELECT path FROM {TABLE}")} >= set(kept)
    assert len(target.database.content()["dataset"]) == len(before["dataset"]) - len(ids) + 5


def test_other_runs_are_left_alone(target: registry_rows.Target) -> None:
    before = target.database.content()
    inputs = registry_rows.ids(target.database, "in/raw")
    assert inputs
    assert target.registry.datasets.forget(RUN, {*inputs, registry_rows.NEW + "1"}, {TABLE: []}) == 0
    assert target.registry.datasets.forget(RUN, [], {TABLE: []}) == 0
    with pytest.raises(errors.AggregatorError, match="u/nobody"):
        target.registry.datasets.forget("u/nobody", inputs, {TABLE: []})
    assert target.database.content() == before


def test_sizes_of_files(target: registry_rows.Target) -> None:
    [dataset] = target.offered.datasets[:1]
    files = [file for file in target.offered.files if file[2] == dataset[0]]
    target.registry.datasets.forget(RUN, [dataset[0]], {TABLE: []})
    target.registry.datasets.ingest(RUN, batch.Batch([dataset], files, 1234))
    query = f"SELECT file_size FROM {TABLE} WHERE dataset_id = '{dataset[0]}'"
    assert target.database.query(query) == [(1234,)]
    # Rows that exist are skipped when looked at, too; the others get their size all the same.
    [other] = target.offered.datasets[1:2]
    files += [file for file in target.offered.files if file[2] == other[0]]
    target.registry.datasets.forget(RUN, [other[0]], {TABLE: []})
    done = target.registry.datasets.ingest(RUN, batch.Batch([dataset, other], files, 99), defensive=True)
    assert (done.n_ingested, done.n_skipped) == (1, 1)
    assert target.database.query(query.replace(dataset[0], other[0])) == [(99,)]
    found = list(target.registry.datasets.files(other[1].name, registry_rows.STORE[1], TABLE))
    assert {run for run, _, _ in found} == {RUN}
    assert 99 in {size for _, _, size in found}


def test_new_ids_are_in_order_of_time() -> None:
    ids = [new_ids.new() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(len(each), each[12], each[16] in "89ab") for each in ids} == {(32, "7", True)}
    assert [each[:12] for each in ids] == sorted(each[:12] for each in ids)
