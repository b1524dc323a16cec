"""Address files `<name>.addr`: where the blocks of each node lie (quantum-graph-format.md section 4)."""

import dataclasses

import numpy as np
import numpy.typing as npt
from aggregator.storage import errors

Ids = npt.NDArray[np.bytes_]
"""Array of UUIDs as 16 bytes each; compares like the UUIDs. Take elements out with `id_at` only:
numpy strips trailing zero bytes."""

Integers = npt.NDArray[np.int64]

_ROWS_AT_ONCE = 100_000
"""Rows converted at once: the intermediate forms of millions would need more memory than the result."""

ID_TYPE = np.dtype("S16")


def id_at(ids: Ids, row: int) -> bytes:
    """Return the 16 bytes of one id."""
    return ids[row : row + 1].tobytes()


def parse_ids(texts: list[str]) -> Ids:
    """Return ids from their dashed (or plain) hexadecimal forms.

    Raises
    ------
    ValueError
        If a text is not a UUID.
    """
    digits = bytes.fromhex("".join(texts).replace("-", ""))
    if len(digits) != 16 * len(texts) or not {32, 36}.issuperset(map(len, texts)):
        raise ValueError("a UUID does not have 32 hexadecimal digits")
    return np.frombuffer(digits, dtype=ID_TYPE)


def hex_digits(ids: Ids) -> list[str]:
    """Return the 32 hexadecimal digits of each id, without dashes."""
    digits = ids.tobytes().hex()
    return [digits[i : i + 32] for i in range(0, len(digits), 32)]


def dashed(digits: str) -> str:
    """Return the usual form of a UUID from its 32 digits."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


TEXT_SIZE = 36
"""Characters of the usual form of a UUID."""


def texts(ids: Ids) -> npt.NDArray[np.uint8]:
    """Return the usual form of each id: ASCII codes, shape (n, 36)."""
    digits = np.frombuffer(ids.tobytes().hex().encode(), dtype=np.uint8).reshape(-1, 32)
    result = np.full((len(digits), TEXT_SIZE), ord("-"), dtype=np.uint8)
    for dashes, (begin, end) in enumerate(((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))):
        result[:, begin + dashes : end + dashes] = digits[:, begin:end]
    return result


def text_list(ids: Ids) -> list[bytes]:
    """Return the usual form of each id."""
    joined: list[bytes] = texts(ids).view(f"S{TEXT_SIZE}")[:, 0].tolist()
    return joined


@dataclasses.dataclass(frozen=True, slots=True)
class AddressTable:
    """All rows of an address file, sorted by id."""

    int_size: int
    """Bytes per integer in the file."""

    ids: Ids
    """Node ids, shape (n,)."""

    index: Integers
    """Integer names of the nodes, shape (n,); meaningful in version 0 graphs only."""

    offsets: Integers
    """Offsets in bytes, shape (n, n_addresses)."""

    sizes: Integers
    """Sizes in bytes including the prefix, 0 for an absent block, shape (n, n_addresses)."""


def _to_integers(columns: npt.NDArray[np.uint8]) -> Integers:
    """Turn big-endian integers of any width, shape (..., width), into int64."""
    width = columns.shape[-1]
    wide = np.zeros((*columns.shape[:-1], 8), dtype=np.uint8)
    wide[..., 8 - width :] = columns
    return wide.view(">i8")[..., 0].astype(np.int64)


def header_size(int_size: int) -> int:
    """Return the number of bytes before the first row."""
    return 1 + 2 * int_size


def row_size(int_size: int, n_addresses: int) -> int:
    """Return the number of bytes of a row."""
    return 16 + int_size * (1 + 2 * n_addresses)


def parse_header(data: bytes, path: str, member: str, n_addresses: int) -> tuple[int, int]:
    """Return (int_size, number of rows) from the first bytes of an address file."""
    int_size = data[0] if data else 0
    if not 1 <= int_size <= 8 or len(data) < header_size(int_size):
        raise errors.FormatError(path, member, "not an address file")
    n_rows = int.from_bytes(data[1 : 1 + int_size], "big")
    n_in_header = int.from_bytes(data[1 + int_size : 1 + 2 * int_size], "big")
    if n_in_header != n_addresses:
        raise errors.FormatError(path, member, f"has {n_in_header} addresses a row instead of {n_addresses}")
    return int_size, n_rows


def parse_rows(data: bytes | memoryview, int_size: int, n_addresses: int) -> AddressTable:
    """Return the rows in ``data``, a whole number of them."""
    raw = np.frombuffer(data, dtype=np.uint8).reshape(-1, row_size(int_size, n_addresses))
    ids = np.ascontiguousarray(raw[:, :16]).view(ID_TYPE)[:, 0]
    numbers = np.empty((len(raw), 1 + 2 * n_addresses), dtype=np.int64)
    for begin in range(0, len(raw), _ROWS_AT_ONCE):
        part = raw[begin : begin + _ROWS_AT_ONCE, 16:]
        numbers[begin : begin + len(part)] = _to_integers(part.reshape(len(part), -1, int_size))
    return AddressTable(int_size, ids, numbers[:, 0], numbers[:, 1::2], numbers[:, 2::2])


def encode_header(int_size: int, n_rows: int, n_addresses: int) -> bytes:
    """Return the bytes before the first row."""
    return bytes([int_size]) + n_rows.to_bytes(int_size, "big") + n_addresses.to_bytes(int_size, "big")


def encode_rows(ids: Ids, first_index: int, places: Integers, int_size: int) -> bytes:
    """Return rows.

    Parameters
    ----------
    ids
        Sorted ids, shape (n,).
    first_index
        Position of the first of these rows in the whole file.
    places
        Offset and size by turns, shape (n, 2 * n_addresses).
    int_size
        Bytes per integer.
    """
    n = len(ids)
    numbers = np.empty((n, 1 + places.shape[1]), dtype=">i8")
    numbers[:, 0] = np.arange(first_index, first_index + n)
    numbers[:, 1:] = places
    if int_size < 8 and n and max(int(places.max()), first_index + n) >> (8 * int_size):
        raise ValueError(f"an address does not fit {int_size} bytes; build the graph with a larger int_size")
    wide = numbers.view(np.uint8).reshape(n, numbers.shape[1], 8)
    narrow = wide[:, :, 8 - int_size :].reshape(n, numbers.shape[1] * int_size)
    keys = np.frombuffer(ids.tobytes(), dtype=np.uint8).reshape(n, 16)
    return np.concatenate([keys, narrow], axis=1).tobytes()


def are_in(ids: Ids, present: Ids) -> npt.NDArray[np.bool_]:
    """Return for each of some ids whether it is among others, which are sorted."""
    if not len(present):
        return np.zeros(len(ids), dtype=bool)
    places = np.searchsorted(present, ids)
    places[places == len(present)] = 0
    is_present: npt.NDArray[np.bool_] = present[places] == ids
    return is_present
