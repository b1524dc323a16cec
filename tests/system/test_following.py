"""Campaigns that are followed in this process: when they end, and what trouble meanwhile leads to."""

from __future__ import annotations

import contextlib
import datetime
import logging
import pathlib
import sqlite3
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any, cast

import obstore
import pytest
from aggregator.butler import run_lock
from aggregator.butler.configuration import repository_config
from aggregator.schemas.graphs import predicted, provenance_graph
from aggregator.storage import errors

import aggregator
from aggregator.following import campaign_follower, change_watch, patience, repeated_aggregation
from aggregator.synthesis import parameters
from tests.helpers import graph_files, job_records, object_servers, postgresql_server, small_runs

if TYPE_CHECKING:
    from aggregator.storage import locks


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture
def run(template: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(template, tmp_path / "run")


def follow(
    run: small_runs.SmallRun, settle_time: float = 0.2, until: datetime.datetime | None = None, **options: Any
) -> aggregator.Summary:
    config = aggregator.AggregatorConfig(**({"output_path": run.output} | options))
    return aggregator.follow(
        run.predicted, run.root, config, interval=0.02, settle_time=settle_time, until=until
    )


def damage(run: small_runs.SmallRun) -> tuple[pathlib.Path, str]:
    """Let a log be damaged; return it, and what was in it."""
    log = run.files("report_log*json")[0]
    text = log.read_text()
    log.unlink()
    log.write_text("{")
    return log, text


def test_one_at_which_all_has_succeeded_ends_at_once(
    run: small_runs.SmallRun, template: small_runs.SmallRun, tmp_path: pathlib.Path
) -> None:
    other = small_runs.copy(template, tmp_path / "other")
    expected, done = other.aggregate(), follow(run, settle_time=1e6)
    assert graph_files.members(run.output) == graph_files.members(other.output)
    assert done.n_ingested == expected.n_ingested == run.n_datasets() - template.n_datasets()
    assert done.n_skipped == done.n_reused == 0
    assert done.counts == expected.counts


@pytest.mark.ordering("F3")
def test_no_time_passes_while_nobody_can_look(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    damage(run)
    look = change_watch.ChangeWatch.look
    failures: list[float] = []
    ends: list[bool] = []

    def fail_at_first(self: Any, survey: Any) -> bool:
        if len(failures) < 6:
            failures.append(time.monotonic())
            raise errors.MachineError("/repo", "gone")
        ends.append(look(self, survey))
        return ends[-1]

    monkeypatch.setattr(change_watch.ChangeWatch, "look", fail_at_first)
    with pytest.raises(aggregator.HeldError):
        follow(run, settle_time=0.3)
    assert failures[-1] - failures[0] > 0.5
    # What comes first is no news any more, but the time begins with it.
    assert ends[:2] == [True, True]
    assert len(ends) > 2
    assert "/repo: gone" in caplog.text
    assert "It is tried again in 0 s" in caplog.text


def test_what_cannot_be_read_is_told_at_the_end(run: small_runs.SmallRun) -> None:
    log, _ = damage(run)
    before = run.n_datasets()
    with pytest.raises(aggregator.HeldError, match="1 quantum has files that can't be read") as raised:
        follow(run)
    assert raised.value.exit_code == 1
    assert str(log) in str(raised.value)
    assert not run.output.exists()
    assert run.n_datasets() > before
    done = follow(run, unreadable="failed")
    assert done.n_failed == 1
    assert run.output.exists()


def test_what_is_repaired_meanwhile_is_used(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written to where it is, so that no directory tells of it."""
    log, text = damage(run)
    looks: list[bool] = []
    look = change_watch.ChangeWatch.look

    def repair(self: Any, survey: Any) -> bool:
        looks.append(look(self, survey))
        if len(looks) == 5:
            assert not looks[-1]
            with log.open("w") as stream:
                stream.write(text)
        return looks[-1]

    monkeypatch.setattr(change_watch.ChangeWatch, "look", repair)
    done = follow(run, settle_time=1e6)
    assert done.n_failed == done.n_problems == 0


def test_records_of_jobs_tell_of_quanta_that_left_nothing(
    run: small_runs.SmallRun,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = job_records.quanta(run, tmp_path / "copy")
    quantum, paths = next((each, paths) for each, (label, paths) in files.items() if label == "report")
    for path in paths:
        path.unlink()
    records = run.root / "jobs.log"
    records.write_text(job_records.begin(f"{quantum}_report_1"))
    looks: list[bool] = []
    look = change_watch.ChangeWatch.look

    def end_job(self: Any, survey: Any) -> bool:
        looks.append(look(self, survey))
        if len(looks) == 4:
            with records.open("a") as stream:
                stream.write(job_records.HELD)
        return looks[-1]

    monkeypatch.setattr(change_watch.ChangeWatch, "look", end_job)
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    done = follow(run, until=until, job_records=[records])
    assert done.status_counts()["ABORTED"] == 1
    assert "Everything has been attempted" in caplog.text


def test_a_dictionary_is_trained_again_when_half_has_run(
    run: small_runs.SmallRun,
    template: small_runs.SmallRun,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was trained before anything has run would compress badly."""
    other = small_runs.copy(template, tmp_path / "other")
    other.aggregate(zstd_dict_n_inputs=30)
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in [*run.run_directory.glob("*_log"), *run.run_directory.glob("*_metadata")]:
        path.rename(aside / path.name)
    looks: list[bool] = []
    look = change_watch.ChangeWatch.look

    def restore(self: Any, survey: Any) -> bool:
        looks.append(look(self, survey))
        if len(looks) == 3:
            for path in aside.iterdir():
                path.rename(run.run_directory / path.name)
        return looks[-1]

    monkeypatch.setattr(change_watch.ChangeWatch, "look", restore)
    done = follow(run, settle_time=1e6, zstd_dict_n_inputs=30)
    assert graph_files.members(run.output) == graph_files.members(other.output)
    assert done.n_ingested == run.n_datasets() - template.n_datasets()


def test_what_the_database_refuses_is_told_and_is_an_error_at_the_end(
    run: small_runs.SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(sqlite3.connect(run.root / "gen3.sqlite3")) as db, db:
        db.execute("pragma foreign_keys = off")
        db.execute("delete from visit where id = (select max(id) from visit)")
    damage(run)
    before = run.n_datasets()
    with pytest.raises(aggregator.ConflictError, match="could not be ingested, all others were"):
        follow(run)
    assert run.n_datasets() > before
    warnings = [each for each in caplog.records if "could not be ingested" in each.getMessage()]
    assert len(warnings) == 1
    assert "It is tried again" not in caplog.text


def test_a_run_that_is_gone_for_a_while_counts_as_it_was(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its file system, that is: no quantum is running again for that."""
    damage(run)
    away, looks = run.root / "unmounted", []
    look, show = campaign_follower.CampaignFollower.look, campaign_follower.CampaignFollower._show

    def look_away(self: Any) -> bool:
        looks.append(self.state.n_over)
        place = run.run_directory if len(looks) == 1 else away
        if len(looks) in (1, 4):
            place.rename(away if len(looks) == 1 else run_directory)
        return look(self)

    run_directory = run.run_directory
    shown: list[int] = []

    def note(self: Any, report: Any, before: Any) -> None:
        shown.append(self.state.n_over)
        show(self, report, before)

    monkeypatch.setattr(campaign_follower.CampaignFollower, "look", look_away)
    monkeypatch.setattr(campaign_follower.CampaignFollower, "_show", note)
    monkeypatch.setattr(campaign_follower, "_SHARE", 0)
    with pytest.raises(aggregator.HeldError):
        follow(run)
    assert set(shown) == {60}
    assert caplog.text.count("not one file of the run is there any more") == 3


def test_trouble_that_does_not_pass_ends_it(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run)
    monkeypatch.setattr(patience, "_LIMIT_SECONDS", 0.5)

    def fail(self: Any, survey: Any) -> bool:
        raise errors.MachineError("/repo", "gone")

    monkeypatch.setattr(change_watch.ChangeWatch, "look", fail)
    with pytest.raises(errors.MachineError) as raised:
        follow(run)
    assert raised.value.exit_code == 1
    assert isinstance(raised.value.summary, aggregator.Summary)
    assert raised.value.summary.n_ingested > 0


def test_a_checkpoint_that_was_taken_over_ends_it(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run)
    lock = pathlib.Path(f"{run.predicted}.checkpoint") / "aggregation.lock"

    def take(self: Any, survey: Any) -> bool:
        lock.unlink()
        lock.touch()
        return True

    monkeypatch.setattr(change_watch.ChangeWatch, "look", take)
    with pytest.raises(aggregator.AggregatorError, match="was moved or removed while"):
        follow(run)


def test_what_is_wrong_from_the_start_is_refused(run: small_runs.SmallRun) -> None:
    before = sorted(run.root.rglob("*"))
    with pytest.raises(aggregator.RefusedError, match="interval"):
        aggregator.follow(run.predicted, run.root, interval=0.0)
    with pytest.raises(aggregator.RefusedError):
        follow(run, output_path=run.root / "nowhere" / "out.qg")
    assert sorted(run.root.rglob("*")) == before


def test_an_ingested_graph_ends_it_at_once(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """Nothing can be added any more, however long somebody waits."""
    config = aggregator.AggregatorConfig(output_path=tmp_path / "whole.qg")
    aggregator.aggregate_graph(run.predicted, run.root, config)
    log = run.files("report_log*json")[0]
    log.rename(tmp_path / "log")
    last = change_watch.ChangeWatch.look

    def look(self: Any, survey: Any) -> bool:
        if not log.exists() and (tmp_path / "log").exists():
            (tmp_path / "log").rename(log)
            aggregator.ingest_graph(run.root, tmp_path / "whole.qg", transfer="move")
        return last(self, survey)

    monkeypatch.setattr(change_watch.ChangeWatch, "look", look)
    monkeypatch.setattr(campaign_follower, "_SHARE", 0)
    with pytest.raises(aggregator.AggregatorError, match="provenance graph") as raised:
        follow(run)
    assert raised.value.exit_code == 1
    assert not run.output.exists()


def test_it_is_not_over_while_quanta_are_executed(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long nothing changes: an attempt may take longer."""
    damage(run)
    naps: list[float] = []
    config = repository_config.load(run.root)
    with contextlib.ExitStack() as jobs, predicted.PredictedGraph(str(run.predicted)) as graph:
        jobs.enter_context(run_lock.held_by_job(graph.header.output_run, config.datastores))
        sleep = campaign_follower.CampaignFollower._sleep

        def nap(self: Any, shown: Any) -> None:
            naps.append(time.monotonic())
            if naps[-1] - naps[0] > 1.0:
                jobs.close()
            sleep(self, shown)

        monkeypatch.setattr(campaign_follower.CampaignFollower, "_sleep", nap)
        monkeypatch.setattr(campaign_follower, "_SHARE", 0)
        with pytest.raises(aggregator.HeldError):
            follow(run, settle_time=0.1)
    assert naps[-1] - naps[0] > 1.0


def test_trouble_is_waited_for_also_when_time_is_up(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run)
    times: list[float] = []
    last = repeated_aggregation.RepeatedAggregation.last

    def fail_at_first(self: Any) -> Any:
        times.append(time.monotonic())
        if len(times) < 4:
            raise errors.MachineError("/repo", "gone")
        return last(self)

    monkeypatch.setattr(repeated_aggregation.RepeatedAggregation, "last", fail_at_first)
    with pytest.raises(aggregator.HeldError):
        follow(run, until=datetime.datetime.now(datetime.UTC))
    # 0.04, 0.08, and 0.16 s
    assert times[3] - times[0] >= 0.25


def test_what_took_long_may_fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(patience.Patience, "_is_lost", lambda self: False)
    work = patience.Patience(0.01, cast("locks.Ownership", None))

    def fail() -> bool:
        time.sleep(0.1)
        raise errors.MachineError("/repo", "gone")

    assert work.attempt(fail) is None
    with pytest.raises(errors.MachineError):
        work.attempt(fail)


def test_the_summary_of_an_error_tells_of_all_its_time(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run)
    cancellation = aggregator.Cancellation()
    looks: list[float] = []
    look = change_watch.ChangeWatch.look

    def stop(self: Any, survey: Any) -> bool:
        looks.append(time.monotonic())
        if looks[-1] - looks[0] > 0.5:
            cancellation.cancel()
        return look(self, survey)

    monkeypatch.setattr(change_watch.ChangeWatch, "look", stop)
    began = time.monotonic()
    with pytest.raises(aggregator.Interrupted) as raised:
        aggregator.follow(
            run.predicted,
            run.root,
            aggregator.AggregatorConfig(output_path=run.output),
            interval=0.02,
            cancellation=cancellation,
        )
    done = raised.value.summary
    assert isinstance(done, aggregator.Summary)
    assert done.phases["following"] >= 0.5
    assert time.monotonic() - began >= done.elapsed >= done.phases["following"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("engine", [False, True])
def test_a_run_in_a_bucket_with_a_database_on_a_server(
    tmp_path: pathlib.Path,
    s3: object_servers.S3Server,
    postgresql: postgresql_server.Server,
    monkeypatch: pytest.MonkeyPatch,
    engine: bool,
) -> None:
    """The same as one aggregation of the same files on this host, which come one after the other here."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(campaign_follower, "_SHARE", 0)
    bucket, place = s3.new_bucket(), postgresql.create_database()
    local = small_runs.make(tmp_path / "local")
    expected = local.aggregate()
    asked = parameters.SynthesisParameters(
        quanta=60, **{**parameters.SMALL, **small_runs.CLEAN, "database": postgresql.url(place)}
    )
    made = aggregator.synthesize(f"s3://{bucket}/run", asked, interactive_status=False)
    client = s3.client(bucket)
    late = [key for key in s3.keys(bucket) if "_log_" in key or "_metadata_" in key]
    contents = {key: obstore.get(client, key).bytes().to_bytes() for key in late}
    obstore.delete(client, late)
    last = change_watch.ChangeWatch.look
    n_ready: list[int] = []

    def look(self: Any, survey: Any) -> bool:
        # As quanta end: metadata come before logs.
        for key in sorted(contents, key=lambda key: "_log_" in key)[: len(late) // 3]:
            obstore.put(client, key, contents.pop(key))
        n_ready.append(len(contents))
        return last(self, survey)

    monkeypatch.setattr(change_watch.ChangeWatch, "look", look)
    with futures.ThreadPoolExecutor(2) as executor:
        config = aggregator.AggregatorConfig(
            output_path=tmp_path / "graph.qg",
            checkpoint_dir=tmp_path / "checkpoint",
            engine=executor if engine else None,
            exchange=f"s3://{bucket}/exchange" if engine else None,
        )
        done = aggregator.follow(made.predicted, made.root, config, interval=0.02, settle_time=1e6)
    assert n_ready[0] > 0
    assert (done.counts, done.n_ingested) == (expected.counts, expected.n_ingested)
    paths = str(local.output), str(tmp_path / "graph.qg")
    with contextlib.ExitStack() as opened:
        graphs = [opened.enter_context(provenance_graph.ProvenanceGraph(path)) for path in paths]
        assert graphs[0].fingerprint == graphs[1].fingerprint
    [(count,)] = postgresql.query(place, "SELECT count(*) FROM dataset")
    assert count == local.n_datasets()
    assert not [key for key in s3.keys(bucket) if key.startswith("exchange")]
