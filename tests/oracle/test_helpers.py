"""The oracle compares the reference with itself, and notices what was changed on purpose."""

from __future__ import annotations

import collections
import contextlib
import copy
import json
import math
import pathlib
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import thinning
from tests.helpers.oracle import compare, container, difference, originals, reference, runs

if TYPE_CHECKING:
    from tests.helpers.oracle import fixtures


@pytest.fixture(scope="module")
def models(reference_result: fixtures.Aggregated) -> dict[str, Any]:
    return compare.provenance_models(reference_result.provenance)


def test_run_has_all_kinds_of_quanta(oracle_run: runs.OracleRun, models: dict[str, Any]) -> None:
    quanta = models["quanta"]
    statuses = collections.Counter(quantum["status"] for quantum in quanta.values())
    assert set(statuses) == {"SUCCESSFUL", "FAILED", "BLOCKED", "ABORTED_SUCCESS"}
    assert len(quanta) == len(oracle_run.manifest["quanta"]) == 311
    assert {len(quantum["attempts"]) for quantum in quanta.values()} == {0, 1, 2, 3}
    # Some, all outputs missing; nothing to do: found by the task (three kinds) or before; partial outputs.
    assert {q["caveats"] for q in quanta.values()} >= {None, 0, 1, 3, 7, 15, 7 + 16, 7 + 32, 65}
    expected = {
        "rerun_failed": "FAILED",
        "no_metadata": "FAILED",
        "aborted": "ABORTED_SUCCESS",
        "crashed": "FAILED",
        "without_outputs": "SUCCESSFUL",
        "without_quantum": "SUCCESSFUL",
    }
    found = {mark: {quanta[node]["status"] for node in oracle_run.marks[mark]} for mark in expected}
    assert found == {mark: {status} for mark, status in expected.items()}
    failures = [quantum["attempts"][-1] for quantum in quanta.values() if quantum["status"] == "FAILED"]
    assert {attempt["exception"] is None for attempt in failures} == {True, False}


def test_run_has_files_below_failures_and_unlisted_files(
    oracle_run: runs.OracleRun, models: dict[str, Any]
) -> None:
    entries = oracle_run.manifest["quanta"]
    blocked = [entry for entry in entries if models["quanta"][entry["id"]]["status"] == "BLOCKED"]
    assert any(path.exists() for entry in blocked for path in oracle_run.files(entry))
    assert not any(path.exists() for entry in blocked[:1] for path in oracle_run.files(entry))
    [unlisted] = [entry for entry in entries if entry["id"] in oracle_run.marks["unlisted"]]
    assert oracle_run.file(unlisted, "stats").exists()
    flags = {node: block["produced"] for node, block in models["dataset_blocks"].items()}
    assert not flags[unlisted["outputs"]["stats"][0][0]]
    assert all(flags[node] for node in oracle_run.marks["missing_files"])
    assert not any(flags[node] for node in oracle_run.marks["missing_init_outputs"])


def test_run_has_a_task_that_writes_nothing_and_one_without_quanta(
    oracle_run: runs.OracleRun, models: dict[str, Any]
) -> None:
    assert models["header"]["n_task_quanta"]["idle"] == 0
    plots = [
        block for block in models["dataset_blocks"].values() if block["dataset_type_name"] == "visit_plot"
    ]
    assert len(plots) == 14
    assert not any(plot["produced"] for plot in plots)


def test_run_has_all_log_layouts_and_numbers(oracle_run: runs.OracleRun, models: dict[str, Any]) -> None:
    chosen = [e for e in oracle_run.manifest["quanta"] if e["id"] in oracle_run.marks["other_log_layout"]]
    starts = {oracle_run.file(entry, "_log").read_text()[:16] for entry in chosen}
    assert starts >= {"", '{"extended":true'}
    assert any(start.startswith("[") for start in starts)
    assert any(start.startswith('{"name"') for start in starts)
    unreadable = [m for m in models["metadata"].values() if isinstance(m, compare.MetadataUnreadable)]
    # The older reference can't read the nulls that it writes for non-finite numbers.
    assert (not unreadable) if reference.is_newest() else (len(unreadable) > 50)
    retried = next(oracle_run.quanta("measure", visit=109, detector=1))
    previous = json.loads(oracle_run.file(retried, "_log").read_text())["previous_attempts"]
    assert math.isnan(previous[0]["metadata"]["metadata"]["measure"]["scalars"]["plain_nan"])


