"""Rows of JSON documents too large to be held parsed: thin graphs and dimension data."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ROW_OR_KEY = re.compile(
    # What may stand between rows; then an innermost list, with at most one level of lists inside (a
    # timespan), or the key of a list of rows. To be matched from where the last one ended, not searched
    # for: in a row that is cut off, a list inside of it, or a string, would look like a row.
    rb"[\s,{}\]]*+(?:"
    rb"(?P<row>\[(?:[^\[\]\"{}]++|" + _STRING + rb"|\[[^\[\]\"{}]*+\])*+\])"
    rb"|(?P<key>" + _STRING + rb")\s*:\s*\[)",
    re.DOTALL,
)
_HEX = rb"[0-9a-fA-F]"
_UUID = rb'"' + _HEX + rb"{8}(?:-" + _HEX + rb"{4}){3}-" + _HEX + rb'{12}"'
_UUID_PAIR = re.compile(rb"\[\s*(" + _UUID + rb"\s*,\s*" + _UUID + rb")\s*\]")
_COMPACT_PAIR = np.frombuffer(
    b'["00000000-0000-0000-0000-000000000000","00000000-0000-0000-0000-000000000000"],', dtype=np.uint8
)
_IS_DIGIT = ord("0") == _COMPACT_PAIR
_INTEGER_PAIR = re.compile(rb"\[\s*(\d+\s*,\s*\d+)\s*\]")
_START = b"\0"
"""Stands for the beginning of a document; no JSON text holds it."""
_EDGES_KEY = re.compile(
    # Begins the document or follows an object, unlike the same word as a task label.
    _START + rb"\s*\{\s*\"edges\"\s*:\s*\[|\}\s*,\s*\"edges\"\s*:\s*\["
)
_EDGES_END = re.compile(rb"\]\s*\]")


def table_rows(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield (key, row) from a document `{key: [row, row, ...], ...}` whose rows are lists.

    Parameters
    ----------
    chunks
        The document in pieces.

    Yields
    ------
    key
        Key of the list that the row is in.
    row
        JSON text of the row.

    Raises
    ------
    ValueError
        If text is left over that is neither row nor key.
    """
    key, rest = "", b""
    for chunk in chunks:
        rest += chunk
        end = 0
        while match := _ROW_OR_KEY.match(rest, end):
            end = match.end()
            if match["key"] is not None:
                key = json.loads(match["key"])
            else:
                yield key, match["row"]
        rest = rest[end:]
    if rest.strip(b" \t\r\n,[]{}"):
        raise ValueError(f"unexpected text {rest[:40]!r}")


def edge_pairs(chunks: Iterator[bytes], integers: bool) -> Iterator[npt.NDArray[Any]]:
    """Yield the ends of the edges of a thin graph, in pieces.

    Parameters
    ----------
    chunks
        The thin graph's document in pieces.
    integers
        Whether nodes are integers (version 0) instead of UUIDs.

    Yields
    ------
    ends
        Both ends of each edge by turns, shape (2 * edges,): ids of type `addresses.ID_TYPE`, or int64.
    """
    rest, inside = _START, False
    for chunk in chunks:
        rest += chunk
        if not inside:
            match = _EDGES_KEY.search(rest)
            if match is None:
                # Keep only what may be the start of the key.
                rest = rest[-64:]
                continue
            inside, rest = True, rest[match.end() :]
        if rest.lstrip().startswith(b"]"):
            return
        last = _EDGES_END.search(rest)
        # Whole pairs end with a closing bracket.
        end = last.start() + 1 if last else rest.rfind(b"]") + 1
        yield from _ends(rest[:end], integers)
        if last:
            return
        rest = rest[end:]
    raise ValueError("the list of edges is missing or has no end")


def _compact_ends(text: bytes) -> npt.NDArray[Any] | None:
    """Return the ends of edges written without spaces, as all known tools do; nothing for other texts."""
    codes = np.frombuffer(text.strip(b",") + b",", dtype=np.uint8)
    if len(codes) % len(_COMPACT_PAIR):
        return None
    codes = codes.reshape(-1, len(_COMPACT_PAIR))
    if not (codes[:, ~_IS_DIGIT] == _COMPACT_PAIR[~_IS_DIGIT]).all():
        return None
    digits = codes[:, _IS_DIGIT].tobytes()
    try:
        ids = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None
    # White space between digits would have been left out.
    return np.frombuffer(ids, dtype=addresses.ID_TYPE) if 2 * len(ids) == len(digits) else None


def _ends(text: bytes, integers: bool) -> Iterator[npt.NDArray[Any]]:
    compact = None if integers else _compact_ends(text)
    if compact is not None:
        yield compact
        return
    ends = (_INTEGER_PAIR if integers else _UUID_PAIR).findall(text)
    if len(ends) != text.count(b"["):
        raise ValueError("an edge is not a pair of nodes")
    if not ends:
        return
    joined = b",".join(ends)
    if integers:
        yield np.array([int(n) for n in joined.split(b",")], dtype=np.int64)
    else:
        digits = bytes.fromhex(joined.translate(None, b'-",\t\r\n ').decode())
        yield np.frombuffer(digits, dtype=addresses.ID_TYPE)
