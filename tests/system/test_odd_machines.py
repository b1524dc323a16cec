"""Paths, locales, limits and numbers that a machine or its users can come up with."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import resource
import subprocess
import sys
from typing import Any

import pytest
from aggregator.storage import local_files
from aggregator.workers.engines import descriptors

import aggregator
from aggregator import ranges
from aggregator.aggregation import configuration
from aggregator.graph_ingestion import ingestion_request as graph_request
from aggregator.synthesis import parameters
from tests.helpers import small_runs

COMMAND = [sys.executable, "-m", "aggregator"]


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("clean") / "run")


def command(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(os.fsencode, map(str, arguments))],
        capture_output=True,
        timeout=120,
        env={**os.environ, **environment},
    )


BAD: list[Any] = [-1, -(10**30), 10**30, math.nan, math.inf, -math.inf, "1", True, [], 1 + 2j, 1e300]


def test_every_option_that_is_a_number_has_a_range() -> None:
    numbers = {
        field.name
        for field in dataclasses.fields(configuration.AggregatorConfig)
        if getattr(field.type, "__name__", str(field.type)).split(" ")[0] in ("int", "float")
    }
    assert numbers == set(configuration._RANGES)
    configuration.check(configuration.AggregatorConfig())


@pytest.mark.parametrize("name", configuration._RANGES)
def test_numbers_out_of_range_are_refused(name: str) -> None:
    for value in [bad for bad in BAD if not (name == "zstd_level" and bad == -1)]:
        with pytest.raises(aggregator.RefusedError, match=f"{name} must be a"):
            configuration.check(configuration.AggregatorConfig(**{name: value}))


def test_numbers_of_other_commands_are_refused(clean_run: small_runs.SmallRun) -> None:
    for value in BAD:
        with pytest.raises(aggregator.RefusedError, match="batch_size must be an integer"):
            graph_request.check(str(clean_run.root), None, "move", value, None)
        for name in ("quanta", "seed", "log_size", "metadata_size", "output_size", *parameters.SHARES):
            with pytest.raises(aggregator.RefusedError, match=f"{name} must be a"):
                parameters.check(parameters.SynthesisParameters(**{"quanta": 100, name: value}))


def test_ranges_tell_what_is_allowed() -> None:
    ranges.SECONDS.check("x", 0.5)
    ranges.COUNT.check("x", 1)
    for given, value, message in (
        (ranges.SECONDS, 0, r"x must be a number above 0, at most 1,000,000,000, not 0"),
        (ranges.COUNT, 0, r"x must be an integer of 1 or more, at most 2,147,483,647, not 0"),
        (ranges.COUNT, 1.5, r"x must be an integer"),
    ):
        with pytest.raises(aggregator.RefusedError, match=message):
            given.check("x", value)


@pytest.mark.parametrize(
    "options",
    [
        ["--scan-timeout", "nan"],
        ["--ingest-batch-size", "999999999999999999999"],
        ["--zstd-dict-size", "999999999999"],
        ["--log-status-interval", "inf"],
    ],
    ids=" ".join,
)
def test_the_command_line_refuses_numbers_out_of_range(
    clean_run: small_runs.SmallRun, options: list[str]
) -> None:
    done = command("aggregate-graph", clean_run.predicted, clean_run.root, *options)
    assert done.returncode == 2
    assert b"must be a" in done.stderr
    assert b"Traceback" not in done.stderr


def test_options_files_are_checked_alike(clean_run: small_runs.SmallRun, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("aggregate-graph:\n  scan-timeout: .nan\n")
    done = command("aggregate-graph", clean_run.predicted, clean_run.root, "-@", path)
    assert done.returncode == 2
    assert b"scan_timeout must be" in done.stderr
    path.unlink()
    os.mkfifo(path)
    done = command("aggregate-graph", clean_run.predicted, clean_run.root, "-@", path)
    assert done.returncode == 2
    assert b"is a pipe" in done.stderr


def test_few_descriptors_are_told_before_any_work(
    clean_run: small_runs.SmallRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_runs.copy(clean_run, tmp_path / "run")
    n_open = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (n_open + 60, 4096))
    descriptors.check(4)
    with pytest.raises(aggregator.RefusedError, match=r"42 worker processes need \d+ open") as caught:
        run.aggregate(n_processes=40)
    needed = int(str(caught.value).split(" need ")[1].split()[0])
    assert f"ulimit -n {needed}" in str(caught.value)
    assert not list(run.root.glob("*checkpoint*"))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (needed + 10, 4096))
    descriptors.check(42)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    descriptors.check(10**6)


def test_the_number_of_descriptors_is_enough(clean_run: small_runs.SmallRun, tmp_path: pathlib.Path) -> None:
    run = small_runs.copy(clean_run, tmp_path / "run")
    script = (
        "import os, resource, sys, aggregator\n"
        "n_open = len(os.listdir('/proc/self/fd'))\n"
        "from aggregator.workers.engines import descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 32 + 4 * 6, 4096))\n"
        "aggregator.aggregate_graph(sys.argv[1], sys.argv[2], "
        "aggregator.AggregatorConfig(n_processes=4, output_path=sys.argv[3]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, run.predicted, run.root, run.output], capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_paths_that_are_not_utf_8_are_refused_in_one_line(
    clean_run: small_runs.SmallRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(odd)
    run = small_runs.copy(clean_run, pathlib.Path(odd) / "run")
    good = small_runs.copy(clean_run, tmp_path / "run")
    for predicted, root, options in (
        (run.predicted, good.root, {}),
        (good.predicted, run.root, {}),
        (good.predicted, good.root, {"output_path": f"{odd}/o.qg"}),
        (good.predicted, good.root, {"checkpoint_dir": f"{odd}/c"}),
        (good.predicted, good.root, {"worker_log_dir": f"{odd}/l"}),
        (good.predicted, good.root, {"worker_profile_dir": f"{odd}/p", "n_processes": 2}),
    ):
        with pytest.raises(aggregator.RefusedError, match=r"caf\\xe9.*not UTF-8"):
            aggregator.aggregate_graph(str(predicted), str(root), aggregator.AggregatorConfig(**options))
    monkeypatch.chdir(odd)
    with pytest.raises(aggregator.RefusedError, match=r"caf\\xe9.*not UTF-8"):
        aggregator.aggregate_graph("run/predicted.qg", "run")
    link = tmp_path / "link"
    link.symlink_to(odd)
    assert small_runs.SmallRun(link / "run").aggregate().n_ingested > 0


def test_another_locale_works_or_says_what_can_not_be(
    clean_run: small_runs.SmallRun, tmp_path: pathlib.Path
) -> None:
    run = small_runs.copy(clean_run, tmp_path / "plain")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command("aggregate-graph", run.predicted, run.root, "-o", run.output, **ascii_only)
    assert done.returncode == 0, done.stderr
    run = small_runs.copy(clean_run, tmp_path / "ü")
    for environment in (ascii_only, {"LC_ALL": "C"}):
        done = command("aggregate-graph", run.predicted, run.root, "-o", run.output, **environment)
        assert b"Traceback" not in done.stderr
        assert done.returncode in (0, 2), done.stderr


def test_characters_that_a_locale_lacks_are_trouble_of_the_machine(tmp_path: pathlib.Path) -> None:
    script = (
        "from aggregator.storage import local_files, errors\n"
        "try: local_files.read('/tmp/' + chr(252))\n"
        "except errors.MachineError as exc: print(ascii(str(exc)))\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert b"LC_ALL=C.UTF-8" in found.stdout, found.stderr


def test_names_are_checked_only_for_being_text(tmp_path: pathlib.Path) -> None:
    for path in ("", "a", "/ü/b", str(tmp_path)):
        assert local_files.named(path) == path
