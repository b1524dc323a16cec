"""After our ingestion of a graph, the reference finds what it would have left itself, and reads all of it."""

from __future__ import annotations

import os
import pathlib
import signal
from typing import Any

import pytest

from tests.helpers import graph_ingestion_case, kills, thinning
from tests.helpers.oracle import compare, difference, reference, runs

Case = graph_ingestion_case.Case

_expected: dict[int, Any] = {}


@pytest.fixture
def expected(template: Case, tmp_path: pathlib.Path) -> Any:
    """Return what the reference leaves, but for the differences that are meant."""
    if id(template) not in _expected:
        theirs = template.copy(tmp_path / "theirs")
        reference.ingest_graph(theirs.run, theirs.graph)
        _expected[id(template)] = our_rows(theirs)
        runs.remove_database(theirs.run)
    return _expected[id(template)]


def our_rows(case: Case) -> Any:
    """Return the database without what only the reference does."""
    return graph_ingestion_case.without_differences(case.rows(), case.run.marks["logs_without_content"])


def test_rows_are_those_of_the_reference(case: Case, expected: Any) -> None:
    empty = case.run.marks["logs_without_content"]
    assert empty
    assert not set(empty) & set(case.rows()["dataset"])
    case.ingest()
    difference.assert_same(expected, case.rows(), "Databases")
    assert not case.graph.exists()
    assert [path for path in case.originals() if path.exists()] == blocked(case)


def blocked(case: Case) -> list[pathlib.Path]:
    """Return existing original files of datasets that are not in the database: those of blocked quanta."""
    known = set(case.rows()["dataset"])
    entries = case.run.manifest["quanta"] + case.run.manifest["init"]
    found = [
        case.run.root / path
        for entry in entries
        for connection in ("_metadata", "_log", "_config")
        for dataset, path in entry["outputs"].get(connection, ())
        if dataset not in known
    ]
    return [path for path in found if path.exists()]


@pytest.mark.parametrize("step", thinning.thinned([1, 29], [29]))
def test_reference_reads_everything_from_the_graph(
    aggregated: Case, tmp_path: pathlib.Path, step: int
) -> None:
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from lsst.daf.butler import Butler

    case = aggregated.copy(tmp_path)
    done = case.ingest()
    for path in case.originals():
        # Whatever is left there can't be what is read.
        path.unlink(missing_ok=True)
    run = case.run
    count = compare.butler_gets_everything(run.root, run.run, run.marks["missing_files"], step)
    assert count > done.n_ingested > 500
    with Butler.from_config(str(run.root), collections=run.run) as butler:
        graph = butler.get("run_provenance")
        assert len(graph.quantum_only_xgraph) == len(run.manifest["quanta"])
        chosen = [e["id"] for e in run.quanta("isr", visit=102)]
        for component in ("logs", "metadata"):
            found = butler.get(f"run_provenance.{component}", parameters={"quanta": chosen})
            assert sorted(map(str, found)) == sorted(chosen)
        assert "python" in butler.get("run_provenance.packages")
        [entry] = run.quanta("isr", visit=102, detector=1)
        log = butler.get("isr_log", visit=102, detector=1, instrument="OracleCam")
        assert any("Behaviour of" in record.message for record in log)
        assert (
            str(butler.find_dataset("isr_log", dict(entry["data_id"])).id) == entry["outputs"]["_log"][0][0]
        )


POINTS = [
    *("placed:1", "forget:2", "forgotten:2", "graph:1"),
    *("graph-ingested:1", "insert:3", "committed:3", "deleted:2"),
]
KILLS = [(kind, point) for kind in ("sqlite", "postgresql") for point in POINTS]
CHOSEN = [("sqlite", "forgotten:2"), ("sqlite", "committed:3"), ("postgresql", "insert:3")]


@pytest.mark.parametrize(("template", "point"), thinning.thinned(KILLS, CHOSEN), indirect=["template"])
def test_reference_finishes_what_was_killed(
    case: Case, expected: Any, tmp_path: pathlib.Path, point: str
) -> None:
    """The rows are complete; only files of the last batches can be left, which it does not look for.

    Those of one batch are deleted while the next one is committed.
    """
    marker = tmp_path / "marker"
    with case.start("--batch-size", "100", stop_at=point, marker=marker) as running:
        kills.wait_for(marker, running)
        os.kill(running.pid, signal.SIGKILL)
        running.communicate(timeout=120)
    # Without a graph, the reference finishes only what has been recorded.
    given = "graph" not in case.rows()["dataset"]
    reference.ingest_graph(case.run, case.graph if given else None)
    difference.assert_same(expected, our_rows(case), "Databases")
    assert len([path for path in case.originals() if path.exists()]) <= len(blocked(case)) + 2 * 100
    case.finish(given=False)
    assert [path for path in case.originals() if path.exists()] == blocked(case)


def test_ours_finishes_what_the_reference_left(
    case: Case, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped anywhere, the reference leaves something that we finish."""
    from lsst.daf.butler.direct_butler import DirectButler
    from lsst.pipe.base.quantum_graph import ingest_graph as module

    class StoppedError(Exception):
        pass

    def stop(owner: Any, name: str, count: int) -> None:
        original, left = getattr(owner, name), [count]

        def stopping(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                raise StoppedError
            return original(*args, **kwargs)

        patch.setattr(owner, name, stopping)

    ingester = module._GraphIngester
    for owner, name, count in (
        (ingester, "_run_forget", 3),
        (ingester, "ingest_graph_dataset", 1),
        (ingester, "_run_clean_and_ingest", 3),
        # After the files of a batch have been deleted, and before their rows are there.
        (DirectButler, "ingest", 2),
    ):
        with monkeypatch.context() as patch:
            stop(owner, name, count)
            with pytest.raises(StoppedError):
                reference.ingest_graph(case.run, case.graph, batch_size=100, transfer="copy")
    case.ingest(given=False)
    difference.assert_same(expected, our_rows(case), "Databases")
    assert [path for path in case.originals() if path.exists()] == blocked(case)


def test_graph_that_the_reference_has_ingested_where_it_was(aggregated: Case, tmp_path: pathlib.Path) -> None:
    """With "direct", the reference stops for good after deleting files; the graph is used where it is."""
    from lsst.daf.butler import Butler

    case = aggregated.copy(tmp_path)
    with pytest.raises(RuntimeError, match="not within datastore"):
        reference.ingest_graph(case.run, case.graph, batch_size=100, transfer="direct")
    done = case.ingest(given=False)
    assert done.n_missing >= 100
    assert [path for path in case.originals() if path.exists()] == blocked(case)
    with Butler.from_config(str(case.run.root), collections=case.run.run) as butler:
        log = butler.get("isr_log", visit=102, detector=1, instrument="OracleCam")
        assert any("Behaviour of" in record.message for record in log)
