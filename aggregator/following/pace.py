"""When a follower looks, and until when it does."""

import dataclasses
import datetime
from typing import Final

from aggregator import ranges
from aggregator.storage import errors

INTERVAL: Final = 60.0
"""Seconds between looks."""

SETTLE_TIME: Final = 1800.0
"""Seconds without any change after which nothing counts as tried again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When a follower looks, and until when it does.

    Parameters
    ----------
    interval
        Seconds between looks, at least.
    settle_time
        Seconds without any change after which quanta that have failed count as not tried again, when all
        others have succeeded or can't run.
    until
        When the campaign counts as over, whatever has run; by default when everything has been attempted.
    """

    interval: float = INTERVAL
    settle_time: float = SETTLE_TIME
    until: datetime.datetime | None = None

    def check(self) -> None:
        """Refuse values that can't work.

        Raises
        ------
        RefusedError
            If there are some; the message names the option.
        """
        ranges.SECONDS.check("interval", self.interval)
        ranges.Range(0, 1e9, is_whole=False).check("settle_time", self.settle_time)

    def seconds_left(self) -> float:
        """Return the seconds until the campaign counts as over; infinite if nobody said when."""
        if self.until is None:
            return float("inf")
        return (self.until - datetime.datetime.now(datetime.UTC)).total_seconds()


def moment(text: str) -> datetime.datetime:
    """Return the time that a text names (ISO 8601); one without a zone is that of this machine.

    Raises
    ------
    RefusedError
        If it names none.
    """
    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as exc:
        raise errors.RefusedError(
            f"{text!r} is no time: write one as 2026-12-31T18:00, or with a zone as 2026-12-31T18:00+01:00."
        ) from exc
