from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from aggregator.storage import in_flight


@pytest.mark.parametrize("n_at_once", [1, 4])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 50])
def test_results_are_in_order(n: int, n_at_once: int) -> None:
    assert list(in_flight.map_ordered(lambda i: i * i, range(n), n_at_once)) == [i * i for i in range(n)]


def test_quick_calls_are_made_one_by_one() -> None:
    threads = set()
    list(in_flight.map_ordered(lambda i: threads.add(threading.get_ident()), range(100)))
    assert threads == {threading.get_ident()}


def test_slow_calls_are_made_at_a_time() -> None:
    n_running, most = 0, 0
    lock = threading.Lock()

    def call(i: int) -> int:
        nonlocal n_running, most
        with lock:
            n_running += 1
            most = max(most, n_running)
        time.sleep(0.02)
        with lock:
            n_running -= 1
        return i

    assert list(in_flight.map_ordered(call, range(100))) == list(range(100))
    assert 8 < most <= in_flight.AT_ONCE


def test_arguments_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Any:
        for i in range(1000):
            taken.append(i)
            yield i

    results = in_flight.map_ordered(lambda i: i, items(), 4)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("n_at_once", [1, 4])
def test_errors_come_in_their_turn(n_at_once: int) -> None:
    def call(i: int) -> int:
        if i == 20:
            raise KeyError(i)
        return i

    results = in_flight.map_ordered(call, range(100), n_at_once)
    assert [next(results) for _ in range(20)] == list(range(20))
    with pytest.raises(KeyError):
        next(results)


def test_a_few_slow_calls_do_not_make_storage_slow() -> None:
    pace = in_flight.Pace()
    for i in range(8):
        pace.call(lambda slow=i < 4: time.sleep(0.01) if slow else None)
    assert pace.n_at_once == 1
    for _ in range(20):
        pace.call(time.sleep, 0.003)
    assert pace.n_at_once == 1
