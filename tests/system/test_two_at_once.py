"""Two commands in one repository: the second comes while the first stops at a step of its life."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from tests.helpers import graph_ingestion_case, kills, thinning
from tests.helpers.oracle import runs

AGGREGATING = [
    *("manifest:1", "digest:1", "insert:1", "committed:1"),
    *("ledger:1", "logs:1", "assembly:1", "output:1"),
]
INGESTING = [
    *("placing:1", "placed:1", "forgotten:1", "graph:1", "graph-ingested:1", "committed:1", "deleted:1"),
]


@pytest.mark.ordering("T1", "G4", "B3")
@pytest.mark.parametrize(
    "point",
    thinning.thinned(
        ["manifest:1", "digest:1", "insert:1", "committed:1", "ledger:1", "logs:1", "assembly:1", "output:1"],
        ["manifest:1", "insert:1", "committed:1", "output:1"],
    ),
)
def test_aggregations_of_one_run_with_two_checkpoints(
    clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path, point: str
) -> None:
    """Both finish, each row is there once, and each graph is whole."""
    alone = kills.Case(
        runs.copy_run(clean_oracle_run, tmp_path / "alone" / "repo"), tmp_path / "alone" / "out.qg"
    )
    alone.finish_here()
    directory = tmp_path / "case"
    options = ("--ingest-batch-size", "50")
    first = kills.Case(runs.copy_run(clean_oracle_run, directory / "repo"), directory / "out.qg", options)
    more = ("--checkpoint-dir", str(tmp_path / "other.checkpoint"))
    second = dataclasses.replace(first, output=directory / "second.qg", options=(*options, *more))
    marker = tmp_path / "marker"
    with first.start(1, stop_at=point, marker=marker) as stopped:
        kills.wait_for(marker, stopped)
        with second.start(1) as other:
            if point.startswith("insert"):
                # The first one holds the database: the second one waits for it.
                with pytest.raises(subprocess.TimeoutExpired):
                    other.wait(timeout=3)
                marker.write_text("")
            _, complaints = other.communicate(timeout=120)
            assert other.returncode == 0, complaints
        marker.write_text("")
        _, complaints = stopped.communicate(timeout=120)
    assert stopped.returncode == 0, complaints
    assert first.content() == second.content() == alone.content()


@pytest.mark.ordering("T1", "I4")
@pytest.mark.parametrize("small_template", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "point",
    thinning.thinned(
        ["placing:1", "placed:1", "forgotten:1", "graph:1", "graph-ingested:1", "committed:1", "deleted:1"],
        ["placing:1", "graph:1", "committed:1"],
    ),
)
def test_ingestions_of_one_graph(
    small_template: graph_ingestion_case.Case, tmp_path: pathlib.Path, point: str
) -> None:
    """The second ends with exit code 1 and has changed nothing; show and reports go on."""
    alone = small_template.copy(tmp_path / "alone")
    alone.ingest(batch_size=20)
    case = small_template.copy(tmp_path / "case")
    marker = tmp_path / "marker"
    with case.start("--batch-size", "20", stop_at=point, marker=marker) as stopped:
        kills.wait_for(marker, stopped)
        before = case.content()
        with case.start("--batch-size", "20") as other:
            _, complaints = other.communicate(timeout=120)
            assert other.returncode == 1, complaints
            assert "Traceback" not in complaints
        for command in ("show", "provenance-report"):
            done = subprocess.run(
                [sys.executable, "-m", "aggregator", command, str(case.graph)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert case.content() == before
        marker.write_text("")
        _, complaints = stopped.communicate(timeout=120)
    assert stopped.returncode == 0, complaints
    assert case.content() == alone.content()
