"""The reference aggregates one copy of a run and this project another: the results are the same."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import aggregator
from tests.helpers import thinning
from tests.helpers.oracle import compare, reference, runs

if TYPE_CHECKING:
    from tests.helpers.oracle import fixtures


def aggregate(run: runs.OracleRun, output: pathlib.Path | None = None, **config: Any) -> Any:
    """Aggregate a copy of a run with this project; same arguments as `reference.aggregate`."""
    config.setdefault("mock_storage_classes", True)
    options = aggregator.AggregatorConfig(output_path=None if output is None else str(output), **config)
    return aggregator.aggregate_graph(str(run.predicted_path), str(run.root), options)


class Pair:
    """Copies of two runs, one for each tool."""

    def __init__(self, theirs: runs.OracleRun, ours: runs.OracleRun, directory: pathlib.Path) -> None:
        self.theirs = runs.copy_run(theirs, directory / "theirs")
        self.ours = runs.copy_run(ours, directory / "ours")
        self.their_graph = directory / "theirs.qg"
        self.our_graph = directory / "ours.qg"

    def aggregate(self, graph: bool = True, our_processes: int = 1, **config: Any) -> None:
        reference.aggregate(self.theirs, self.their_graph if graph else None, **config)
        aggregate(self.ours, self.our_graph if graph else None, n_processes=our_processes, **config)

    def check(self, graph: bool = True) -> None:
        compare.assert_databases_equal(self.theirs.tables, self.ours.tables)
        if graph:
            compare.assert_provenance_equal(self.their_graph, self.our_graph, self.ours.root)

    def remove(self) -> None:
        for each in (self.theirs, self.ours):
            runs.remove_database(each)


@pytest.fixture
def pair(
    request: pytest.FixtureRequest, oracle_run: runs.OracleRun, tmp_path: pathlib.Path
) -> Iterator[Pair]:
    run = oracle_run
    if getattr(request, "param", "sqlite") == "postgresql":
        run = request.getfixturevalue("postgresql_oracle_run")
    made = Pair(run, run, tmp_path)
    yield made
    made.remove()


@pytest.fixture
def aggregated(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Pair]:
    """Return copies of a run that were aggregated by default, each with its tool."""
    kind = "" if request.param == "sqlite" else "postgresql_"
    theirs = request.getfixturevalue(f"{kind}reference_result").run
    made = Pair(theirs, request.getfixturevalue(f"{kind}oracle_run"), tmp_path)
    aggregate(made.ours)
    yield made
    made.remove()


KINDS = ["sqlite", "postgresql"]


def first_on(kind: str) -> pytest.MarkDecorator:
    """Run a test on one kind of databases, and on the other one only where all is tested."""
    return pytest.mark.parametrize("pair", thinning.thinned(KINDS, [kind]), indirect=True)


@pytest.fixture(scope="module")
def ours(
    oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[runs.OracleRun, pathlib.Path]:
    """Return a copy of the run as this project aggregates it by default, and its graph."""
    directory = tmp_path_factory.mktemp("ours")
    copy = runs.copy_run(oracle_run, directory / "repo")
    aggregate(copy, directory / "provenance.qg")
    return copy, directory / "provenance.qg"


def names(config: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in config.items())


ALL_THE_SAME: list[dict[str, Any]] = [
    {"n_processes": 1},
    {"n_processes": 2},
    {"n_processes": 3},
    {"defensive_ingest": True},
    {"zstd_dict_size": 0},
    {"zstd_dict_size": 2048, "zstd_dict_n_inputs": 40},
    {"ingest_batch_size": 10},
    {"zstd_level": 10},
    {"n_processes": 1, "zstd_dict_size": 0, "ingest_batch_size": 10},
    {"n_processes": 2, "zstd_dict_size": 2048, "zstd_dict_n_inputs": 40},
    {"n_processes": 3, "zstd_level": 10, "defensive_ingest": True},
]
"""Options that change nothing in what comes of it, one by one, and all in three runs."""


@pytest.mark.parametrize("config", thinning.thinned(ALL_THE_SAME, ALL_THE_SAME[-3:]), ids=names)
def test_defaults(
    reference_result: fixtures.Aggregated,
    oracle_run: runs.OracleRun,
    tmp_path: pathlib.Path,
    config: dict[str, Any],
) -> None:
    copy = runs.copy_run(oracle_run, tmp_path / "repo")
    done = aggregate(copy, tmp_path / "ours.qg", **config)
    compare.assert_databases_equal(reference_result.run.database, copy.database)
    compare.assert_provenance_equal(reference_result.provenance, tmp_path / "ours.qg", copy.root)
    assert done.n_ingested > 1000
    assert done.n_skipped == 0
    # Nothing is left beside what was asked for.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.qg", "repo"]
    assert not list(copy.root.glob("*.checkpoint"))


IN_POSTGRESQL: list[dict[str, Any]] = [
    {},
    {"defensive_ingest": True},
    {"ingest_batch_size": 10},
    {"n_processes": 2},
    {"n_processes": 2, "defensive_ingest": True, "ingest_batch_size": 10},
]


@pytest.mark.parametrize(
    "config", thinning.thinned(IN_POSTGRESQL, [IN_POSTGRESQL[0], IN_POSTGRESQL[-1]]), ids=names
)
def test_defaults_in_postgresql(
    postgresql_reference_result: fixtures.Aggregated,
    postgresql_oracle_run: runs.OracleRun,
    tmp_path: pathlib.Path,
    config: dict[str, Any],
) -> None:
    copy = runs.copy_run(postgresql_oracle_run, tmp_path / "repo")
    aggregate(copy, tmp_path / "ours.qg", **config)
    compare.assert_databases_equal(postgresql_reference_result.run.tables, copy.tables)
    compare.assert_provenance_equal(postgresql_reference_result.provenance, tmp_path / "ours.qg", copy.root)
    assert not list(copy.root.glob("gen3.sqlite3*"))
    runs.remove_database(copy)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("sqlite", {"promise_ingest_graph": True}),
    ("sqlite", {"update_output_chain": False}),
    ("postgresql", {"promise_ingest_graph": True}),
    ("postgresql", {"update_output_chain": False}),
]


@pytest.mark.parametrize(
    ("pair", "config"), thinning.thinned(CHANGES, [CHANGES[0], CHANGES[-1]]), indirect=["pair"]
)
def test_option(pair: Pair, config: dict[str, Any]) -> None:
    pair.aggregate(**config)
    pair.check()


@pytest.mark.parametrize("step", thinning.thinned([1, 7], [7]))
def test_butler_gets_every_dataset_from_postgresql(
    postgresql_oracle_run: runs.OracleRun, tmp_path: pathlib.Path, step: int
) -> None:
    run = runs.copy_run(postgresql_oracle_run, tmp_path / "repo")
    aggregate(run, n_processes=2)
    assert compare.butler_gets_everything(run.root, run.run, run.marks["missing_files"], step) > 1000
    runs.remove_database(run)


@pytest.mark.parametrize("kind", thinning.thinned(["", "postgresql_"], [""]))
def test_dry_run_changes_nothing_but_writes_the_graph(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, kind: str
) -> None:
    original: runs.OracleRun = request.getfixturevalue(f"{kind}oracle_run")
    run = runs.copy_run(original, tmp_path / "repo")
    aggregate(run, tmp_path / "ours.qg", dry_run=True, n_processes=2)
    assert run.tables.content() == original.tables.content()
    if run.postgresql is None:
        assert run.database.read_bytes() == original.database.read_bytes()
    graph = request.getfixturevalue(f"{kind}reference_result").provenance
    compare.assert_provenance_equal(graph, tmp_path / "ours.qg", run.root)
    runs.remove_database(run)


@first_on("sqlite")
def test_incomplete(pair: Pair) -> None:
    pair.aggregate(graph=False, incomplete=True)
    pair.check(graph=False)


@first_on("postgresql")
def test_incomplete_then_complete(pair: Pair) -> None:
    for run in (pair.theirs, pair.ours):
        runs.show(run, stage="pass1", fraction=0.5)
    pair.aggregate(graph=False, incomplete=True)
    pair.check(graph=False)
    for run in (pair.theirs, pair.ours):
        runs.show(run)
    pair.aggregate()
    pair.check()


@first_on("sqlite")
def test_dataset_types_registered_before(pair: Pair) -> None:
    for run in (pair.theirs, pair.ours):
        _register_dataset_types(run)
    pair.aggregate(register_dataset_types=False)
    pair.check()


def _register_dataset_types(run: runs.OracleRun) -> None:
    from lsst.daf.butler import Butler
    from lsst.pipe.base.pipeline_graph import TaskImportMode
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraphReader

    mode = TaskImportMode.DO_NOT_IMPORT
    with (
        PredictedQuantumGraphReader.open(str(run.predicted_path), import_mode=mode) as reader,
        Butler.from_config(str(run.root), writeable=True) as butler,
    ):
        reader.components.pipeline_graph.register_dataset_types(
            butler, include_inputs=False, include_packages=True, include_configs=True, include_logs=True
        )


def test_dataset_types_missing_is_an_error_that_names_them(
    oracle_run: runs.OracleRun, tmp_path: pathlib.Path
) -> None:
    copy = runs.copy_run(oracle_run, tmp_path / "repo")
    with pytest.raises(aggregator.AggregatorError, match="is not registered, and none is to be"):
        aggregate(copy, register_dataset_types=False)


SECOND = [("sqlite", 1), ("sqlite", 2), ("postgresql", 1), ("postgresql", 2)]


@pytest.mark.parametrize(
    ("aggregated", "n_processes"),
    thinning.thinned(SECOND, [SECOND[0], SECOND[-1]]),
    indirect=["aggregated"],
)
def test_second_run_skips_everything(aggregated: Pair, n_processes: int) -> None:
    before = compare.database_rows(aggregated.ours.tables)
    reference.aggregate(aggregated.theirs, aggregated.their_graph)
    done = aggregate(aggregated.ours, aggregated.our_graph, n_processes=n_processes)
    aggregated.check()
    assert done.n_ingested == 0
    assert done.n_skipped > 1000
    assert compare.database_rows(aggregated.ours.tables) == before


@pytest.mark.parametrize("aggregated", thinning.thinned(KINDS, ["postgresql"]), indirect=True)
def test_reference_takes_over_after_us_and_we_after_the_reference(aggregated: Pair) -> None:
    aggregate(aggregated.theirs)
    reference.aggregate(aggregated.ours)
    aggregated.check(graph=False)


@pytest.mark.parametrize("step", thinning.thinned([1, 7], [7]))
def test_butler_gets_every_dataset(ours: tuple[runs.OracleRun, pathlib.Path], step: int) -> None:
    run, _ = ours
    assert compare.butler_gets_everything(run.root, run.run, run.marks["missing_files"], step) > 1000


def test_reference_ingests_and_reports_on_our_graph(
    ours: tuple[runs.OracleRun, pathlib.Path], reference_result: fixtures.Aggregated, tmp_path: pathlib.Path
) -> None:
    run, graph = ours
    theirs = runs.copy_run(reference_result.run, tmp_path / "theirs")
    copy = runs.copy_run(run, tmp_path / "ours")
    reports = []
    for each, path in ((copy, graph), (theirs, reference_result.provenance)):
        reports.append(reference.provenance_report(path, status_report=tmp_path / f"{each.root.name}.json"))
        reference.ingest_graph(each, path, transfer="copy")
    assert reports[0] == reports[1]
    assert "TOTAL" in reports[0]
    # Without content there is no file to read a log from: the reference's own ingestion lists them, too.
    missing = [*run.marks["missing_files"], *run.marks["logs_without_content"]]
    # All of them are read in the tests of our own ingestion.
    assert compare.butler_gets_everything(copy.root, copy.run, missing, step=29) > 1000
    # The run is closed now: files that the graph replaced would be taken for missing.
    with pytest.raises(aggregator.RefusedError, match="holds its provenance graph"):
        aggregate(copy)
