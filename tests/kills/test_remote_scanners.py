"""Scanners of engines, lost, paused or late: what comes out is what a local run makes."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import distributed
import msgspec
import psutil
import pytest
from aggregator.schemas.checkpoints import checkpoint, exchanges
from aggregator.storage import fault_points, locks
from aggregator.workers.engines import job_engine, job_engines, outcomes, parsl_jobs
from aggregator.workers.roles.scanning import remote_scan

import aggregator
from tests.helpers import (
    clusters,
    divided_runs,
    graph_files,
    kills,
    lease_hosts,
    object_servers,
    small_runs,
)

SECONDS = 60.0


@pytest.fixture
def run(divided_run: divided_runs.DividedRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(divided_run.run, tmp_path / "repo")


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with clusters.dask_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: distributed.LocalCluster) -> Iterator[distributed.Client]:
    with distributed.Client(cluster, set_as_default=False) as client:
        yield client


def leftovers(run: small_runs.SmallRun) -> list[str]:
    return sorted(path.name for path in run.root.glob("*.checkpoint*"))


def arm(point: str, count: int, marker: str) -> None:
    """Let a worker stop at a point, if it is the first one there."""
    fault_points._point, fault_points._left, fault_points._marker = point, count, marker


@contextlib.contextmanager
def stopped_worker(
    arming: Callable[[Callable[..., None], str, int, str], Any],
    marker: pathlib.Path,
    act: Callable[[int], None],
    point: str = "quantum",
    count: int = 20,
) -> Iterator[None]:
    """Let one of the engine's workers stop in the middle of a shard, and do something to it."""
    arming(arm, point, count, str(marker))

    def wait_and_act() -> None:
        deadline = time.monotonic() + SECONDS
        while not marker.exists() or not marker.read_text():
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        act(int(marker.read_text()))
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if marker.exists():
            marker.write_text("")
        arming(arm, "", 0, "")
    assert done


def everywhere(client: distributed.Client) -> Callable[..., Any]:
    return lambda function, *arguments: client.run(function, *arguments)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_digests_are_those_of_a_local_run(run: small_runs.SmallRun, expected: dict[str, bytes]) -> None:
    """All that is found out, to the byte; and each worker is told once what all shards share."""
    layout = checkpoint.Layout(str(run.root / "predicted.qg.checkpoint"))
    with futures.ProcessPoolExecutor(2) as executor:
        summary = run.aggregate(engine=executor, keep_checkpoint=True)
    assert (summary.n_shards, summary.n_reused) == (divided_runs.N_SHARDS, 0)
    assert graph_files.members(run.output) == expected
    assert not layout.generations()
    digests = {shard: pathlib.Path(layout.digest(shard)).read_bytes() for shard in layout.shards()}
    assert len(digests) == divided_runs.N_SHARDS
    run.aggregate(fresh=True, keep_checkpoint=True)
    assert {shard: pathlib.Path(layout.digest(shard)).read_bytes() for shard in digests} == digests


def test_what_is_known_is_not_scanned_again(run: small_runs.SmallRun, expected: dict[str, bytes]) -> None:
    away = run.files("*_log*.json")[5]
    away.rename(away.with_suffix(".away"))
    run.aggregate(incomplete=True)
    away.with_suffix(".away").rename(away)
    with futures.ThreadPoolExecutor(2) as executor:
        summary = run.aggregate(engine=executor)
    assert divided_runs.N_QUANTA - 60 < summary.n_reused < divided_runs.N_QUANTA
    assert graph_files.members(run.output) == expected
    assert leftovers(run) == []


