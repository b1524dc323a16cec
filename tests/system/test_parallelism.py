"""Parallelism comes from `-j` only, whatever the environment says."""

import os
import pathlib
import re
import subprocess
import sys
import time

import psutil
import pytest

import aggregator
from tests.helpers import samples

WORST = {
    "LSST_RESOURCES_NUM_WORKERS": "64",
    "LSST_RESOURCES_EXECUTOR": "process",
    "LSST_S3_USE_THREADS": "True",
    "OMP_NUM_THREADS": "8",
    "OPENBLAS_NUM_THREADS": "8",
    "MKL_NUM_THREADS": "8",
}


def _observe(sample: samples.Sample, n_processes: int) -> tuple[dict[int, int], dict[str, int]]:
    """Run an aggregation; return the most threads of each process seen, and the process of each role."""
    logs = sample.root / "logs"
    command = [
        *(sys.executable, "-m", "aggregator", "aggregate-graph"),
        *(str(sample.repo / "predicted.qg"), str(sample.repo), "-o", str(sample.root / "out.qg")),
        *("-j", str(n_processes), "--mock-storage-classes", "--worker-log-dir", str(logs)),
    ]
    threads: dict[int, int] = {}
    lines = set()
    with subprocess.Popen(command, env=os.environ | WORST, stdout=subprocess.DEVNULL) as running:
        main = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                for process in [main, *main.children(recursive=True)]:
                    if process.status() != psutil.STATUS_ZOMBIE:
                        threads[process.pid] = max(threads.get(process.pid, 0), process.num_threads())
                        lines.add(tuple(process.cmdline()))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.002)
        assert running.returncode == 0
    # Workers are copies. (Of one that is just ending there is no command line any more.)
    assert lines - {()} == {tuple(command)}
    roles = {"coordinator": running.pid}
    for path in logs.glob("*.log"):
        found = re.search(r"starting as process (\d+)", path.read_text())
        assert found, path
        roles[path.stem] = int(found[1])
    return threads, roles


def test_worst_environment_starts_no_more_processes_and_threads(sample: samples.Sample) -> None:
    threads, roles = _observe(sample, 2)
    assert sorted(roles) == ["coordinator", "ingester", "scanner-000", "scanner-001", "writer"]
    assert len(set(roles.values())) == 5
    assert threads[roles["coordinator"]] == 1
    for name in roles.keys() - {"coordinator"}:
        # Its work, and the one that watches the coordinator.
        assert threads[roles[name]] == 2, name
    assert threads.keys() == set(roles.values())


def test_one_process_is_one_process(sample: samples.Sample) -> None:
    threads, roles = _observe(sample, 1)
    assert set(roles.values()) == {roles["coordinator"]}
    assert threads == {roles["coordinator"]: 1}


@pytest.mark.parametrize("n_processes", [1, 2])
def test_environment_of_the_caller_stays(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, n_processes: int
) -> None:
    for name, value in WORST.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MKL_NUM_THREADS")
    before = dict(os.environ)
    config = aggregator.AggregatorConfig(n_processes=n_processes, mock_storage_classes=True)
    aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), config)
    assert dict(os.environ) == before


def test_a_script_without_main_guard_works(sample: samples.Sample, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import aggregator\n"
        "print('started')\n"
        "config = aggregator.AggregatorConfig(n_processes=2, mock_storage_classes=True)\n"
        f"aggregator.aggregate_graph({str(sample.repo / 'predicted.qg')!r}, {str(sample.repo)!r}, config)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1


def test_who_coordinates_loads_no_database_libraries() -> None:
    """They take a fifth of a second, which only the ingester has to spend."""
    code = "import sys, aggregator.aggregation.aggregate; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
