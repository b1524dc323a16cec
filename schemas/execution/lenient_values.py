"""Values that the reference's readers take for a number, a time or an id, besides the plain ones.

Its models convert texts, flags and whole floats (execution-files.md section 2). What they take must be taken
here, and what they refuse must be refused: from a block with such a value they could read nothing at all.
"""

import datetime
import math
import re
from typing import Any

_SPACE = "".join(
    ["\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000", *map(chr, range(0x2000, 0x200B))]
)
"""White space as Unicode has it; Python's own adds control characters."""

_INTEGER = re.compile(r"(?:0+(?=-[1-9]|-0(?:\.0+)?$))?([+-]?)([0-9]+(?:_[0-9]+)*)(?:\.0+)?")
_MAX_DIGITS = 4300

_FLOAT = re.compile(r"[+-]?(?:inf|infinity|nan|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)", re.IGNORECASE)

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt _](\d\d:\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:[Zz]|([+\-\u2212])(\d\d):?([0-5]\d))?",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIMESTAMP = re.compile(r"[+-]?(?:\d+|(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.ASCII)
_MILLISECONDS_ABOVE = 2e10
"""Larger numbers are milliseconds since 1970, smaller ones seconds."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_ID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_USUAL_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_IDS = re.compile(rf"(?:urn:uuid:)?({_ID})|\{{({_ID})\}}|([0-9a-fA-F]{{32}})")


def integer(value: Any) -> int:
    """Return a whole number given as such, as a flag, or as a text.

    Raises
    ------
    ValueError
        If it is none; of all functions here.
    """
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**63:
        return int(value)
    if isinstance(value, str):
        match = _INTEGER.fullmatch(value.strip(_SPACE))
        if match and len(digits := match[2].replace("_", "").lstrip("0")) <= _MAX_DIGITS:
            return int(f"{match[1]}{digits or 0}")
    raise ValueError(f"not a whole number: {_shown(value)}")


def number(value: Any) -> float:
    """Return a number, which need not be finite, given as such, as a flag, or as a text."""
    try:
        if isinstance(value, int | float):
            return float(value)
    except OverflowError:
        raise ValueError(f"too large: {_shown(value)}") from None
    if isinstance(value, str):
        text = value.strip(_SPACE)
        # Underscores and white space are not taken together.
        if not ("__" in value or value.startswith("_") or value.endswith("_")):
            text = value.replace("_", "") if "_" in value else text
        if _FLOAT.fullmatch(text):
            return float(text)
    raise ValueError(f"not a number: {_shown(value)}")


def time(value: Any) -> datetime.datetime:
    """Return a time given as ISO 8601, with or without zone, or as (milli)seconds since 1970."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_timestamp(value)
    if isinstance(value, str):
        if match := _TIME.fullmatch(value):
            return _from_parts(match)
        if _DATE.fullmatch(value):
            return datetime.datetime.fromisoformat(value)
        if _TIMESTAMP.fullmatch(value):
            return _from_timestamp(float(value))
    raise ValueError(f"not a time: {_shown(value)}")


def _from_parts(match: re.Match[str]) -> datetime.datetime:
    date, minutes, seconds, fraction, sign, zone_hours, zone_minutes = match.groups()
    text = f"{date}T{minutes}:{seconds or '00'}"
    # Python's own reader takes more than the reference's, but not in this form.
    result = datetime.datetime.fromisoformat(text)
    result = result.replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))
    if sign is not None:
        offset = datetime.timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        return result.replace(tzinfo=datetime.timezone(offset if sign == "+" else -offset))
    return result.replace(tzinfo=datetime.UTC) if match[0][-1] in "Zz" else result


def _from_timestamp(value: float) -> datetime.datetime:
    try:
        if not math.isfinite(value):
            raise ValueError(f"not a time: {value}")
        unit = "milliseconds" if abs(value) > _MILLISECONDS_ABOVE else "seconds"
        return _EPOCH + datetime.timedelta(**{unit: value})
    except OverflowError:
        raise ValueError(f"not a time: {_shown(value)}") from None


def dashed_id(value: Any) -> str:
    """Return a UUID in its usual form."""
    # Nearly all are in this form, for which the rest would take four times as long.
    if type(value) is str and _USUAL_ID.fullmatch(value):
        return value
    match = _IDS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"not an id: {_shown(value)}")
    digits = (match[1] or match[2] or match[3]).replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 128 else "a huge number"
    return text if len(text) <= 80 else f"{text[:80]}..."
