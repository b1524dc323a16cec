"""How fast a campaign goes, and when it will be over."""

import collections

_WINDOW_SECONDS = 3600.0
"""How far back the pace of a campaign is measured: batch systems come and go by the hour."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Forecast:
    """Watches a number that grows.

    Parameters
    ----------
    total
        Where it ends.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._points: collections.deque[tuple[float, int]] = collections.deque()

    def add(self, now: float, done: int) -> None:
        """Tell what it is at a time in seconds."""
        self._points.append((now, done))
        # One point before the window stays, so that all of it counts.
        while len(self._points) > 2 and self._points[1][0] <= now - _WINDOW_SECONDS:
            self._points.popleft()

    def rate(self, now: float) -> float:
        """Return how much it has grown a second; 0 if that is not known yet."""
        if len(self._points) < 2:
            return 0.0
        (begin, first), (_, last) = self._points[0], self._points[-1]
        return max(0.0, (last - first) / max(now - begin, 1e-3))

    def text(self, now: float) -> str:
        """Return both as text; empty if nothing is known yet, or it does not grow."""
        rate = self.rate(now)
        left = self._total - self._points[-1][1] if self._points else 0
        if not rate or not left:
            return ""
        return f"{rate * 3600:,.0f}/h, over in {duration(left / rate)}"


def duration(seconds: float) -> str:
    """Return a time as text, in its two largest units."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"
