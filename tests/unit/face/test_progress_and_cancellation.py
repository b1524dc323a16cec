"""Following a run, and stopping it, from Python."""

import logging
import pathlib
import threading
import time
from collections.abc import Callable

import pytest

import aggregator
from tests.helpers import small_runs

N_QUANTA = 200
STAGES = ["starting", "scanning", "writing the graph", "ended"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("executed") / "run", N_QUANTA)


@pytest.fixture
def run(executed: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(executed, tmp_path / "run")


def _aggregate(
    run: small_runs.SmallRun,
    on_progress: Callable[[aggregator.ProgressUpdate], object] | None = None,
    cancellation: aggregator.Cancellation | None = None,
) -> aggregator.Summary:
    config = aggregator.AggregatorConfig(output_path=run.output)
    return aggregator.aggregate_graph(
        run.predicted, run.root, config, on_progress=on_progress, cancellation=cancellation
    )


def _stages(updates: list[aggregator.ProgressUpdate]) -> list[str]:
    return list(dict.fromkeys(update.stage for update in updates))


def test_updates_tell_stages_and_numbers(run: small_runs.SmallRun) -> None:
    updates: list[aggregator.ProgressUpdate] = []
    _aggregate(run, updates.append)
    assert _stages(updates) == STAGES
    expected = dict.fromkeys(["scanned", "ingested", "written"], N_QUANTA)
    assert updates[0].done == dict.fromkeys(expected, 0)
    assert updates[-1].done == updates[-1].total == expected
    assert all(rate > 0 for rate in updates[-1].rates.values())
    assert [u.elapsed for u in updates] == sorted(u.elapsed for u in updates)
    with pytest.raises(AttributeError):
        updates[0].stage = "other"  # type: ignore[misc]


def test_a_callback_that_fails_is_reported_once_and_costs_nothing(
    run: small_runs.SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    calls, n_before = [], run.n_datasets()

    def fail(update: aggregator.ProgressUpdate) -> None:
        calls.append(update)
        raise ValueError("no such widget")

    with caplog.at_level(logging.WARNING):
        done = _aggregate(run, fail)
    assert done.n_ingested == run.n_datasets() - n_before > 0
    assert len(calls) == 1
    [record] = [r for r in caplog.records if "callback" in r.message]
    assert "no such widget" in str(record.exc_info)


def test_a_callback_can_cancel_and_the_same_call_goes_on(run: small_runs.SmallRun) -> None:
    cancellation = aggregator.Cancellation()

    def cancel(update: aggregator.ProgressUpdate) -> None:
        if update.stage == "writing the graph":
            cancellation.cancel()

    with pytest.raises(aggregator.Interrupted, match="cancelled; what was done is kept") as caught:
        _aggregate(run, cancel, cancellation)
    assert cancellation.is_cancelled
    assert not caught.value.at_once
    assert caught.value.exit_code == 130
    assert isinstance(caught.value.summary, aggregator.Summary)
    assert caught.value.summary.n_counted == N_QUANTA
    assert not run.output.exists()
    done = _aggregate(run)
    assert done.n_reused == N_QUANTA
    assert done.n_ingested + done.n_skipped + caught.value.summary.n_ingested > 0
    assert run.output.exists()


def test_who_is_cancelled_before_changes_nothing(run: small_runs.SmallRun) -> None:
    cancellation = aggregator.Cancellation()
    cancellation.cancel()
    before = (run.root / "gen3.sqlite3").read_bytes()
    with pytest.raises(aggregator.Interrupted) as caught:
        _aggregate(run, None, cancellation)
    assert caught.value.summary is None
    assert (run.root / "gen3.sqlite3").read_bytes() == before
    assert not run.output.exists()


def test_another_thread_cancels_and_signals_are_left_alone(run: small_runs.SmallRun) -> None:
    """As in a notebook's server: the run is not in the main thread, and gets no signals."""
    cancellation, caught = aggregator.Cancellation(), []
    started = threading.Event()

    def wait(update: aggregator.ProgressUpdate) -> None:
        started.set()
        while update.stage == "scanning" and not cancellation.is_cancelled:
            time.sleep(0.01)

    def work() -> None:
        try:
            _aggregate(run, wait, cancellation)
        except aggregator.Interrupted as exc:
            caught.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(60)
    cancellation.cancel()
    thread.join(60)
    assert not thread.is_alive()
    assert len(caught) == 1
    _aggregate(run)
    assert run.output.exists()


def test_an_ingestion_is_followed_cancelled_and_goes_on(run: small_runs.SmallRun) -> None:
    _aggregate(run)
    cancellation = aggregator.Cancellation()

    def cancel(update: aggregator.ProgressUpdate) -> None:
        if update.stage == "ingesting":
            cancellation.cancel()

    with pytest.raises(aggregator.Interrupted, match="cancelled") as caught:
        aggregator.ingest_graph(
            run.root, run.output, batch_size=100, on_progress=cancel, cancellation=cancellation
        )
    assert isinstance(caught.value.summary, aggregator.IngestionSummary)
    n_before = caught.value.summary.n_deleted
    updates: list[aggregator.ProgressUpdate] = []
    done = aggregator.ingest_graph(run.root, run.output, on_progress=updates.append)
    assert done.n_deleted + n_before >= 2 * N_QUANTA
    assert updates[-1].stage == "ended"
    assert updates[-1].done == updates[-1].total
    assert not run.files("*_log*.json")


def test_a_synthesis_is_followed_cancelled_and_goes_on(tmp_path: pathlib.Path) -> None:
    small_runs.check_cancelled_synthesis(tmp_path / "run", n_processes=1)
