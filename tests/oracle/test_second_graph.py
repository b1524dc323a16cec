"""A second graph that redoes the failures of a run whose first graph is ingested (skip existing, clobber)."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import pytest

import aggregator
from tests.helpers import databases

pytest.importorskip("lsst.pipe.base")

from tests.helpers.oracle import compare, execution, reference, repository, runs

PLANS = {"isr": {"visit=101,detector=1": "raise,ok", "visit=102,detector=2": "late,ok"}, **runs.NOTHING}
FIRST, SECOND = "predicted.qg", "second.qg"


def copy(root: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(root, directory / "repo"))


@pytest.fixture(scope="module", params=[False, True], ids=["", "promised"])
def executed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a repository with an ingested graph, in which a second one has been executed, and a promise."""
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    directory = tmp_path_factory.mktemp("second")
    root = directory / "repo"
    root.mkdir()
    graph = repository.build(root, repository.Size(3, 2, 2), PLANS)
    execution.execute(root, graph, execution.order(graph), 0, raise_on_partial_outputs=True)
    provenance = directory / "first.qg"
    aggregate(root, FIRST, provenance, promise_ingest_graph=request.param)
    aggregator.ingest_graph(root, provenance)
    again = repository.build_again(root, graph, SECOND)
    execution.execute(root, again, execution.order(again), 1)
    return root, request.param


def aggregate(root: pathlib.Path, name: str, output: pathlib.Path, **options: Any) -> Any:
    config = aggregator.AggregatorConfig(output_path=str(output), mock_storage_classes=True, **options)
    return aggregator.aggregate_graph(str(root / name), str(root), config)


def rows(root: pathlib.Path) -> Any:
    return compare.database_rows(databases.Sqlite(root / "gen3.sqlite3"))


@pytest.mark.ordering("B2")
def test_second_graph_is_aggregated_as_the_reference_does(executed: Any, tmp_path: pathlib.Path) -> None:
    root, promised = executed
    theirs, ours = (copy(root, tmp_path / who) for who in ("theirs", "ours"))
    graphs = [each.parent / "second.qg" for each in (theirs, ours)]
    options = {"promise_ingest_graph": promised}
    reference.aggregate_files(str(theirs / SECOND), str(theirs), output_path=str(graphs[0]), **options)
    done = aggregate(ours, SECOND, graphs[1], **options)
    assert done.n_ingested > 0
    assert rows(ours) == rows(theirs)
    compare.assert_provenance_equal(*graphs, ours, predicted_path=ours / SECOND)
    with pytest.raises(aggregator.RefusedError, match="holds its provenance graph already"):
        aggregate(ours, FIRST, tmp_path / "first.qg")


def test_second_graph_cannot_take_the_place_of_files(executed: Any, tmp_path: pathlib.Path) -> None:
    """The reference lets datasets refer to the first graph then, which does not hold them."""
    root, promised = executed
    ours, graph = copy(root, tmp_path), tmp_path / "second.qg"
    aggregate(ours, SECOND, graph, promise_ingest_graph=promised)
    before = rows(ours), files(ours)
    with pytest.raises(aggregator.RefusedError, match="A run has one provenance graph"):
        aggregator.ingest_graph(ours, graph)
    assert (rows(ours), files(ours)) == before
    # What was promised comes into the database as it is.
    done = aggregate(ours, SECOND, graph)
    assert (done.n_ingested > 0) == promised
    assert set(recorded(ours)) <= files(ours)


@pytest.mark.ordering("O2")
def test_logs_of_a_second_attempt_are_no_originals_of_the_first_graph(
    executed: Any, tmp_path: pathlib.Path
) -> None:
    """They have the ids and paths of the first attempt's, whose content the first graph holds."""
    root, _ = executed
    ours = copy(root, tmp_path)
    logs = {path for path in files(ours) if "/isr_log/" in path}
    assert len(logs) == 2
    with pytest.raises(aggregator.AggregatorError, match="2 original files are not"):
        aggregator.ingest_graph(ours, output_run=repository.RUN)
    assert logs <= files(ours)


def test_ingested_graph_that_cannot_be_read(executed: Any, tmp_path: pathlib.Path) -> None:
    """Nobody can tell then which quanta it holds; with the file back, the same command goes on."""
    ours, graph = copy(executed[0], tmp_path), tmp_path / "second.qg"
    [place] = (ours / repository.RUN / "run_provenance").iterdir()
    hidden = place.rename(tmp_path / "hidden.qg")
    before = rows(ours)
    with pytest.raises(aggregator.AggregatorError, match="put the graph back") as caught:
        aggregate(ours, SECOND, graph)
    assert caught.value.exit_code == 1
    assert rows(ours) == before
    hidden.rename(place)
    assert aggregate(ours, SECOND, graph).n_ingested > 0


def files(root: pathlib.Path) -> set[str]:
    return {str(path.relative_to(root)) for path in (root / repository.RUN).rglob("*") if path.is_file()}


def recorded(root: pathlib.Path) -> list[str]:
    query = f"SELECT path FROM file_datastore_records WHERE path LIKE '{repository.RUN}/%'"
    return [path for (path,) in databases.Sqlite(root / "gen3.sqlite3").query(query)]
