"""Killed, or asked to stop, with many files under way, an aggregation ends as if nothing had happened."""

from __future__ import annotations

import itertools
import pathlib
import signal
from typing import Any

import pytest

from tests.helpers import kills, thinning
from tests.helpers.oracle import runs


@pytest.fixture
def case(oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> kills.Case:
    copy = runs.copy_run(oracle_run, tmp_path / "repo")
    return kills.Case(copy, tmp_path / "out.qg", ("--requests", "32"))


STOPS = list(
    itertools.product(["quantum:1", "quantum:100", "digest:2"], [1, 2], [signal.SIGKILL, signal.SIGINT])
)


@pytest.mark.parametrize(("point", "n_processes", "number"), thinning.thinned(STOPS, STOPS[::5]))
def test_stopped_and_started_again(
    case: kills.Case,
    undisturbed: Any,
    tmp_path: pathlib.Path,
    point: str,
    n_processes: int,
    number: signal.Signals,
) -> None:
    marker = tmp_path / "marker"
    with case.start(n_processes, point, marker) as running:
        kills.wait_for(marker, running)
        if number == signal.SIGKILL:
            kills.kill_group(running.pid)
        else:
            running.send_signal(number)
            marker.write_text("")
        _, complaints = running.communicate(timeout=kills.GONE_SECONDS)
    assert running.returncode == (-number if number == signal.SIGKILL else 128 + number), complaints
    kills.assert_gone(running.pid)
    case.finish(n_processes)
    assert case.content() == undisturbed
    assert case.leftovers() == []
