import time

import pytest
from aggregator.workers.engines import clock


def test_the_time_in_which_a_process_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    running = clock.Clock()
    for seconds in (0.25, 0.5, 0.0, 0.75):
        now += seconds
        running.tick()
    assert running.seconds == 1.5
    now += 3600
    running.tick()
    assert 1.5 < running.seconds < 3
    now += 0.5
    running.tick()
    assert running.seconds < 3.5
