"""Archives: one object of any plain kind in a file, compressed, with a checksum.

    magic        8 bytes
    checksum     16 bytes, XXH3 of all that follows
    content      zstd of msgpack: [name of the object's type, its value (`typed_values`)]

The archives that Boost makes for C++ have the same purpose, and are another format.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
import xxhash
import zstandard
from aggregator.schemas import typed_values
from aggregator.storage import errors

MAGIC: Final = b"\x93QGITEM\x01"
"""Begin of every archive; the last byte is the version of the format."""

_N_MAGIC: Final = len(MAGIC)
_N_CHECKSUM: Final = 16
_BOOST: Final = b"serialization::archive"


def encode(type_name: str, value: Any) -> bytes:
    """Return the content of an archive.

    Raises
    ------
    typed_values.ValueProblem
        If the value can't be told.
    """
    content = typed_values.marked(value, is_text=False)
    try:
        plain = msgpack.packb([type_name, content], use_bin_type=True)
    except ValueError as exc:
        raise typed_values.ValueProblem(f"it can't be written ({exc})") from exc
    compressed = zstandard.compress(plain, 3)
    return MAGIC + xxhash.xxh3_128_digest(compressed) + compressed


def decode(data: bytes, path: str) -> tuple[str, Any]:
    """Return the name of the type, and the value, of an archive.

    Parameters
    ----------
    data
        Its content.
    path
        Where it is, for messages.

    Raises
    ------
    FormatError
        If it is no archive, or damaged.
    """
    if not data.startswith(MAGIC):
        raise errors.FormatError(path, "", _stranger(data))
    content = data[_N_MAGIC + _N_CHECKSUM :]
    if xxhash.xxh3_128_digest(content) != data[_N_MAGIC : _N_MAGIC + _N_CHECKSUM]:
        raise errors.FormatError(
            path, "", "the archive is damaged or cut off (wrong checksum); write it again"
        )
    try:
        plain = zstandard.decompress(content)
        type_name, value = msgpack.unpackb(plain, strict_map_key=False)
        return str(type_name), typed_values.plain(value, is_text=False)
    except (zstandard.ZstdError, ValueError, TypeError, typed_values.ValueProblem) as exc:
        raise errors.FormatError(path, "", f"the archive can't be understood ({exc})") from exc


def _stranger(data: bytes) -> str:
    if _BOOST in data[:64]:
        return (
            "is an archive made by Boost, which only the C++ program that wrote it can read; write its "
            "content as FITS or text there"
        )
    if data.startswith(MAGIC[:-1]):
        return "is an archive of a newer version; read it with the program that wrote it"
    return "is no archive"
