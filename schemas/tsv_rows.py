"""Rows as lines of text with tabs between values, as the COPY of PostgreSQL has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

_NULL: Final = r"\N"
_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_PLAIN: Final = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
_TO_ESCAPE: Final = re.compile(r"[\\\t\n\r]")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def encode(values: Sequence[Any]) -> bytes:
    """Return a line; booleans are 1 and 0, bytes hexadecimal digits after ``\\x``, other values texts."""
    return ("\t".join(map(_text, values)) + "\n").encode()


def _text(value: Any) -> str:
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"\\\\x{bytes(value).hex()}"
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match.group()], str(value))


def decode(line: bytes) -> list[str | None]:
    """Return the values of a line, as texts.

    Raises
    ------
    ValueError
        If it is no such line.
    """
    text = line.decode()
    if not text.endswith("\n"):
        raise ValueError("the line is cut off")
    return [_value(field) for field in text[:-1].split("\t")]


def _value(field: str) -> str | None:
    if field == _NULL:
        return None
    return _ESCAPED.sub(lambda match: _PLAIN.get(match.group(1), match.group(1)), field)
