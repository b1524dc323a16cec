"""How far a campaign is, whether anything may have changed, and when it will be over."""

from __future__ import annotations

import datetime
import pathlib

import numpy as np
import pytest
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.execution import statuses
from aggregator.storage import errors, testing

from aggregator.aggregation import shards
from aggregator.following import campaign_state, change_watch, forecast, pace

OK, FAILED, BAD = statuses.SUCCESSFUL, statuses.FAILED, digest.UNREADABLE


def count(
    told: list[int | None], edges: list[tuple[int, int]], size: int, settled: bool = True
) -> campaign_state.CampaignState:
    """Return numbers of quanta, given the status of each or nothing for one that has left nothing."""
    return campaign_state.count(
        np.array([FAILED if each is None else each for each in told], dtype=np.int8),
        np.array([each is None for each in told], dtype=bool),
        np.full(len(told), settled),
        *shards.by_consumer([np.array(edges, dtype=np.int32).reshape(-1, 2)], len(told)),
        size,
    )


@pytest.mark.parametrize("size", [1, 2, 10])
def test_each_quantum_is_counted_once(size: int) -> None:
    """Succeeded; failed, with two below it; ready, with one that waits; unreadable, with one below it."""
    told = [OK, FAILED, None, None, None, None, BAD, None]
    edges = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (0, 6), (6, 7)]
    state = count(told, edges, size)
    assert state == campaign_state.CampaignState(
        n_succeeded=1, n_failed=1, n_unreadable=1, n_blocked=3, n_ready=1, n_waiting=1, is_settled=False
    )
    assert (state.n_quanta, state.n_over, state.is_attempted) == (8, 6, False)


def test_what_waits_for_one_that_failed_and_one_that_did_not_run_is_blocked() -> None:
    state = count([FAILED, None, None], [(0, 2), (1, 2)], 10)
    assert (state.n_failed, state.n_ready, state.n_waiting, state.n_blocked) == (1, 1, 0, 1)


def test_a_success_below_a_failure_has_succeeded() -> None:
    """The failure is of a later attempt."""
    state = count([FAILED, OK, None], [(0, 1), (1, 2)], 10)
    assert (state.n_succeeded, state.n_failed, state.n_blocked) == (1, 1, 1)
    assert state.is_attempted


def test_it_is_over_when_logs_are_there() -> None:
    assert count([OK, OK], [(0, 1)], 10).is_settled
    assert not count([OK, statuses.ABORTED_SUCCESS], [(0, 1)], 10, settled=False).is_settled
    assert count([], [], 10).is_settled


class Files:
    """Directories whose tags are told."""

    def __init__(self, looks: list[bytes]) -> None:
        self.looks = iter(looks)

    def directory_tags(self, directories: dict[int, list[str]]) -> dict[tuple[int, str], bytes]:
        return {(0, "d"): next(self.looks)}

    def tags(self, names: list[str]) -> list[bytes]:
        return [b"now" for _ in names]

    def is_same(self, name: str, before: bytes, now: bytes) -> bool:
        return before == now


class Survey:
    def __init__(self, *files: tuple[str, bytes]) -> None:
        self.marked = list(files)
        self.directories = {0: ["d"]}


@pytest.mark.ordering("F2")
def test_what_has_changed_counts_twice() -> None:
    watch = change_watch.ChangeWatch(Files([b"1", b"1", b"1", b"2", b"2", b"2"]))
    assert [watch.look(Survey()) for _ in range(6)] == [True, True, False, True, True, False]


def test_files_are_looked_at_that_may_be_written_where_they_are() -> None:
    watch = change_watch.ChangeWatch(Files([b"1"] * 4))
    looks = [watch.look(Survey(("0:d/a", tag))) for tag in (b"now", b"now", b"now", b"before")]
    assert looks == [True, True, False, True]


def test_records_of_jobs_are_looked_at(tmp_path: pathlib.Path) -> None:
    records = tmp_path / "records"
    watch = change_watch.ChangeWatch(Files([b"1"] * 9), [str(records)])
    looks = [watch.look(Survey()) for _ in range(3)]
    records.write_text("1")
    looks += [watch.look(Survey()) for _ in range(3)]
    with records.open("a") as stream:
        stream.write("2")
    looks += [watch.look(Survey()) for _ in range(3)]
    assert looks == [True, True, False] * 3


def test_lists_are_those_of_few_directories() -> None:
    store = testing.MemoryStore()
    names = ["run/a_log/1", "run/a_log/2", "run/b_log/1"]
    assert set(store.directory_tags(names)) == {"run/a_log", "run/b_log"}
    assert set(store.directory_tags(names[:2])) == {"run/a_log/1", "run/a_log/2"}
    assert set(store.directory_tags([""])) == {""}
    assert store.directory_tags([]) == {}


def test_the_pace_is_that_of_the_last_hour() -> None:
    ahead = forecast.Forecast(1000)
    assert ahead.text(0.0) == ""
    ahead.add(0.0, 0)
    ahead.add(60.0, 10)
    assert ahead.text(60.0) == "600/h, over in 1 h 39 min"
    for minute in range(2, 200):
        ahead.add(60.0 * minute, 10)
    assert ahead.text(12000.0) == ""
    ahead.add(12000.0, 1000)
    assert ahead.text(12000.0) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (90061, "1 d 1 h"), (86460, "1 d"), (125, "2 min 5 s")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert forecast.duration(seconds) == text


def test_a_time_without_a_zone_is_that_of_this_machine() -> None:
    local = datetime.datetime(2026, 3, 4, 5, 6).astimezone(datetime.UTC)
    assert pace.moment("2026-03-04T05:06") == local
    assert pace.moment("2026-03-04T05:06+01:00").hour == 4
    with pytest.raises(errors.RefusedError, match="is no time"):
        pace.moment("36h")


def test_numbers_out_of_range_are_refused() -> None:
    for values in ({"interval": 0.0}, {"settle_time": -1.0}, {"interval": float("nan")}):
        with pytest.raises(errors.RefusedError, match=next(iter(values))):
            pace.Pace(**values).check()
    pace.Pace(settle_time=0.0).check()
