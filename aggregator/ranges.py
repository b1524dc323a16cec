"""Numbers that users give: refused if they are out of range, or not a number."""

import dataclasses
import math
from typing import Any

from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Values that a number may have."""

    lowest: float
    """The smallest one."""

    highest: float
    """The largest one."""

    is_whole: bool = True
    """Whether it has to be an integer."""

    excludes_lowest: bool = False
    """Whether it has to be more than the smallest one."""

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is no number of this range.

        Raises
        ------
        RefusedError
            If so; names the option.
        """
        kinds = int if self.is_whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise errors.RefusedError(f"{name} must be {self._kind()}, not {value!r}")
        too_low = value <= self.lowest if self.excludes_lowest else value < self.lowest
        if too_low or not math.isfinite(value) or value > self.highest:
            shown = value if not isinstance(value, int) or value.bit_length() < 128 else "that"
            raise errors.RefusedError(f"{name} must be {self._kind()}, not {shown}")

    def _kind(self) -> str:
        noun = "an integer" if self.is_whole else "a number"
        above = f"above {self.lowest:,g}" if self.excludes_lowest else f"of {self.lowest:,g} or more"
        return f"{noun} {above}, at most {self.highest:,.0f}"


SECONDS = Range(0, 1e9, is_whole=False, excludes_lowest=True)
"""A time to wait."""

COUNT = Range(1, 2**31 - 1)
"""A number of things, one at least."""

COUNT_OR_NONE = Range(0, 2**31 - 1)
"""A number of things; there may be none."""
