"""Graph files taken apart and put together with nothing but zipfile, zstandard and json."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import zstandard

DATA = pathlib.Path(__file__).parent / "data"


def unpack_sample(directory: pathlib.Path) -> pathlib.Path:
    """Unpack the sample; tests that only read it can share it."""
    with zipfile.ZipFile(DATA / "sample.zip") as archive:
        archive.extractall(directory)
    return directory


def expected() -> dict[str, Any]:
    """Return what the reference makes of the sample."""
    document: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
    return document


def members(path: pathlib.Path) -> dict[str, bytes]:
    """Return the members of a graph file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(
    path: pathlib.Path, content: Mapping[str, bytes | None], method: int = zipfile.ZIP_STORED
) -> pathlib.Path:
    """Write a graph file with the given members; those that are None are left out."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def compress(document: Any, dictionary: bytes = b"") -> bytes:
    """Return a frame with a document, which is JSON text or a value."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    shared = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdCompressor(level=3, dict_data=shared).compress(text)


def decompress(frame: bytes, dictionary: bytes = b"") -> Any:
    """Return the value in a frame."""
    shared = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return json.loads(zstandard.ZstdDecompressor(dict_data=shared).decompress(frame))


def single(content: Mapping[str, bytes], name: str) -> Any:
    """Return the value of a single-block component."""
    return decompress(content[f"{name}.json.zst"], content.get("compression_dict", b""))


def frames(payload: bytes, int_size: int = 8) -> Iterator[bytes]:
    """Yield the frames of a multi-block member."""
    offset = 0
    while offset < len(payload):
        size = int.from_bytes(payload[offset : offset + int_size], "big")
        yield payload[offset + int_size : offset + int_size + size]
        offset += int_size + size


def blocks(content: Mapping[str, bytes], name: str) -> list[Any]:
    """Return the values of a multi-block member."""
    dictionary = content.get("compression_dict", b"")
    return [decompress(frame, dictionary) for frame in frames(content[f"{name}.mb"])]


def join(all_frames: list[bytes], int_size: int = 8) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a multi-block member and the addresses of its blocks."""
    payload, places = b"", []
    for frame in all_frames:
        places.append((len(payload), len(frame) + int_size))
        payload += len(frame).to_bytes(int_size, "big") + frame
    return payload, places


def address_file(rows: list[tuple[bytes, int, list[tuple[int, int]]]], int_size: int, columns: int) -> bytes:
    """Return an address file with rows of id, index and addresses, in the given order."""

    def number(value: int) -> bytes:
        return value.to_bytes(int_size, "big")

    data = bytes([int_size]) + number(len(rows)) + number(columns)
    for node, index, pairs in rows:
        data += node + number(index) + b"".join(number(value) for pair in pairs for value in pair)
    return data
