"""Object stores that are out of reach for a while, and secrets that are needed to reach them."""

from __future__ import annotations

import datetime
import http.server
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import click.testing
import msgspec
import obstore
import pytest
import yaml
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import object_clients, s3_settings

from aggregator.command_line import main
from tests.helpers import kills, object_servers, small_runs, thinning


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.S3Server]:
    with object_servers.running() as running:
        yield running


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("local") / "run", 120, failed=0.1, aborted=0.1)


@pytest.fixture(scope="module")
def expected(local_run: small_runs.SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = small_runs.copy(local_run, tmp_path_factory.mktemp("expected") / "run")
    run.aggregate()
    with provenance_graph.ProvenanceGraph(str(run.output)) as graph:
        return graph.fingerprint


@pytest.fixture
def run(
    local_run: small_runs.SmallRun,
    server: object_servers.S3Server,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> small_runs.SmallRun:
    """Return the run with its files, and its predicted graph, in a bucket of the profile "site"."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    moved = small_runs.copy(local_run, tmp_path / "run")
    bucket = server.new_bucket()
    client = server.client(bucket)
    for path in sorted((moved.root / "u").rglob("*")):
        if path.is_file():
            obstore.put(client, f"repo/{path.relative_to(moved.root)}", path.read_bytes())
    obstore.put(client, "predicted.qg", moved.predicted.read_bytes())
    shutil.rmtree(moved.root / "u")
    config = yaml.safe_load((moved.root / "butler.yaml").read_text())
    config["datastore"] |= {"root": f"s3://site@{bucket}/repo", "name": "FileDatastore@<butlerRoot>"}
    (moved.root / "butler.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "bucket").write_text(bucket)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return moved


def arguments(run: small_runs.SmallRun, *options: str) -> list[str]:
    bucket = (run.root.parent / "bucket").read_text()
    graph = f"s3://site@{bucket}/predicted.qg"
    places = [graph, str(run.root), "-o", f"s3://site@{bucket}/graph.qg"]
    return ["aggregate-graph", *places, "--no-interactive-status", *options]


def command(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main.main, list(words))


def fingerprint(run: small_runs.SmallRun) -> str:
    bucket = (run.root.parent / "bucket").read_text()
    with provenance_graph.ProvenanceGraph(f"s3://{bucket}/graph.qg") as graph:
        return graph.fingerprint


def nodes(path: str) -> list[bytes]:
    """Return all quanta and datasets of a provenance graph, whatever process has written it."""
    with provenance_graph.ProvenanceGraph(path) as graph:
        return sorted(map(msgspec.json.encode, itertools.chain(graph.quanta(), graph.datasets())))


@pytest.mark.parametrize("n_before", thinning.thinned([3, 8, 60, 150], [8, 60]))
def test_a_server_that_goes_away(
    run: small_runs.SmallRun,
    server: object_servers.S3Server,
    monkeypatch: pytest.MonkeyPatch,
    expected: Any,
    n_before: int,
) -> None:
    """However far the run is, it ends with exit code 1, takes nothing for missing, and goes on later."""
    soon = {"max_retries": 1, "retry_timeout": datetime.timedelta(seconds=1)}
    with monkeypatch.context() as patch:
        patch.setattr(object_clients, "_RETRIES", soon)
        patch.setattr(object_clients, "_PAUSES", ())

        def gone(method: str, path: str) -> int:
            return 503 if going.n_requests > n_before else 0

        with object_servers.FaultyServer(server, gone) as going:
            patch.setenv("LSST_RESOURCES_S3_PROFILE_site", going.url)
            done = command(*arguments(run))
            assert done.exit_code == 1, done.output
            assert "run the same command again" in done.output
        patch.setenv("LSST_RESOURCES_S3_PROFILE_site", "http://127.0.0.1:9")
        assert command(*arguments(run)).exit_code == 1
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", server.url)
    object_clients._clients.clear()
    done = command(*arguments(run))
    assert done.exit_code == 0, done.output
    assert fingerprint(run) == expected


def test_a_server_that_comes_back(
    run: small_runs.SmallRun, server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    """Of a server that is away for some requests, and drops others and bodies, nobody notices anything."""
    soon = {
        "max_retries": 10,
        "retry_timeout": datetime.timedelta(minutes=3),
        "backoff": {
            "init_backoff": datetime.timedelta(milliseconds=1),
            "max_backoff": datetime.timedelta(milliseconds=5),
        },
    }
    monkeypatch.setattr(object_clients, "_RETRIES", soon)

    def away(method: str, path: str) -> int:
        number = returning.n_requests
        if 40 < number < 46 or 120 < number < 126 or number % 20 == 0:
            return 503
        return object_servers.CUT if number % 100 == 50 else 0

    with object_servers.FaultyServer(server, away) as returning:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", returning.url)
        done = command(*arguments(run))
    assert done.exit_code == 0, done.output
    assert fingerprint(run) == expected


@pytest.mark.exhaustive
def test_a_server_that_is_gone_for_two_minutes(
    run: small_runs.SmallRun, server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    """The command waits, or ends with exit code 1 as often as it is begun meanwhile; nothing is missing."""
    since: list[float] = []

    def gone(method: str, path: str) -> int:
        if leaving.n_requests > 60:
            since.append(time.monotonic())
        return object_servers.DROPPED if since and since[-1] - since[0] < 120 else 0

    with object_servers.FaultyServer(server, gone) as leaving:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", leaving.url)
        codes = []
        while not codes or codes[-1]:
            done = command(*arguments(run))
            codes.append(done.exit_code)
            assert done.exit_code in (0, 1), done.output
            assert len(codes) < 100
    assert since[-1] - since[0] > 120
    assert fingerprint(run) == expected


@pytest.mark.exhaustive
@pytest.mark.parametrize("n_processes", ["1", "2"])
def test_a_server_whose_host_is_gone_for_two_minutes(
    run: small_runs.SmallRun,
    server: object_servers.S3Server,
    local_run: small_runs.SmallRun,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    n_processes: str,
) -> None:
    """As before, but nobody listens there: the system refuses all connections."""
    gone = threading.Event()

    def leave(method: str, path: str) -> int:
        if leaving.n_requests > 60:
            gone.set()
        return object_servers.DROPPED if gone.is_set() else 0

    words = [sys.executable, "-m", "aggregator", *arguments(run, "-j", n_processes)]
    with object_servers.FaultyServer(server, leave) as leaving:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", leaving.url)
        running = subprocess.Popen(words)
        assert gone.wait(120)
    until, codes = time.monotonic() + 120, [1]
    while time.monotonic() < until:
        time.sleep(1)
        if running.poll() is not None:
            codes.append(running.returncode)
            running = subprocess.Popen(words)
    with object_servers.FaultyServer(server, lambda method, path: 0, leaving.port):
        codes.append(running.wait(300))
        while codes[-1] and len(codes) < 10:
            codes.append(subprocess.run(words).returncode)
    assert codes[-1] == 0
    assert set(codes[:-1]) == {1}
    undisturbed = small_runs.copy(local_run, tmp_path / "undisturbed")
    undisturbed.aggregate()
    assert nodes(f"s3://{(tmp_path / 'bucket').read_text()}/graph.qg") == nodes(str(undisturbed.output))


def test_secrets_stay_secret(
    run: small_runs.SmallRun,
    server: object_servers.S3Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    """In no message, log, checkpoint, document or name of a process, also where something goes wrong."""
    quoted = urllib.parse.quote(object_servers.SECRET, safe="")
    netloc = f"{object_servers.KEY}:{quoted}@"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", server.url.replace("//", f"//{netloc}"))
    options = [
        *("-j", "2", "--worker-log-dir", str(tmp_path / "logs"), "--worker-log-level", "DEBUG"),
        *("--summary-json", str(tmp_path / "summary.json"), "--metrics-file", str(tmp_path / "m.prom")),
        "--keep-checkpoint",
    ]
    texts = []
    marker = tmp_path / "marker"
    with kills.start(["--log-level", "DEBUG", *arguments(run, *options)], "digest:1", marker) as running:
        kills.wait_for(marker, running)
        texts += [" ".join(process.cmdline()) for process in kills.session(running.pid)]
        texts.append(command("status", "predicted.qg.checkpoint", "--format", "json").output)
        texts.append(command("status", "predicted.qg.checkpoint").output)
        marker.write_text("")
        texts += running.communicate(timeout=120)
    assert running.returncode == 0, texts
    with object_servers.FaultyServer(server, lambda method, path: 403 * (method == "GET")) as denying:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", denying.url.replace("//", f"//{netloc}"))
        denied = command(*arguments(run, "--fresh"))
        assert denied.exit_code != 0
        texts.append(denied.output)
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", f"http://{netloc}127.0.0.1:9:9")
    wrong = command(*arguments(run))
    assert wrong.exit_code == 2
    assert "is no URL of a server" in wrong.output
    texts.append(wrong.output)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".digest" for path in files)
    assert any(path.suffix == ".log" for path in files)
    content = [text.encode() for text in texts] + [path.read_bytes() for path in files]
    for secret in (object_servers.SECRET, quoted, object_servers.KEY):
        assert not [data[:500] for data in content if secret.encode() in data]


class _Machine(http.server.BaseHTTPRequestHandler):
    """Hands out credentials as machines of a cloud do."""

    paths: list[str] = []  # noqa: RUF012

    def do_PUT(self) -> None:
        self._answer(b"token")

    def do_GET(self) -> None:
        self.paths.append(self.path)
        names = {
            "AccessKeyId": object_servers.KEY,
            "SecretAccessKey": object_servers.SECRET,
            "Token": "session",
            "Expiration": "2100-01-01T00:00:00Z",
        }
        self._answer(json.dumps(names).encode() if self.path.endswith("/role") else b"role")

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def test_a_machine_is_asked_for_credentials_only_if_that_is_wanted(
    run: small_runs.SmallRun, server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nowhere")
    machine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Machine)
    threading.Thread(target=machine.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{machine.server_port}")
    monkeypatch.setenv("S3_ENDPOINT_URL", server.url)
    graph = arguments(run)[1].replace("site@", "")
    try:
        refused = command("status", graph)
        assert refused.exit_code == 2
        assert "--s3-instance-credentials" in refused.output
        assert _Machine.paths == []
        done = command("status", graph, "--s3-instance-credentials")
        assert done.exit_code == 0, done.output
        assert _Machine.paths
        assert s3_settings.INSTANCE_CREDENTIALS not in os.environ
    finally:
        machine.shutdown()
        machine.server_close()