def test_a_killed_worker_costs_its_shard(
    run: small_runs.SmallRun,
    expected: dict[str, bytes],
    cluster: distributed.LocalCluster,
    client: distributed.Client,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with stopped_worker(everywhere(client), tmp_path / "marker", kill):
        run.aggregate(engine=f"dask:{cluster.scheduler_address}")
    assert "is scanned again: its worker is lost (KilledWorker" in caplog.text
    assert graph_files.members(run.output) == expected
    assert leftovers(run) == []


def test_a_killed_node_costs_its_shards(
    run: small_runs.SmallRun,
    expected: dict[str, bytes],
    cluster: distributed.LocalCluster,
    client: distributed.Client,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = set(client.nthreads())
    command = ["-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nthreads", "1"]
    paths = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with subprocess.Popen(
        [
            sys.executable,
            *command,
            "--no-dashboard",
            "--local-directory",
            str(tmp_path),
            "--host",
            "127.0.0.1",
        ],
        env=os.environ | paths,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as nanny:
        client.wait_for_workers(clusters.N_WORKERS + 1)
        (added,) = set(client.nthreads()) - before

        def arming(*arguments: Any) -> None:
            if added in client.nthreads():
                client.run(*arguments, workers=[added])

        def kill_node(pid: int) -> None:
            children = psutil.Process(nanny.pid).children(recursive=True)
            assert pid in [child.pid for child in children]
            nanny.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()

        with stopped_worker(arming, tmp_path / "marker", kill_node):
            run.aggregate(engine=client)
    assert "is scanned again: its worker is lost" in caplog.text
    assert graph_files.members(run.output) == expected


@pytest.mark.ordering("D7")
def test_a_paused_worker_that_comes_back_late_changes_nothing(
    run: small_runs.SmallRun,
    expected: dict[str, bytes],
    client: distributed.Client,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paused: list[int] = []
    marker = tmp_path / "marker"

    def pause(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        paused.append(pid)
        marker.write_text("")

    client.wait_for_workers(clusters.N_WORKERS)
    # It has scanned the shard, but not left its digest.
    client.run(arm, "digest", 2, str(marker))
    thread = threading.Thread(target=lambda: pause(int(kills_wait(marker))))
    thread.start()
    try:
        run.aggregate(engine=client, scan_timeout=3.0, keep_checkpoint=True)
        thread.join()
        assert "it takes longer than --scan-timeout 3" in caplog.text
        assert graph_files.members(run.output) == expected
        names = sorted(os.listdir(run.root / "predicted.qg.checkpoint"))
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    client.run(arm, "", 0, "")
    # Now it has looked, and nobody waits for what it has.
    deadline = time.monotonic() + SECONDS
    while any(client.run(n_at_work).values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(os.listdir(run.root / "predicted.qg.checkpoint")) == names


class Late:
    """Lets the first scanner that leaves a digest do that when the run is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[exchanges.Access]) -> None:
        self.may_go_on = threading.Event()
        self._is_first = threading.Lock()
        leave = kind.leave

        def leave_late(access: exchanges.Access, source: str) -> str:
            if self._is_first.acquire(blocking=False):
                assert self.may_go_on.wait(SECONDS)
            return leave(access, source)

        monkeypatch.setattr(kind, "leave", leave_late)


@pytest.mark.ordering("D7")
def test_a_digest_that_is_left_when_all_is_over_goes_again(
    run: small_runs.SmallRun, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(monkeypatch, exchanges.SharedDirectory)
    directory = run.root / "predicted.qg.checkpoint"
    with futures.ThreadPoolExecutor(2) as executor:
        run.aggregate(engine=executor, scan_timeout=2.0, keep_checkpoint=True)
        names = sorted(os.listdir(directory))
        late.may_go_on.set()
    assert sorted(os.listdir(directory)) == names
    assert graph_files.members(run.output) == expected


def n_at_work(dask_worker: Any) -> int:
    """Return how many threads of a worker are at something, be it given up."""
    return len(dask_worker.active_threads)


def kills_wait(marker: pathlib.Path) -> str:
    deadline = time.monotonic() + SECONDS
    while not (marker.exists() and (text := marker.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return text


@pytest.mark.ordering("D7")
def test_two_coordinators_and_the_first_is_killed(
    run: small_runs.SmallRun,
    expected: dict[str, bytes],
    cluster: distributed.LocalCluster,
    tmp_path: pathlib.Path,
) -> None:
    engine, marker = f"dask:{cluster.scheduler_address}", tmp_path / "marker"
    arguments = ["aggregate-graph", str(run.predicted), str(run.root), "-o", str(run.output)]
    with kills.start([*arguments, "--engine", engine], "brought:3", marker) as running:
        process = kills.wait_for(marker, running)
        with pytest.raises(aggregator.InUseError, match=rf"in use by process {process}"):
            run.aggregate(engine=engine)
        running.kill()
    layout = checkpoint.Layout(str(run.root / "predicted.qg.checkpoint"))
    assert len(layout.generations()) == 1
    summary = run.aggregate(engine=engine)
    assert summary.n_reused > 0
    assert graph_files.members(run.output) == expected
    assert leftovers(run) == []


@pytest.mark.ordering("C5", "D7")
def test_another_host_takes_over_from_one_that_is_out_of_reach(
    run: small_runs.SmallRun, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are only leases: the first coordinator is back in the middle, and changes nothing."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    hosts, directory = lease_hosts.Hosts(monkeypatch), run.root / "predicted.qg.checkpoint"
    hosts.go_to("first")
    fetch = exchanges.SharedDirectory.fetch
    others: list[futures.Executor] = []

    def be_out_of_reach(access: exchanges.Access, name: str, target: str) -> None:
        if not others:
            with futures.ThreadPoolExecutor(2) as other:
                others.append(other)
                hosts.go_to("second")
                with pytest.raises(aggregator.InUseError, match="on first, since"):
                    run.aggregate(engine=other)
                [lease] = directory.glob("*.lease")
                lease_hosts.grow_old(str(lease))
                run.aggregate(engine=other, keep_checkpoint=True)
            left.update({path.name: path.stat().st_mtime_ns for path in directory.iterdir()})
            hosts.go_to("first")
        fetch(access, name, target)

    left: dict[str, int] = {}
    monkeypatch.setattr(exchanges.SharedDirectory, "fetch", be_out_of_reach)
    with (
        futures.ThreadPoolExecutor(2) as executor,
        pytest.raises(aggregator.AggregatorError, match="the lease was taken over"),
    ):
        run.aggregate(engine=executor, n_requests=1)
    assert {path.name: path.stat().st_mtime_ns for path in directory.glob("shard-*.digest")} == {
        name: time for name, time in left.items() if name.endswith(".digest")
    }
    assert graph_files.members(run.output) == expected


def test_an_interrupted_run_goes_on(
    run: small_runs.SmallRun, expected: dict[str, bytes], client: distributed.Client
) -> None:
    cancellation = aggregator.Cancellation()

    def cancel(update: aggregator.ProgressUpdate) -> None:
        # Not later: a small run may be at its end when it tells of the first shard.
        if update.stage == "scanning":
            cancellation.cancel()

    config = aggregator.AggregatorConfig(output_path=str(run.output), engine=client)
    with pytest.raises(aggregator.Interrupted):
        aggregator.aggregate_graph(
            run.predicted, run.root, config, on_progress=cancel, cancellation=cancellation
        )
    assert not checkpoint.Layout(str(run.root / "predicted.qg.checkpoint")).generations()
    run.aggregate(engine=client)
    assert graph_files.members(run.output) == expected


@pytest.mark.exhaustive
def test_a_worker_of_parsl_is_killed(
    run: small_runs.SmallRun, expected: dict[str, bytes], tmp_path: pathlib.Path
) -> None:
    engine = parsl_jobs.start(str(clusters.parsl_configuration(tmp_path)))
    try:

        def arming(function: Any, *arguments: Any) -> None:
            handle = engine.submit(job_engine.Job(function, arguments, "arm"))
            deadline = time.monotonic() + SECONDS
            while not (ended := engine.wait(0.1)):
                assert time.monotonic() < deadline
            assert list(ended) == [(handle, outcomes.Result(None))]

        with stopped_worker(arming, tmp_path / "marker", kill):
            run.aggregate(engine=engine)
    finally:
        engine.close()
    assert graph_files.members(run.output) == expected
    assert leftovers(run) == []


class Lying(job_engine.JobEngine):
    """An engine whose answers are changed on their way."""

    def __init__(self, engine: job_engine.JobEngine, change: Callable[[bytes], bytes]) -> None:
        self._engine = engine
        self._change = change
        self.n_results = 0

    def capacity(self) -> int:
        return self._engine.capacity()

    def submit(self, job: job_engine.Job) -> job_engine.Handle:
        return self._engine.submit(job)

    def wait(self, seconds: float) -> Any:
        return [(handle, self._changed(outcome)) for handle, outcome in self._engine.wait(seconds)]

    def _changed(self, outcome: outcomes.Outcome) -> outcomes.Outcome:
        self.n_results += 1
        if self.n_results in (2, 4) and isinstance(outcome, outcomes.Result):
            return outcomes.Result(self._change(outcome.value))
        return outcome

    def cancel(self, handle: job_engine.Handle) -> None:
        self._engine.cancel(handle)

    def close(self) -> None:
        self._engine.close()


def other_name(packed: bytes) -> bytes:
    return packed.replace(b".digest.", b".digest.0", 1)


def other_place(packed: bytes) -> bytes:
    return packed.replace(b"shard-", b"../ard-", 1)


def file_of_the_checkpoint(packed: bytes) -> bytes:
    left = msgspec.msgpack.decode(packed, type=remote_scan.LeftDigest)
    return msgspec.msgpack.encode(msgspec.structs.replace(left, name="manifest.json"))


def garbage(packed: bytes) -> bytes:
    return packed[:50]


@pytest.mark.ordering("D7")
@pytest.mark.parametrize("change", [other_name, other_place, file_of_the_checkpoint, garbage])
def test_answers_are_not_believed(
    run: small_runs.SmallRun,
    expected: dict[str, bytes],
    change: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with futures.ThreadPoolExecutor(2) as executor, job_engines.opened(executor) as engine:
        run.aggregate(engine=Lying(engine, change), keep_checkpoint=True)
    assert caplog.text.count("is scanned again: ") == 2
    assert (run.root / "predicted.qg.checkpoint" / "manifest.json").exists()
    assert graph_files.members(run.output) == expected


@pytest.mark.ordering("D7")
def test_a_digest_that_is_not_there_is_made_again(
    run: small_runs.SmallRun, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def remove(packed: bytes) -> bytes:
        left = msgspec.msgpack.decode(packed, type=remote_scan.LeftDigest)
        (run.root / "predicted.qg.checkpoint" / left.name).unlink()
        return packed

    with futures.ThreadPoolExecutor(2) as executor, job_engines.opened(executor) as engine:
        run.aggregate(engine=Lying(engine, remove))
    assert caplog.text.count("is scanned again: its digest is not there") == 2
    assert graph_files.members(run.output) == expected


@pytest.mark.ordering("D7")
def test_a_damaged_digest_is_made_again(
    run: small_runs.SmallRun, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    damaged: list[pathlib.Path] = []

    def damage(packed: bytes) -> bytes:
        directory = run.root / "predicted.qg.checkpoint"
        name = next(path.name for path in directory.glob("*.tmp") if path.name.encode() in packed)
        with open(directory / name, "r+b") as stream:
            stream.seek(-10, os.SEEK_END)
            stream.write(b"0123456789")
        damaged.append(directory / name)
        return packed

    with futures.ThreadPoolExecutor(2) as executor, job_engines.opened(executor) as engine:
        run.aggregate(engine=Lying(engine, damage))
    assert len(damaged) == 2
    assert caplog.text.count("the section is damaged") == 2
    assert graph_files.members(run.output) == expected


def test_a_shard_that_fails_everywhere_ends_the_run(
    run: small_runs.SmallRun, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with futures.ThreadPoolExecutor(2) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(remote_scan.RemoteScanner, "scan", fail)
            with pytest.raises(
                aggregator.FatalWorkerError, match=r"given to the engine 4 times.*No space left"
            ):
                run.aggregate(engine=executor)
        assert leftovers(run) == ["predicted.qg.checkpoint"]
        run.aggregate(engine=executor)
    assert graph_files.members(run.output) == expected


def test_another_version_is_refused_by_name(
    run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = remote_scan.version()
    answers = iter([version, (0, 0)])
    monkeypatch.setattr(remote_scan, "version", lambda: next(answers, (0, 0)))
    with (
        futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(aggregator.AggregatorError, match="made by another version of this program"),
    ):
        run.aggregate(engine=executor)


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.S3Server]:
    with object_servers.running() as running:
        yield running


class TestObjectStores:
    @pytest.fixture
    def bucket(self, server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return server.new_bucket()

    def test_digests_come_through_a_store(
        self,
        run: small_runs.SmallRun,
        expected: dict[str, bytes],
        server: object_servers.S3Server,
        bucket: str,
        tmp_path: pathlib.Path,
    ) -> None:
        server.put(bucket, "place/mine", b"kept")
        marker = tmp_path / "marker"
        script = f"""
import sys
from concurrent import futures
import aggregator
with futures.ThreadPoolExecutor(2) as executor:
    config = aggregator.AggregatorConfig(
        output_path={str(run.output)!r}, engine=executor, exchange="s3://{bucket}/place/"
    )
    aggregator.aggregate_graph({str(run.predicted)!r}, {str(run.root)!r}, config)
"""
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {fault_points.VARIABLE: f"brought:3:{marker}"},
            start_new_session=True,
        ) as running:
            kills.wait_for(marker, running)
            running.kill()
        assert len(server.keys(bucket)) > 3
        # What was left goes, with an engine or without.
        run.aggregate(incomplete=True, keep_checkpoint=True)
        assert server.keys(bucket) == ["place/mine"]
        with futures.ThreadPoolExecutor(2) as executor:
            run.aggregate(engine=executor, exchange=f"s3://{bucket}/place", fresh=True)
        assert server.keys(bucket) == ["place/mine"]
        assert graph_files.members(run.output) == expected
        assert leftovers(run) == []

    def test_a_digest_that_is_uploaded_when_all_is_over_goes_again(
        self,
        run: small_runs.SmallRun,
        server: object_servers.S3Server,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        late = Late(monkeypatch, exchanges.StorePlace)
        with futures.ThreadPoolExecutor(2) as executor:
            run.aggregate(engine=executor, scan_timeout=2.0, exchange=f"s3://{bucket}/place")
            late.may_go_on.set()
        assert server.keys(bucket) == []


def test_requests_that_cannot_work_are_refused(run: small_runs.SmallRun, tmp_path: pathlib.Path) -> None:
    for options, message in (
        ({"engine": "slurm"}, "'slurm' is no engine"),
        ({"exchange": "s3://bucket/place"}, "of use with an engine only"),
        ({"engine": "dask:tcp://127.0.0.1:1", "exchange": str(tmp_path)}, "give the URI of an object store"),
        ({"engine": "dask:tcp://127.0.0.1:1", "checkpoint": False}, "leave digests in the checkpoint"),
        ({"engine": f"parsl:{tmp_path}/none.py"}, "can't start it"),
    ):
        with pytest.raises(aggregator.RefusedError, match=message):
            run.aggregate(**options)
    assert leftovers(run) == []
