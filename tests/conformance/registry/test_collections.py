"""Collections and dataset types without the reference: errors, repetition, concurrent processes."""

import multiprocessing
import threading
import uuid

import pytest
from aggregator.butler.registry import collection_rows, dataset_type_rows, registry
from aggregator.storage import errors

from tests.helpers import databases, registry_rows


def test_registering_a_run_twice(database: databases.Database) -> None:
    with database.open() as opened:
        opened.collections.register_run("u/a")
        before = database.fingerprint()
        opened.collections.register_run("u/a")
        assert database.fingerprint() == before
        row = opened.collections.find("u/a")
        assert row == collection_rows.CollectionRow(3, "u/a", collection_rows.CollectionType.RUN)
        assert opened.collections.find("u/b") is None


def test_runs_come_one_by_one_oldest_first(database: databases.Database) -> None:
    with database.open() as opened:
        opened.collections.register_run("u/b")
        opened.collections.register_chain("u/chain")
        opened.collections.register_run("u/a")
        runs = opened.collections.runs()
        assert next(runs) == "in/raw"
        runs.close()
        opened.collections.register_run("u/c")
        assert list(opened.collections.runs()) == ["in/raw", "u/b", "u/a", "u/c"]


def test_run_without_its_second_row_is_completed(database: databases.Database) -> None:
    database.execute("INSERT INTO collection (collection_id, name, type) VALUES (3, 'u/a', 1)")
    with database.open() as opened:
        opened.collections.register_run("u/a")
    assert database.query("SELECT collection_id FROM run") == [(1,), (3,)]


def test_name_taken_by_another_type(database: databases.Database) -> None:
    with database.open() as opened:
        with pytest.raises(errors.AggregatorError, match=r"'in/all' is a CHAINED collection, not a RUN"):
            opened.collections.register_run("in/all")
        with pytest.raises(errors.AggregatorError, match=r"'in/raw' is a RUN collection, not a CHAINED"):
            opened.collections.register_chain("in/raw")
        with pytest.raises(errors.AggregatorError, match=r"'in/raw' is a RUN collection, not a CHAINED"):
            opened.collections.update_output_chain("in/raw", "in/raw", [])


@pytest.mark.parametrize(("run", "inputs"), [("u/none", ["in/all"]), ("in/raw", ["in/all", "u/none"])])
def test_output_chain_of_missing_collections_changes_nothing(
    database: databases.Database, run: str, inputs: list[str]
) -> None:
    """A chain left without its inputs would not get them at the next try."""
    before = database.content()
    with (
        database.open() as opened,
        pytest.raises(errors.AggregatorError, match="no collection 'u/none'"),
    ):
        opened.collections.update_output_chain("u/chain", run, inputs)
    assert database.content() == before


def test_chain_that_would_contain_itself(database: databases.Database) -> None:
    with database.open() as opened, opened._db.writing() as connection:
        rows = collection_rows.CollectionRows(opened._tables, connection)
        rows.register("u/outer", collection_rows.CollectionType.CHAINED)
        rows.prepend("u/outer", ["in/all"])
        for name in ("in/all", "u/outer"):
            with pytest.raises(errors.AggregatorError, match="'in/all' would contain itself"):
                rows.prepend("in/all", [name])


def test_missing_dataset_types_are_all_named(database: databases.Database) -> None:
    with database.open() as opened:
        assert opened.dataset_types.rows([]) == {}
        assert set(opened.dataset_types.rows(["raw", "refcat"])) == {"raw", "refcat"}
        with pytest.raises(errors.AggregatorError, match=r": not registered: dataset type a, b\.") as caught:
            opened.dataset_types.rows(["raw", "b", "a"])
        assert database.shown in str(caught.value)


@pytest.mark.parametrize(
    ("storage_class", "dimensions", "is_calibration"),
    [
        ("Plot", ["visit", "detector"], False),
        ("_mock_StructuredDataDict", ["visit"], False),
        ("_mock_StructuredDataDict", ["visit", "detector"], True),
    ],
)
def test_conflicting_dataset_type(
    database: databases.Database,
    storage_class: str,
    dimensions: list[str],
    is_calibration: bool,
) -> None:
    before = database.content()
    known = (
        r"storage class _mock_StructuredDataDict, dimensions \{instrument, detector, visit\}, no calibration"
    )
    with (
        database.open() as opened,
        pytest.raises(
            errors.AggregatorError, match=f"'raw' .*: {known}; needed is: storage class .*{storage_class}"
        ),
    ):
        opened.dataset_types.register("raw", storage_class, dimensions, is_calibration=is_calibration)
    assert database.content() == before


