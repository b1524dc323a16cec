"""Clocks of engines that tests move on, so that no load of the machine counts for a time limit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from aggregator.workers.engines import clock

_SECONDS = 60.0


def run_by_steps(
    monkeypatch: pytest.MonkeyPatch, step: float, is_running: Callable[[], bool] = lambda: True
) -> None:
    """Let all clocks of this process go on by some seconds whenever somebody looks at them.

    Parameters
    ----------
    monkeypatch
        Undoes it.
    step
        The seconds.
    is_running
        Tells whether they go on at all.
    """

    def tick(self: clock.Clock) -> None:
        if is_running():
            self.seconds += step

    monkeypatch.setattr(clock.Clock, "tick", tick)


def stop(pid: int) -> None:
    """Stop a process, and wait until it is."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _SECONDS
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline, "it does not stop"
        time.sleep(0.01)
