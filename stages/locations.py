"""Locations with placeholders, such as ``%(output)/PS-v%05d(visit).fits`` (stages.md section 5)."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aggregator.stages import int_formats
from aggregator.storage import errors

_KEY: Final = re.compile(r"\((\w+)\)")

_location_map: dict[str, Any] = {}


def set_map(values: Mapping[str, Any] | None) -> None:
    """Set values that all locations of this process have, whatever else is there; nothing clears them.

    Parameters
    ----------
    values
        Values by key, such as ``input`` or ``output``. They are copied.
    """
    global _location_map
    _location_map = dict(values or {})


def current_map() -> dict[str, Any]:
    """Return a copy of the values that all locations of this process have."""
    return dict(_location_map)


def expand(text: str, data: Mapping[str, Any]) -> str:
    """Return a location with values in place of its placeholders.

    Parameters
    ----------
    text
        The location.
    data
        Values by key; those of `set_map` come first.

    Returns
    -------
    location
        A path or URI.

    Raises
    ------
    RefusedError
        If there is no value for a key, or it can't be shown in the format of its placeholder.
    """
    parts = []
    end = 0
    for begin, form, key, after in placeholders(text):
        parts += [text[end:begin], _value_text(text, form, key, data)]
        end = after
    return "".join(parts) + text[end:]


def placeholders(text: str) -> Iterator[tuple[int, str, str, int]]:
    """Yield place, format and key of each placeholder, and the place after it.

    A placeholder goes from a per cent sign to the next key in parentheses, in the same line.
    """
    end = 0
    for match in _KEY.finditer(text):
        line = text.rfind("\n", end, match.start()) + 1
        begin = text.find("%", max(end, line), match.start())
        if begin >= 0:
            yield begin, text[begin : match.start()], match[1], match.end()
        end = match.end()


def _value_text(location: str, form: str, key: str, data: Mapping[str, Any]) -> str:
    if key in _location_map:
        value = _location_map[key]
    elif key in data:
        value = data[key]
    else:
        raise errors.RefusedError(
            f"{location}: Unknown substitution: {key}. Give it in the location map, or data."
        )
    try:
        if isinstance(value, str):
            # A string is put in whatever the format, but a format must not be text that would be lost.
            if "%" in form[1:]:
                int_formats.check(form)
            return value
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return str(int(value)) if form == "%" else int_formats.int_text(form, int(value))
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return repr(float(value)) if form == "%" else int_formats.float_text(form, float(value))
    except int_formats.FormatError as exc:
        raise errors.RefusedError(f"{location}: '{form}({key})': the format {exc}.") from exc
    text = f"{key} is a {type(value).__name__}; only ints, floats and strings can be in a location"
    raise errors.RefusedError(f"{location}: {text}.")
