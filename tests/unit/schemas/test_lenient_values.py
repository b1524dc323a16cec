"""Numbers, times and ids that are not written in the usual way."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from aggregator.schemas.execution import lenient_values

UTC = datetime.UTC
ID = "01a200dc-a8c6-77a6-8839-7ca00bcb3374"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7), (True, 1), (7.0, 7), (-2.0, -2), (" 12 ", 12), ("+1_000", 1000), ("-0.0", 0), ("007", 7),
        ("0-5", -5), ("3.00", 3),
    ],
)  # fmt: skip
def test_whole_numbers(value: Any, expected: int) -> None:
    assert lenient_values.integer(value) == expected


@pytest.mark.parametrize(
    "value", [1.5, math.nan, math.inf, 2.0**63, "1.5", "", "1__0", "x", "9" * 4301, None]
)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        lenient_values.integer(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0), (False, 0.0), (" 1.5\n", 1.5), ("1_000.5", 1000.5), ("-Infinity", -math.inf),
        ("1e3", 1000.0), (".5", 0.5),
    ],
)  # fmt: skip
def test_numbers(value: Any, expected: float) -> None:
    assert lenient_values.number(value) == expected


def test_a_number_that_is_none_is_one() -> None:
    assert math.isnan(lenient_values.number("nan"))


@pytest.mark.parametrize("value", ["_1", "1_", "1__0", " 1_0", "", "x", None, []])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="not a number"):
        lenient_values.number(value)


def test_a_number_that_is_too_large_is_not_shown() -> None:
    with pytest.raises(ValueError, match="too large: a huge number"):
        lenient_values.number(10**400)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-01", datetime.datetime(2026, 3, 1)),
        ("2026-03-01T12:30", datetime.datetime(2026, 3, 1, 12, 30)),
        ("2026-03-01 12:30:05,25", datetime.datetime(2026, 3, 1, 12, 30, 5, 250000)),
        ("2026-03-01t12:30:05.123456789Z", datetime.datetime(2026, 3, 1, 12, 30, 5, 123456, UTC)),
        ("2026-03-01_12:30:05+0130", datetime.datetime(2026, 3, 1, 11, 0, 5, tzinfo=UTC)),
        ("2026-03-01T12:30:05-05:00", datetime.datetime(2026, 3, 1, 17, 30, 5, tzinfo=UTC)),
        ("2026-03-01T12:30:05\u221205:00", datetime.datetime(2026, 3, 1, 17, 30, 5, tzinfo=UTC)),
        (0, datetime.datetime(1970, 1, 1, tzinfo=UTC)),
        (1.5, datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)),
        (20000000001000, datetime.datetime(2603, 10, 11, 11, 33, 21, tzinfo=UTC)),
        ("86400", datetime.datetime(1970, 1, 2, tzinfo=UTC)),
        ("8.64e4", datetime.datetime(1970, 1, 2, tzinfo=UTC)),
        ("-1.0", datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times(value: Any, expected: datetime.datetime) -> None:
    time = lenient_values.time(value)
    assert time == expected
    assert (time.tzinfo is None) == (expected.tzinfo is None)


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, "", "yesterday", "2026-3-1", "2026-13-01", "2026-03-01T25:00"),
        *("2026-03-01T12:30:05+25:00", math.nan, math.inf, 1e300, 1e17, "1e17", 10**400),
    ],
)
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not a time|month|hour|offset"):
        lenient_values.time(value)


@pytest.mark.parametrize(
    "value", [ID, ID.upper(), ID.replace("-", ""), f"urn:uuid:{ID}", f"{{{ID}}}", f"{{{ID.upper()}}}"]
)
def test_ids(value: str) -> None:
    assert lenient_values.dashed_id(value) == ID


@pytest.mark.parametrize("value", [ID[:-1], f"{{{ID}", ID.replace("-", "", 1), f" {ID}", 7, None, "x" * 200])
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(ValueError, match="not an id: ") as caught:
        lenient_values.dashed_id(value)
    assert len(str(caught.value)) < 100
