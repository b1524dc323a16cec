"""Task metadata files: parsed and validated (execution-files.md section 1)."""

import codecs
import json
import math
import re
from typing import Any

import msgspec
from aggregator.schemas.execution import json_depth

Value = float | int | bool | str


class TaskMetadata(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A recursive set of names with values."""

    scalars: dict[str, Value] = {}
    """Single values."""
    arrays: dict[str, list[Value]] = {}
    """Lists of values of one kind."""
    metadata: dict[str, "TaskMetadata"] = {}
    """Nested sets."""


class ExceptionInfo(msgspec.Struct):
    """An exception as the provenance graph stores it."""

    type_name: str
    """Full name of its class."""
    message: str
    """Its text."""
    metadata: dict[str, float | int | str | bool | None]
    """Values attached to it."""


_decoder = msgspec.json.Decoder(TaskMetadata)


_CHECKED_AT_ONCE = 1 << 20
"""Bytes."""

_MAX_LEVELS = 90
"""Sets within each other that nobody's limit forbids; more are looked at exactly."""

_ESCAPE = re.compile(rb"\\(u[dD][89abAB]..(?:\\u[dD][c-fC-F]..)?|u[dD][c-fC-F]..|.)", re.DOTALL)
"""An escape in a JSON text, with both halves of a surrogate pair."""

_PAIR_SIZE = 11


def check_text(data: bytes) -> None:
    """Raise ValueError unless the bytes are UTF-8 text."""
    if data.isascii():
        return
    if len(data) <= _CHECKED_AT_ONCE:
        data.decode()
    else:
        # In pieces, since text takes up to four times the memory.
        decoder = codecs.getincrementaldecoder("utf-8")()
        for begin in range(0, len(data), _CHECKED_AT_ONCE):
            decoder.decode(memoryview(data)[begin : begin + _CHECKED_AT_ONCE])
        decoder.decode(b"", final=True)


def parse_lenient(data: bytes) -> Any:
    """Parse JSON with the constants NaN, Infinity and -Infinity.

    Raises
    ------
    ValueError
        If it is no JSON, or holds text that is no Unicode.
    """
    # As text, since from bytes it would guess the encoding, and files are copied into graphs as they are.
    value = json.loads(data.decode())
    check_surrogates(data)
    return value


def check_surrogates(data: bytes) -> None:
    """Raise ValueError if a JSON document has half a surrogate pair, even where nobody looks.

    It can't be written again, and no reader of graphs would take it.
    """
    # A search for one byte is many times faster, and mostly enough.
    if b"\\" in data and (b"\\ud" in data or b"\\uD" in data):
        for escape in _ESCAPE.finditer(data):
            if len(escape[1]) not in (1, _PAIR_SIZE):
                raise ValueError(f"half a surrogate pair at {escape.start()}")


def parse(data: bytes, outside: int = json_depth.ATTEMPTS) -> TaskMetadata:
    """Return validated metadata from the content of a file, or from a part of a log's extra.

    Parameters
    ----------
    data
        Its text.
    outside
        Lists and objects that it lies in, in its file or in a graph.

    Raises
    ------
    ValueError
        If it is no JSON or no task metadata.
    """
    return _parse_strictly(data, outside) or _parse_leniently(data, outside)


def parse_for_graph(data: bytes, outside: int = json_depth.ATTEMPTS) -> tuple[bytes, TaskMetadata]:
    """Return the text of metadata as graphs get it, and what it says; else like `parse`.

    For null, as older writers put it, graphs get NaN, which all readers take (quantum-graph-format.md 7.4).
    """
    # What this takes has no null for a value.
    if (metadata := _parse_strictly(data, outside)) is not None:
        return data, metadata
    data = _without_nulls(data)
    return data, _parse_leniently(data, outside)


def _parse_strictly(data: bytes, outside: int) -> TaskMetadata | None:
    """Return metadata as nearly all is; nothing if it may be some that only other parsers take.

    There is no part that it skips, so none is left in which a text could be no Unicode.
    """
    try:
        result = _decoder.decode(data)
    except msgspec.DecodeError:
        return None
    if check_arrays(result) > _MAX_LEVELS:
        json_depth.check(data, outside)
    return result


def _parse_leniently(data: bytes, outside: int) -> TaskMetadata:
    result = convert(parse_lenient(data))
    json_depth.check(data, outside)
    return result


def _without_nulls(data: bytes) -> bytes:
    if b"null" not in data:
        return data
    before = parse_lenient(data)
    after = nulls_replaced(before)
    return data if after == before else json.dumps(after, ensure_ascii=False, separators=(",", ":")).encode()


def nulls_replaced(metadata: Any) -> Any:
    """Return parsed metadata with NaN for null; what is no metadata stays as it is."""
    if not isinstance(metadata, dict):
        return metadata
    result = dict(metadata)
    if isinstance(scalars := result.get("scalars"), dict):
        result["scalars"] = {name: math.nan if v is None else v for name, v in scalars.items()}
    if isinstance(arrays := result.get("arrays"), dict):
        result["arrays"] = {
            name: [math.nan if v is None else v for v in values] if isinstance(values, list) else values
            for name, values in arrays.items()
        }
    if isinstance(nested := result.get("metadata"), dict):
        result["metadata"] = {name: nulls_replaced(m) for name, m in nested.items()}
    return result


def convert(value: Any) -> TaskMetadata:
    """Return validated metadata from a parsed document.

    Raises
    ------
    ValueError
        If it is no task metadata.
    """
    result = msgspec.convert(_fields(value), TaskMetadata)
    check_arrays(result)
    return result


def _fields(value: Any) -> Any:
    """Return parsed metadata without what nobody knows, which readers ignore."""
    if not isinstance(value, dict):
        return value
    result = {name: part for name, part in value.items() if name in TaskMetadata.__struct_fields__}
    if isinstance(nested := result.get("metadata"), dict):
        result["metadata"] = {name: _fields(inner) for name, inner in nested.items()}
    return result


def check_arrays(metadata: TaskMetadata) -> int:
    """Raise ValueError if an array mixes numbers, flags and texts; return how many sets lie in each other."""
    levels, level = 0, [metadata]
    while level:
        levels += 1
        below: list[TaskMetadata] = []
        for each in level:
            for name, values in each.arrays.items():
                if len(values) > 1 and len(kinds := set(map(type, values))) > 1 and kinds != {int, float}:
                    raise ValueError(f"array {name!r} holds values of different kinds")
            if each.metadata:
                below += each.metadata.values()
        level = below
    return levels
