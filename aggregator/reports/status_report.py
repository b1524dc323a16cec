"""The reference's report on quanta of certain states, as JSON (aggregate-and-ingest.md section 7.3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from aggregator.reports import listing


def pieces(listed: listing.Listing) -> Iterator[bytes]:
    """Yield the report: quanta by task, status and exception; never more than one of them is held."""
    path: tuple[str, ...] = ()
    yield b"{"
    for group in listed.groups():
        keys = group.task.label, group.status, group.exception or listing.NO_EXCEPTION
        yield _step(path, keys)
        path = keys
        for i, row in enumerate(group.rows.tolist()):
            yield b",\n" if i else b"\n"
            yield msgspec.json.encode(_entry(listed, row))
        yield b"\n]"
    yield b"}}" if path else b""
    yield b"}\n"


def _step(path: tuple[str, ...], keys: tuple[str, ...]) -> bytes:
    """Return what leads from one group to the next."""
    same = next((i for i, (old, new) in enumerate(zip(path, keys, strict=False)) if old != new), 0)
    closing = "}" * (len(path) - 1 - same) + "," if path else ""
    return (closing + "\n" + ": {".join(map(json.dumps, keys[same:])) + ": [").encode()


def _entry(listed: listing.Listing, row: int) -> dict[str, Any]:
    quantum = listed.quantum(row)
    return {
        "quantum_id": quantum.quantum_id,
        "data_id": listed.data_id(quantum),
        "attempts": quantum.attempts,
    }
