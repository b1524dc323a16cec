"""Plain values with what JSON and msgpack can't tell of them: arrays, bytes, numbers that are not finite.

What both can tell stays as it is. Everything else is a mapping with the one key `MARK`, whose value is a list
of a kind and its content; so is a mapping that has this key itself, or one that is no text.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

MARK: Final = "$type"
"""The key that makes a mapping mean something else."""

_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1
"""Integers that msgpack can tell."""


class ValueProblem(Exception):
    """A value that can't be told; the text says where in the whole it is."""


def marked(value: Any, *, is_text: bool) -> Any:
    """Return a value in parts that JSON and msgpack have.

    Parameters
    ----------
    value
        None, a boolean, number, text, bytes, array, or a list, tuple or mapping of such. Tuples become lists.
    is_text
        Whether it is for JSON, which has neither bytes nor all numbers.

    Raises
    ------
    ValueProblem
        If something else is in it, or it is nested too deeply.
    """
    try:
        return _marked(value, "", is_text)
    except RecursionError:
        raise ValueProblem("it is nested too deeply, or in a circle") from None


def _marked(value: Any, place: str, is_text: bool) -> Any:
    if isinstance(value, np.generic) and value.ndim == 0 and not isinstance(value, np.void):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if _SMALLEST <= value <= _LARGEST else {MARK: ["int", str(value)]}
    if isinstance(value, float):
        return {MARK: ["float", repr(value)]} if is_text and not math.isfinite(value) else value
    if isinstance(value, bytes | bytearray | memoryview):
        return _binary("bytes", bytes(value)) if is_text else bytes(value)
    if isinstance(value, np.ndarray):
        data = _array(value, place)
        return _binary("array", data) if is_text else {MARK: ["array", data]}
    if isinstance(value, Mapping):
        return _mapping(value, place, is_text)
    if isinstance(value, list | tuple):
        return [_marked(each, f"{place}[{number}]", is_text) for number, each in enumerate(value)]
    raise ValueProblem(
        f"{place.lstrip('.') or 'it'} is of type {type(value).__name__}, which has no place there"
    )


def _mapping(value: Mapping[Any, Any], place: str, is_text: bool) -> Any:
    pairs = [[key, _marked(each, f"{place}.{key}", is_text)] for key, each in value.items()]
    if MARK in value or not all(isinstance(key, str) for key in value):
        return {MARK: ["mapping", [[_marked(key, place, is_text), each] for key, each in pairs]]}
    return dict(pairs)


def _binary(kind: str, data: bytes) -> Any:
    return {MARK: [kind, base64.b64encode(data).decode("ascii")]}


def _array(value: Any, place: str) -> bytes:
    if type(value) is not np.ndarray or value.dtype.hasobject:
        kind = f"array of {value.dtype}" if type(value) is np.ndarray else type(value).__name__
        raise ValueProblem(f"{place.lstrip('.') or 'it'} is an {kind}, which has no place there")
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(value).reshape(value.shape), allow_pickle=False)
    return stream.getvalue()


def plain(value: Any, *, is_text: bool) -> Any:
    """Return the value that `marked` has made this of.

    Raises
    ------
    ValueProblem
        If it was not made so.
    """
    try:
        return _plain(value, is_text)
    except RecursionError:
        raise ValueProblem("it is nested too deeply") from None
    except (TypeError, ValueError, KeyError, EOFError, SyntaxError) as exc:
        raise ValueProblem(f"a value can't be understood ({exc})") from exc


def _plain(value: Any, is_text: bool) -> Any:
    if isinstance(value, list):
        return [_plain(each, is_text) for each in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {key: _plain(each, is_text) for key, each in value.items()}
    kind, content = value[MARK]
    if kind == "mapping":
        return {_plain(key, is_text): _plain(each, is_text) for key, each in content}
    return _KINDS[kind](_bytes(content) if is_text and kind in ("bytes", "array") else content)


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def _loaded(data: bytes) -> Any:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


_KINDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "int": int,
    "float": float,
    "bytes": bytes,
    "array": _loaded,
}
