"""Graphs of another run of the same name: built again, or of another repository. Nothing may come of them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

import aggregator
from tests.helpers import databases, graph_ingestion_case, samples
from tests.helpers.oracle import runs

Case = graph_ingestion_case.Case


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a run like `small_aggregated`, built and executed again: other ids, the same data IDs."""
    pytest.importorskip("lsst.pipe.base")
    directory = tmp_path_factory.mktemp("foreign")
    run = runs.make_oracle_run(directory / "run", visits=3, detectors=2, patches=2, trouble=False)
    return graph_ingestion_case.aggregate(run, directory)


@pytest.fixture
def small(small_template: Case, tmp_path: pathlib.Path) -> Iterator[Case]:
    copy = small_template.copy(tmp_path / "small")
    yield copy
    runs.remove_database(copy.run)


def content(case: Case) -> Any:
    return case.rows(), case.files(), sorted(path.name for path in case.run.root.iterdir())


@pytest.mark.ordering("I1")
def test_foreign_provenance_graph(small: Case, foreign: Case) -> None:
    before = content(small)
    for options in ({}, {"transfer": "copy"}, {"output_run": small.run.run}):
        with pytest.raises(aggregator.RefusedError, match="holds nothing of this graph") as caught:
            aggregator.ingest_graph(small.run.root, foreign.graph, **options)
        assert caught.value.exit_code == 2
    assert content(small) == before
    assert foreign.graph.exists()
    small.ingest()


@pytest.mark.ordering("B5", "B6")
@pytest.mark.parametrize("n_processes", [1, 2])
def test_foreign_predicted_graph(
    small: Case, foreign: Case, tmp_path: pathlib.Path, n_processes: int
) -> None:
    before = content(small)
    config = aggregator.AggregatorConfig(
        output_path=str(tmp_path / "out.qg"),
        checkpoint_dir=str(tmp_path / "checkpoint"),
        mock_storage_classes=True,
        n_processes=n_processes,
    )
    with pytest.raises(aggregator.RefusedError, match="holds nothing of this graph"):
        aggregator.aggregate_graph(str(foreign.run.predicted_path), str(small.run.root), config)
    assert content(small) == before
    assert not (tmp_path / "out.qg").exists()
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.ordering("I1")
@pytest.mark.parametrize("promised", [False, True])
def test_graph_of_a_run_that_was_never_aggregated(
    clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path, promised: bool
) -> None:
    """Once its graph is ingested, its outputs could not come into the database any more."""
    run = runs.copy_run(clean_oracle_run, tmp_path / "repo")
    config = aggregator.AggregatorConfig(
        output_path=str(tmp_path / "out.qg"), mock_storage_classes=True, promise_ingest_graph=promised
    )
    graph, repo = str(run.predicted_path), str(run.root)
    aggregator.aggregate_graph(graph, repo, dataclasses.replace(config, dry_run=True))
    with contextlib.closing(sqlite3.connect(run.database)) as db, db:
        db.execute("INSERT INTO collection (name, type) VALUES (?, 1)", (run.run,))
        db.execute("INSERT INTO run (collection_id) SELECT max(collection_id) FROM collection")
    db.close()
    case = Case(run, tmp_path / "out.qg")
    before = content(case)
    with pytest.raises(aggregator.RefusedError, match="Aggregate it into the run first"):
        case.ingest()
    assert content(case) == before
    aggregator.aggregate_graph(graph, repo, config)
    case.ingest()
    assert not any(path.exists() for path in case.originals())


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a run that has left nothing but logs of failures, aggregated with a promise."""
    pytest.importorskip("lsst.pipe.base")
    from tests.helpers.oracle import execution, repository

    directory = tmp_path_factory.mktemp("failed")
    root = directory / "repo"
    root.mkdir()
    graph = repository.build(root, repository.Size(3, 2, 2), {"isr": {"": "raise"}})
    execution.execute(root, graph, execution.order(graph), 0)
    manifest = execution.manifest(root, graph, [])
    run = runs.OracleRun(directory, root, repository.RUN, repository.CHAIN, manifest, {})
    for entry in manifest["init"]:
        for path in run.files(entry):
            path.unlink()
    case = Case(run, directory / "provenance.qg")
    config = aggregator.AggregatorConfig(
        output_path=str(case.graph), mock_storage_classes=True, promise_ingest_graph=True
    )
    assert aggregator.aggregate_graph(str(run.predicted_path), str(root), config).n_ingested == 0
    return case


def test_run_of_which_the_database_has_nothing(failed: Case, tmp_path: pathlib.Path) -> None:
    """All that there is of it was promised to the graph."""
    case = failed.copy(tmp_path)
    logs = [path for path in case.run.root.rglob("isr_log*") if path.is_file()]
    assert len(logs) == 6
    case.ingest()
    assert not any(path.exists() for path in logs)


@pytest.mark.ordering("I1")
def test_foreign_graph_of_failures(small: Case, failed: Case) -> None:
    """What it would have written is there under other ids."""
    before = content(small)
    with pytest.raises(aggregator.RefusedError, match="holds nothing of this graph"):
        aggregator.ingest_graph(small.run.root, failed.graph)
    assert content(small) == before


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_graph_that_is_replaced_while_the_run_begins(sample: samples.Sample, n_processes: int) -> None:
    """Coordinator and workers open it one after the other; nobody works with parts of two graphs."""
    graph, other = sample.repo / "predicted.qg", sample.root / "other.qg"
    shutil.copy(graph, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("other", b"")

    def replace(update: aggregator.ProgressUpdate) -> None:
        if update.stage == "scanning" and other.exists():
            other.rename(graph)

    before = databases.Sqlite(sample.repo / "gen3.sqlite3").content()
    config = aggregator.AggregatorConfig(mock_storage_classes=True, n_processes=n_processes)
    with pytest.raises(aggregator.AggregatorError, match="was replaced by another graph") as caught:
        aggregator.aggregate_graph(graph, sample.repo, config, on_progress=replace)
    assert caught.value.exit_code == 1
    assert databases.Sqlite(sample.repo / "gen3.sqlite3").content() == before
    assert samples.aggregate(sample, fresh=True).n_ingested > 0