def test_clean_run_has_only_successes(clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> None:
    run = runs.copy_run(clean_oracle_run, tmp_path / "repo")
    reference.aggregate(run, tmp_path / "provenance.qg")
    models = compare.provenance_models(tmp_path / "provenance.qg")
    assert {quantum["status"] for quantum in models["quanta"].values()} == {"SUCCESSFUL"}
    container.check_provenance(tmp_path / "provenance.qg", run.predicted_path)


@pytest.mark.exhaustive
def test_reference_agrees_with_itself(
    oracle_run: runs.OracleRun, reference_result: fixtures.Aggregated, tmp_path: pathlib.Path
) -> None:
    run = runs.copy_run(oracle_run, tmp_path / "repo")
    output = tmp_path / "provenance.qg"
    reference.aggregate_in_subprocess(run, "-o", str(output), "-j", "2", "--zstd-level", "1")
    compare.assert_databases_equal(reference_result.run.root, run.root)
    compare.assert_provenance_equal(reference_result.provenance, output, run.root, lossless=False)
    with pytest.raises(AssertionError, match="differ"):
        compare.assert_databases_equal(oracle_run.root, run.root)


def test_incomplete_then_complete_is_as_once(
    oracle_run: runs.OracleRun, reference_result: fixtures.Aggregated, tmp_path: pathlib.Path
) -> None:
    run = runs.copy_run(oracle_run, tmp_path / "repo")
    runs.show(run, fraction=0.5)
    reference.aggregate(run, incomplete=True)
    half = len(compare.database_rows(run.root)["dataset"])
    runs.show(run)
    reference.aggregate(run, defensive_ingest=True)
    assert 0 < half < len(compare.database_rows(run.root)["dataset"])
    compare.assert_databases_equal(reference_result.run.root, run.root)


def test_show_goes_back_and_forth(oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> None:
    run = runs.copy_run(oracle_run, tmp_path / "repo")
    before = {path: path.stat() for path in (run.root / run.run).rglob("*") if path.is_file()}
    count = runs.show(run, stage="pass1", fraction=0.25)
    assert count == round(0.25 * 311)
    entries = run.manifest["quanta"]
    assert any(path.exists() for entry in entries[:count] for path in run.files(entry))
    assert not any(path.exists() for entry in entries[count:] for path in run.files(entry))
    logs = {stage: sum(map(len, _attempts(run, stage))) for stage in ("pass1", "pass2", "pass3")}
    assert logs["pass1"] == 0 < logs["pass2"] < logs["pass3"]
    runs.show(run)
    after = {path: path.stat() for path in (run.root / run.run).rglob("*") if path.is_file()}
    assert {p: s.st_size for p, s in after.items()} == {p: s.st_size for p, s in before.items()}
    untouched = [path for path, status in before.items() if status.st_ino == after[path].st_ino]
    assert len(untouched) > 0.1 * len(before)


def _attempts(run: runs.OracleRun, stage: str) -> list[list[Any]]:
    runs.show(run, stage=stage)
    logs = [path for entry in run.quanta() if (path := run.file(entry, "_log")).exists()]
    return [json.loads(path.read_text())["previous_attempts"] for path in logs]


DATABASE_CHANGES = {
    "dataset": "DELETE FROM dataset WHERE id = (SELECT min(id) FROM dataset)",
    "dataset_tags": "UPDATE {tags} SET detector = 99 WHERE detector = 1 AND visit = 103",
    "collection_chain": "UPDATE collection_chain SET position = position + 7",
    "collection_summary_dataset_type": "DELETE FROM {table} WHERE dataset_type_id = {id}",
    "collection_summary_skymap": "DELETE FROM collection_summary_skymap",
    "dataset_type": "UPDATE dataset_type SET storage_class = 'int' WHERE id = {id}",
    "dataset_location": "INSERT INTO dataset_location VALUES ('Other', (SELECT min(id) FROM dataset))",
    "file_datastore_records": "UPDATE file_datastore_records SET file_size = 1 WHERE path LIKE '%log%102%'",
    "run": "UPDATE run SET host = 'here'",
    "detector": "UPDATE detector SET raft = 'R99'",
    "schema": "CREATE INDEX extra ON dataset(ingest_date)",
}


@pytest.mark.parametrize("table", thinning.thinned(DATABASE_CHANGES, list(DATABASE_CHANGES)[::3]))
def test_changed_row_is_noticed(
    reference_result: fixtures.Aggregated, tmp_path: pathlib.Path, table: str
) -> None:
    changed = _changed_database(reference_result, tmp_path, DATABASE_CHANGES[table], table=table)
    with pytest.raises(AssertionError, match=rf"\['{table}'\]"):
        compare.assert_databases_equal(reference_result.run.root, changed)


POSTGRESQL_CHANGES = [
    ("dataset", "DELETE FROM dataset"),
    ("dataset_tags", "DELETE FROM dataset_tags_00000002"),
    ("collection_chain", DATABASE_CHANGES["collection_chain"]),
    ("dataset_location", "INSERT INTO dataset_location SELECT 'Other', id FROM dataset LIMIT 1"),
    ("visit", "UPDATE visit SET timespan = int8range(1, 2) WHERE id = 101"),
    ("schema", "CREATE INDEX extra ON dataset(ingest_date)"),
    ("schema", "ALTER TABLE dataset ALTER COLUMN run_id DROP NOT NULL"),
    ("schema", "ALTER TABLE dataset_location DROP CONSTRAINT dataset_location_pkey"),
]


@pytest.mark.parametrize(
    ("table", "statement"), thinning.thinned(POSTGRESQL_CHANGES, POSTGRESQL_CHANGES[1::3])
)
def test_change_in_postgresql_is_noticed(
    postgresql_oracle_run: runs.OracleRun, table: str, statement: str
) -> None:
    assert postgresql_oracle_run.postgresql is not None
    changed = postgresql_oracle_run.postgresql.copy()
    compare.assert_databases_equal(postgresql_oracle_run.tables, changed)
    changed.execute(statement)
    with pytest.raises(AssertionError, match=rf"\['{table}'\]"):
        compare.assert_databases_equal(postgresql_oracle_run.tables, changed)
    changed.remove()


def test_dates_and_surrogate_keys_do_not_matter(
    reference_result: fixtures.Aggregated, tmp_path: pathlib.Path
) -> None:
    with contextlib.closing(sqlite3.connect(reference_result.run.database)) as connection:
        tags = connection.execute("SELECT DISTINCT tag_association_table FROM dataset_type").fetchall()
    changed = _changed_database(
        reference_result,
        tmp_path,
        "UPDATE dataset SET ingest_date = ingest_date + 1000000",
        "UPDATE dataset_type SET id = id + 1000",
        "UPDATE dataset SET dataset_type_id = dataset_type_id + 1000",
        "UPDATE collection_summary_dataset_type SET dataset_type_id = dataset_type_id + 1000",
        *[f"UPDATE {table} SET dataset_type_id = dataset_type_id + 1000" for (table,) in tags],
    )
    compare.assert_databases_equal(reference_result.run.root, changed)


def _changed_database(
    result: fixtures.Aggregated, tmp_path: pathlib.Path, *statements: str, table: str = ""
) -> pathlib.Path:
    path = tmp_path / "gen3.sqlite3"
    shutil.copy(result.run.database, path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT id, tag_association_table FROM dataset_type WHERE name = 'sources'"
        [(number, tags)] = connection.execute(query)
        texts = [statement.format(id=number, tags=tags, table=table) for statement in statements]
        assert sum(connection.execute(text).rowcount for text in texts) != 0
        connection.commit()
    return path


@pytest.fixture(scope="module")
def faithful(reference_result: fixtures.Aggregated, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return the reference's graph with the original metadata, as ours should be."""
    path = tmp_path_factory.mktemp("faithful") / "provenance.qg"
    run, graph = reference_result.run, container.Container(reference_result.provenance)
    files = originals.files(run.root, run.predicted_path)
    rows = graph.addresses("nodes")
    ids = {pairs[3]: str(node) for node, _, pairs in rows if pairs[1][1] and pairs[3][1]}
    order = iter([ids[address] for address in graph.walk("metadata")])

    def change(member: str, block: Any) -> Any:
        if member == "metadata":
            return {"attempts": originals.metadata(*files[next(order)])}
        return block

    container.rewrite(reference_result.provenance, path, change)
    return path


def test_original_metadata_are_what_is_expected(
    reference_result: fixtures.Aggregated, faithful: pathlib.Path
) -> None:
    theirs, root = reference_result.provenance, reference_result.run.root
    compare.assert_provenance_equal(theirs, faithful, root)
    with pytest.raises(AssertionError, match=r"metadata of|Original files and our metadata"):
        compare.assert_provenance_equal(theirs, theirs, root)


def _nulls(block: Any) -> None:
    found = block["attempts"][-1]["metadata"]["measure"]["scalars"]
    assert math.isnan(found["plain_nan"])
    found["plain_nan"] = 0.0


def _whole_number(block: Any) -> None:
    next(iter(block["attempts"][0]["metadata"].values()))["scalars"]["int_value"] = 7.0


BLOCK_CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "status": ("quanta", lambda block: block["attempts"][-1].update(status=-4)),
    "time": ("quanta", lambda block: block["attempts"][-1]["resource_usage"].update(run_time=0.125)),
    "inputs": ("quanta", lambda block: block["inputs"].popitem()),
    "produced": ("datasets", lambda block: block.update(produced=not block["produced"])),
    "consumers": ("datasets", lambda block: block["consumers"].pop()),
    "message": ("logs", lambda block: block["attempts"][-1][0].update(message="Other.")),
    "record": ("logs", lambda block: block["attempts"][-1].pop()),
    "number": ("metadata", _nulls),
    "type": ("metadata", _whole_number),
    "version": ("packages", lambda block: block.update(python="2.7")),
    "task": ("pipeline_graph", lambda block: block["tasks"]["isr"].update(config_str="")),
}


@pytest.mark.parametrize("what", thinning.thinned(BLOCK_CHANGES, list(BLOCK_CHANGES)[::3]))
def test_changed_block_is_noticed(
    reference_result: fixtures.Aggregated, faithful: pathlib.Path, tmp_path: pathlib.Path, what: str
) -> None:
    member, change = BLOCK_CHANGES[what]
    done: list[str] = []

    def change_first(found: str, block: Any) -> Any:
        changed = copy.deepcopy(block)
        if found == member and not done:
            try:
                change(changed)
            except (AttributeError, LookupError, TypeError):  # not such a block
                return block
            done.append(what)
        return changed

    path = tmp_path / "provenance.qg"
    container.rewrite(faithful, path, change_first)
    assert done
    with pytest.raises(AssertionError):
        compare.assert_provenance_equal(reference_result.provenance, path, reference_result.run.root)


def _swapped_rows(data: bytes) -> bytes:
    row = 16 + 8 * 9
    return data[:17] + data[17 + row : 17 + 2 * row] + data[17 : 17 + row] + data[17 + 2 * row :]


FILE_CHANGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "dead block": ("quanta.mb", lambda data: data + data[: 8 + int.from_bytes(data[:8], "big")]),
    "dead bytes": ("datasets.mb", lambda data: data + b"\0" * 3),
    "unsorted": ("nodes.addr", _swapped_rows),
    "size prefix": ("logs.mb", lambda data: (1).to_bytes(8, "big") + data[8:]),
}


@pytest.mark.parametrize("what", FILE_CHANGES)
def test_damaged_file_is_noticed(
    reference_result: fixtures.Aggregated, tmp_path: pathlib.Path, what: str
) -> None:
    member, change = FILE_CHANGES[what]
    path = tmp_path / "provenance.qg"
    with zipfile.ZipFile(reference_result.provenance) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name == member else data)
    container.check_provenance(reference_result.provenance, reference_result.run.predicted_path)
    with pytest.raises(AssertionError):
        container.check_provenance(path, reference_result.run.predicted_path)


def test_butler_gets_everything_before_and_after_ingest_graph(
    clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path
) -> None:
    run, graph = runs.copy_run(clean_oracle_run, tmp_path / "repo"), tmp_path / "provenance.qg"
    reference.aggregate(run, graph)
    count = compare.butler_gets_everything(run.root, run.run)
    assert count == len(compare.database_rows(run.root)["dataset_tags"]) - _inputs(clean_oracle_run)
    for entry in list(run.quanta("warp"))[:1]:
        run.file(entry, "warp").unlink()
        with pytest.raises(AssertionError, match=r"1 of .* not read"):
            compare.butler_gets_everything(run.root, run.run)
        lost = [entry["outputs"]["warp"][0][0]]
    measured = [d for e in run.quanta("measure") for d, _ in e["outputs"]["_metadata"]]
    reference.ingest_graph(run, graph, transfer="copy")
    # The reference cannot read the non-finite numbers that it has written.
    assert compare.butler_gets_everything(run.root, run.run, [*lost, *measured], step=7) == count + 1


def _inputs(run: runs.OracleRun) -> int:
    return len(compare.database_rows(run.root)["dataset_tags"])


@pytest.mark.parametrize("step", thinning.thinned([1, 23], [23]))
def test_butler_gets_everything_that_is_left_of_a_troubled_run(
    reference_result: fixtures.Aggregated, step: int
) -> None:
    run = reference_result.run
    assert compare.butler_gets_everything(run.root, run.run, run.marks["missing_files"], step) > 1000


def test_report(reference_result: fixtures.Aggregated, tmp_path: pathlib.Path) -> None:
    text = reference.provenance_report(
        reference_result.provenance,
        state=("BLOCKED",),
        no_state=("ABORTED_SUCCESS",),
        caveat=("PARTIAL_OUTPUTS_ERROR",),
        status_report=tmp_path / "report.json",
        data_id_table_dir=tmp_path / "tables",
    )
    assert "tests.helpers.oracle.tasks.AwkwardError" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["calibrate"]) == {"SUCCESSFUL", "FAILED", "BLOCKED"}
    assert "stack" in report
    assert "ABORTED_SUCCESS" not in report["stack"]
    assert (tmp_path / "tables" / "calibrate" / "SUCCESSFUL").is_dir()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (math.nan, None),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1], [1, 2]),
        ({1}, {2}),
    ],
)
def test_differences_are_strict(first: Any, second: Any) -> None:
    with pytest.raises(AssertionError, match="things differ"):
        difference.assert_same({"x": [first]}, {"x": [second]}, "things")


def test_nan_equals_itself() -> None:
    difference.assert_same([math.nan, math.inf], [float("nan"), float("inf")], "numbers")
