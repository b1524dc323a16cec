"""Aggregation beside the ingestion of the run's graph: whoever comes first wins, the other one says so."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.storage import fault_points

import aggregator
from tests.helpers import graph_ingestion_case, thinning
from tests.helpers.oracle import reference, runs

Case = graph_ingestion_case.Case


@pytest.fixture
def small(small_template: Case, tmp_path: pathlib.Path) -> Iterator[Case]:
    """Return an aggregated run of 40 quanta in either kind of database."""
    copy = small_template.copy(tmp_path / "small")
    yield copy
    runs.remove_database(copy.run)


def aggregate(case: Case, directory: pathlib.Path, **options: Any) -> Any:
    """Aggregate the run again, with a checkpoint of its own, in several transactions."""
    config = aggregator.AggregatorConfig(
        output_path=str(directory / "again.qg"),
        checkpoint_dir=str(directory / "checkpoint"),
        mock_storage_classes=True,
        ingest_batch_size=60,
        **options,
    )
    return aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), config)


def at(monkeypatch: pytest.MonkeyPatch, **calls: Callable[[], Any]) -> None:
    """Let something happen the first time that each of some points is reached."""

    def reached(name: str) -> None:
        if name in calls:
            calls.pop(name)()

    monkeypatch.setattr(fault_points, "reached", reached)


MEANWHILE = [
    (kind, dry_run, point)
    for kind in ("sqlite", "postgresql")
    for dry_run, points in (
        (False, ("shard", "digest", "committed", "ledger", "logs", "copy", "assembly")),
        (True, ("digest", "assembly")),
    )
    for point in points
]
CHOSEN = [*MEANWHILE[:9], ("postgresql", False, "digest"), ("postgresql", False, "committed")]
"""Each step with SQLite; what a transaction may see is all that is different with PostgreSQL."""


@pytest.mark.ordering("B2", "G1", "T1")
@pytest.mark.parametrize(
    ("small_template", "dry_run", "point"), thinning.thinned(MEANWHILE, CHOSEN), indirect=["small_template"]
)
def test_graph_is_ingested_meanwhile(
    small: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, point: str, dry_run: bool
) -> None:
    """Files that were not looked at yet are gone: no graph may tell that their quanta failed."""
    older = small.graph.read_bytes()
    (tmp_path / "again.qg").write_bytes(older)
    at(monkeypatch, **{point: small.ingest})
    with pytest.raises(aggregator.AggregatorError, match="another process has ingested") as caught:
        aggregate(small, tmp_path, dry_run=dry_run)
    assert caught.value.exit_code == 1
    assert (tmp_path / "again.qg").read_bytes() == older
    monkeypatch.undo()
    rows = small.rows()
    with pytest.raises(aggregator.RefusedError, match="holds its provenance graph already"):
        aggregate(small, tmp_path, dry_run=dry_run)
    assert small.rows() == rows
    assert small.ingest(given=False).n_present == len(small.originals())


@pytest.mark.ordering("B2")
@pytest.mark.parametrize("by", ["us", "reference"])
def test_graph_is_recorded_while_a_batch_is_written(
    small: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Who records has to wait for the batch that is under way; the next one finds the record."""
    events: list[str] = []

    def ingest() -> None:
        if by == "us":
            with small.start() as running:
                running.communicate(timeout=120)
        else:
            reference.ingest_graph(small.run, small.graph)
        events.append("ingested")

    other = threading.Thread(target=ingest)

    def begin() -> None:
        other.start()
        other.join(4.0)
        events.append("written")

    at(monkeypatch, insert=begin, committed=other.join)
    with pytest.raises(aggregator.AggregatorError, match="another process has ingested"):
        aggregate(small, tmp_path)
    assert events == ["written", "ingested"]


@pytest.mark.ordering("I3", "T1")
@pytest.mark.parametrize("point", ["placed", "examined", "forgotten", "graph"])
def test_run_is_aggregated_before_its_graph_is_recorded(
    small: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Rows that come back with files of their own are replaced all the same."""
    at(monkeypatch, **{point: lambda: aggregate(small, tmp_path)})
    small.ingest()
    monkeypatch.undo()
    assert not any(path.exists() for path in small.originals())
    assert small.ingest(given=False).n_present == len(small.originals())
    assert backed(small) == len(small.originals()) + 1


@pytest.mark.ordering("B2", "B6", "T1")
@pytest.mark.parametrize("point", ["graph-ingested", "committed", "deleted"])
def test_run_is_aggregated_after_its_graph_is_recorded(
    small: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def refused() -> None:
        with pytest.raises(aggregator.RefusedError, match="holds its provenance graph already"):
            aggregate(small, tmp_path)

    at(monkeypatch, **{point: refused})
    small.ingest()
    monkeypatch.undo()
    assert not any(path.exists() for path in small.originals())
    assert backed(small) == len(small.originals()) + 1


def backed(case: Case) -> int:
    """Return the number of datasets that the graph backs, itself included."""
    path = case.target.relative_to(case.run.root)
    [[count]] = case.run.tables.query(f"SELECT count(*) FROM file_datastore_records WHERE path = '{path}'")
    return int(count)
