"""JSON documents of one object, with the types that JSON lacks."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from aggregator.schemas import typed_values
from aggregator.storage import errors

HEAD: Final = b'{"format":"aggregator-item",'
"""Begin of every document."""

_FORMAT: Final = "aggregator-item"
_VERSION: Final = 1


class _Document(msgspec.Struct):
    format: str
    version: int
    type: str
    value: Any


def encode(type_name: str, value: Any) -> bytes:
    """Return a document.

    Raises
    ------
    typed_values.ValueProblem
        If the value can't be told.
    """
    content = typed_values.marked(value, is_text=True)
    document = {"format": _FORMAT, "version": _VERSION, "type": type_name, "value": content}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError as exc:
        raise typed_values.ValueProblem(f"a text in it is no Unicode ({exc.reason})") from exc


def decode(data: bytes, path: str) -> tuple[str, Any]:
    """Return the name of the type, and the value, of a document.

    Parameters
    ----------
    data
        Its content.
    path
        Where it is, for messages.

    Raises
    ------
    FormatError
        If it is none, or of another version.
    """
    try:
        document = msgspec.convert(json.loads(data), _Document)
    except (ValueError, RecursionError, msgspec.ValidationError) as exc:
        raise errors.FormatError(path, "", f"is no document of an object ({exc})") from exc
    if document.format != _FORMAT or document.version != _VERSION:
        raise errors.FormatError(path, "", "is a document of another kind, or of a newer version")
    try:
        return document.type, typed_values.plain(document.value, is_text=True)
    except typed_values.ValueProblem as exc:
        raise errors.FormatError(path, "", str(exc)) from exc