def test_unknown_dimension(database: databases.Database) -> None:
    with (
        database.open() as opened,
        pytest.raises(errors.AggregatorError, match="'telescope' does not exist"),
    ):
        opened.dataset_types.register("a", "Plot", ["telescope"])


def test_registered_types_need_no_lock(database: databases.Database) -> None:
    """A repeated run must not wait for a writer only to find that there is nothing to do."""
    with (
        database.open() as first,
        database.open(busy_timeout_ms=1) as second,
        first._db.writing() as connection,
    ):
        first._db.lock(connection, first._tables.graph_key, first._tables.graph_definition)
        second.dataset_types.register("raw", "_mock_StructuredDataDict", ["visit", "detector"])
        second.collections.register_run("in/raw")


def test_two_processes_add_one_dimension_group(database: databases.Database) -> None:
    """The second waits for the first, and uses the same group and table."""
    with database.open() as first, database.open() as second:
        found = []
        other = threading.Thread(
            target=lambda: found.append(second.dataset_types.register("b", "Plot", ["band", "detector"]))
        )
        with first._db.writing() as connection:
            wanted = first.dataset_types.definition("a", "Plot", ["band", "detector"], False)
            mine = dataset_type_rows.register(first._tables, connection, [wanted])["a"]
            other.start()
            other.join(0.3)
            assert other.is_alive()
        other.join()
        assert [row.tag_table for row in found] == [mine.tag_table]
    # Those of the sample, and this one.
    assert database.count("dimension_graph_key") == 3


N_TYPES, N_BATCHES = 8, 4
VISITS, DETECTORS = (101, 102, 103), (1, 2)


def work(
    url: str, namespace: str | None, number: int, barrier: "multiprocessing.synchronize.Barrier"
) -> None:
    """Register the same types as others do, and ingest into a run of our own and into a common one."""
    with registry.open_registry(url, namespace, writeable=True) as opened:
        barrier.wait()
        groups = (["visit", "detector"], ["visit"], ["patch"], [])
        rows = [
            opened.dataset_types.register(f"type_{n}", "Plot", groups[n % 4], is_calibration=n % 3 == 0)
            for n in range(N_TYPES)
        ]
        for run in ("u/common", f"u/own{number}"):
            opened.collections.register_run(run)
            opened.collections.update_output_chain("u/chain", run, ["in/all"])
        # Each visit and detector is one dataset; the ids of the common run do not depend on the process.
        for n in range(N_BATCHES):
            for run, space in (("u/common", 0), (f"u/own{number}", number)):
                row = rows[4 * (n % 2)]
                ids = (
                    uuid.uuid5(uuid.NAMESPACE_URL, f"{space}/{row.name}/{d}/{v}").hex
                    for v in VISITS
                    for d in DETECTORS
                )
                values = [("SampleCam", d, v) for v in VISITS for d in DETECTORS]
                pairs = [registry_rows.make(row, value, i) for value, i in zip(values, ids, strict=True)]
                result = opened.datasets.ingest(run, registry_rows.join(*pairs))
                assert result.n_ingested + result.n_skipped == len(pairs)


def test_processes_at_once(database: databases.Database) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    log = database.server.log() if isinstance(database, databases.Postgresql) else ""
    processes = [
        context.Process(target=work, args=(database.url, database.namespace, n, barrier)) for n in (1, 2, 3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with database.open(writeable=False) as opened:
        assert [len(opened.datasets.ids(f"u/own{n}")) for n in (1, 2, 3)] == [12, 12, 12]
        assert len(opened.datasets.ids("u/common")) == 12
        assert opened.collections.children("u/chain")[-1] == "in/raw"
        assert sorted(opened.collections.children("u/chain")) == [
            "in/raw",
            "u/common",
            "u/own1",
            "u/own2",
            "u/own3",
        ]
    counts = (
        "SELECT count(*), count(DISTINCT name), count(DISTINCT dimensions_key) FROM dataset_type WHERE id > 2"
    )
    assert database.query(counts) == [(N_TYPES, N_TYPES, 4)]
    # Groups: htm7 and visit+detector were there, visit and patch are new, the empty one has no row.
    assert database.query("SELECT count(*) FROM dimension_graph_key") == [(4,)]
    if isinstance(database, databases.Sqlite):
        assert database.query("PRAGMA foreign_key_check") == []
    if isinstance(database, databases.Postgresql):
        # All take their locks in the same order, so they never get in each other's way.
        assert "deadlock detected" not in database.server.log().removeprefix(log)
