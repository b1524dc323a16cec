"""How pages write numbers: times, sizes, counts."""

from __future__ import annotations

_TIMES = ((0.9995, 0.001, "ms"), (59.95, 1.0, "s"), (3597.0, 60.0, "min"), (86340.0, 3600.0, "h"))
_SIZES = ("B", "kB", "MB", "GB", "TB")


def grouped(value: int) -> str:
    """Return a count with separators of thousands."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds == 0:
        return "0 s"
    for limit, unit, name in _TIMES:
        if seconds < limit:
            return f"{_three_digits(seconds / unit)} {name}"
    return f"{_three_digits(seconds / 86400)} d"


def size(n_bytes: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    power = 0
    while n_bytes >= 999.5 and power < len(_SIZES) - 1:
        n_bytes /= 1000
        power += 1
    return f"{_three_digits(n_bytes)} {_SIZES[power]}"


def percentage(part: float, total: float) -> str:
    """Return a share in percent, never rounded to all or nothing."""
    if part in (0, total):
        return "100 %" if part else "0 %"
    return f"{min(99.99, max(0.01, 100 * part / total)):.4g} %"


def percent(share: float) -> str:
    """Return a share in percent, to three digits."""
    return f"{_three_digits(100 * share)} %" if share else "0 %"


def moment(iso: str) -> str:
    """Return a time, ISO 8601, to the second."""
    return iso[:19].replace("T", " ")


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    text = f"{value:#.3g}"
    return text if "e" in text else text.rstrip("0").rstrip(".")
