"""Text made safe for terminals, pages and Markdown: control characters are shown, not obeyed.

Logs, exceptions, data IDs and paths are written by others. Printed as they are, they can clear the screen,
set the title, hide or forge lines, or turn the direction of what follows. Such characters
become visible here.
"""

import re
from typing import Any

_STEERING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters but tab and line feed, separators of lines, overrides of the direction, and halves of
characters, which come from paths that are not UTF-8."""

_IN_LINES = re.compile(f"[{_STEERING}]")
_IN_LINE = re.compile(f"[\t\n{_STEERING}]")
_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_PROSE = frozenset({"message", "exc_info"})


def _visible(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # How Python keeps a byte of a path that is not UTF-8.
        code -= 0xDC00
    return _NAMES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def line(text: str) -> str:
    r"""Return a text as a single line, in which what could steer a terminal is `\n`, `\x1b` or `\u202e`."""
    return _IN_LINE.sub(_visible, text)


def lines(text: str, indent: str = "") -> str:
    """Return a text of one or more lines.

    Parameters
    ----------
    text
        The text.
    indent
        What lines after the first begin with, so that they can't pass for lines of ours.
    """
    text = _IN_LINES.sub(_visible, text.replace("\r\n", "\n"))
    return text.replace("\n", "\n" + indent) if indent else text


def json(document: str) -> str:
    r"""Return the same JSON document with such characters, which are only within its strings, as `\u009b`."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", document)


def values(value: Any, name: str = "") -> Any:
    """Return a JSON value with texts that can be shown: of one line each, but for messages and tracebacks."""
    if isinstance(value, str):
        return lines(value) if name in _PROSE else line(value)
    if isinstance(value, dict):
        return {line(key) if isinstance(key, str) else key: values(v, str(key)) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [values(each, name) for each in value]
    return value
