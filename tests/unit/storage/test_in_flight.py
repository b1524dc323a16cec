"""Operations in threads: only where they take long, results in order, errors in their place."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from aggregator.storage import errors, in_flight


@pytest.fixture
def n_threads() -> int:
    return threading.active_count()


def wait_for_threads(number: int) -> None:
    """Wait until there are no more threads than a number."""
    deadline = time.monotonic() + 120
    while threading.active_count() > number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def slow(number: int) -> int:
    time.sleep(0.005)
    return number


def test_quick_operations_start_no_thread(n_threads: int) -> None:
    with in_flight.Requests() as requests:
        for number, result in enumerate(requests.map(lambda item: item, range(1000))):
            assert number == result
            # One of an earlier test may end in the meantime.
            assert threading.active_count() <= n_threads
        assert requests.at_once == 1
        assert not requests.is_measuring


def test_one_slow_operation_means_nothing() -> None:
    with in_flight.Requests() as requests:
        list(requests.map(lambda item: slow(item) if item == 0 else item, range(100)))
        assert requests.at_once == 1


def test_what_a_processor_is_waited_for_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else threads are started for files in memory, as soon as others keep the processors busy."""
    waited = 0.0

    def preempted(number: int) -> int:
        nonlocal waited
        began = time.perf_counter()
        result = slow(number)
        waited += time.perf_counter() - began
        return result

    monkeypatch.setattr(in_flight, "_busy_seconds", lambda: waited)
    with in_flight.Requests() as requests:
        assert list(requests.map(preempted, range(20))) == list(range(20))
        assert requests.at_once == 1


def test_what_is_worked_does_not_count() -> None:
    def work(number: int) -> int:
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass
        return number

    with in_flight.Requests() as requests:
        assert list(requests.map(work, range(20))) == list(range(20))
        assert requests.at_once == 1


def test_slow_operations_go_side_by_side(n_threads: int) -> None:
    with in_flight.Requests() as requests:
        assert list(requests.map(slow, range(100))) == list(range(100))
        assert requests.at_once >= 32
        assert threading.active_count() > n_threads
    wait_for_threads(n_threads)


def test_a_few_slow_operations_now_and_then_are_noticed() -> None:
    """As in shards in which hardly anything has failed."""
    with in_flight.Requests() as requests:
        for _ in range(2):
            assert requests.at_once == 1
            list(requests.map(slow, range(2)))
        assert requests.at_once >= 32


def test_most_of_what_is_measured_decides() -> None:
    with in_flight.Requests() as requests:
        # It would be three of five, whatever the others take.
        list(requests.map(slow, range(2)))
        list(requests.map(lambda item: item, range(2)))
        assert requests.at_once == 1
        list(requests.map(slow, range(1)))
        assert requests.at_once >= 32


def test_what_waits_already_begins_once_operations_are_known_to_take_long(n_threads: int) -> None:
    together = threading.Barrier(32)
    with in_flight.Requests(2) as requests:
        jobs = [requests.begin(together.wait, 10) for _ in range(32)]
        requests.suit(0.0001)
        assert requests.at_once == 2
        requests.suit(0.01)
        assert {job.result(20) for job in jobs} == set(range(32))
        requests.suit(0.001)
        assert requests.at_once >= 32
    wait_for_threads(n_threads)


def test_a_number_is_kept_whatever_they_take() -> None:
    with in_flight.Requests(1) as requests:
        idents = set(requests.map(lambda item: (slow(item), threading.get_ident())[1], range(20)))
        assert idents == {threading.get_ident()}
    together = threading.Barrier(6)
    with in_flight.Requests(6) as requests:
        # Nobody passes before six are there; a seventh would have to wait for ever.
        assert sorted(requests.map(lambda _: together.wait(10), range(12))) == sorted([*range(6)] * 2)


@pytest.mark.parametrize("number", [1, 8])
def test_an_error_comes_when_its_turn_does(number: int) -> None:
    def fail(item: int) -> int:
        if item == 7:
            raise errors.MachineError("file", "is in trouble")
        return item

    seen: list[int] = []
    with in_flight.Requests(number) as requests:
        results = requests.map(fail, range(20))
        with pytest.raises(errors.MachineError):
            seen.extend(results)
    assert seen == list(range(7))


def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    with in_flight.Requests(4) as requests:
        results = requests.map(slow, items())
        assert next(results) == 0
        assert len(taken) <= 6


def test_what_is_given_up_is_not_done() -> None:
    done = []
    with in_flight.Requests(2) as requests:
        jobs = [requests.begin(lambda i=i: (slow(i), done.append(i))) for i in range(50)]
        jobs[0].result()
    time.sleep(0.05)
    assert len(done) < 10


def test_closing_does_not_wait_for_what_hangs() -> None:
    released = threading.Event()
    began = time.monotonic()
    with in_flight.Requests(2) as requests:
        requests.begin(released.wait, 200)
    assert time.monotonic() - began < 100
    released.set()


def test_without_threads_it_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with in_flight.Requests(16) as requests:
        assert list(requests.map(slow, range(30))) == list(range(30))


def test_signals_are_for_the_main_thread() -> None:
    with in_flight.Requests(1) as requests:
        blocked = requests.begin(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= blocked


def test_variables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LSST_RESOURCES_NUM_WORKERS", "LSST_S3_USE_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    with in_flight.Requests() as requests:
        list(requests.map(slow, range(10)))
        assert requests.at_once >= 32
    assert "OMP_NUM_THREADS" in os.environ
