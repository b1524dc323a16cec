"""Renewal of ids: a mask that gives every id of a run another one (transfer.md section 7.5).

A mask is a bijection, and its own inverse: applied again it gives back the old id. It keeps the time of an
id, its version and its variant, so that renewed ids are valid UUIDs in the order of time of the old ones. It
depends on nothing but names, so that a repetition gives the same ids, and no table has to be kept.
"""

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses

SIZE: Final = 16
"""Bytes of a mask."""

NONE: Final = bytes(SIZE)
"""The mask that changes nothing."""

_PURPOSE: Final = b"aggregator id mask 1"
_RENEWABLE_VERSIONS: Final = (4, 7)
_KEPT_BITS: Final = bytes.fromhex("ffffffffffff f000 c000000000000000".replace(" ", ""))
"""Bits of an id that no mask changes: 48 of time, four of the version, two of the variant."""


def derive(source_run: str, destination_run: str, salt: str = "") -> bytes:
    """Return the mask of the ids of a run.

    Parameters
    ----------
    source_run
        Name of the run where it comes from.
    destination_run
        Its name where it goes.
    salt
        Anything, for copies that shall have ids of their own under the same names.
    """
    digest = hashlib.blake2b(_PURPOSE, digest_size=SIZE)
    for text in (source_run, destination_run, salt):
        encoded = text.encode()
        # With its size in front no two triples of texts look the same.
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return bytes(d & ~k & 0xFF for d, k in zip(digest.digest(), _KEPT_BITS, strict=True))


def as_rows(ids: addresses.Ids) -> npt.NDArray[np.uint8]:
    """Return the bytes of each id, shape (n, 16)."""
    return np.frombuffer(ids.tobytes(), dtype=np.uint8).reshape(-1, SIZE)


def as_ids(rows: npt.NDArray[np.uint8]) -> addresses.Ids:
    """Return ids from their bytes, shape (n, 16)."""
    return np.ascontiguousarray(rows).view(addresses.ID_TYPE)[:, 0]


def are_renewable(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which ids, shape (n, 16), can be renewed: random and time-ordered ones.

    Ids of version 5 are made from the data ID, and are the same in every repository.
    """
    result: npt.NDArray[np.bool_] = np.isin(rows[:, 6] >> 4, _RENEWABLE_VERSIONS)
    return result


def apply(mask: bytes, ids: addresses.Ids) -> addresses.Ids:
    """Return the other ids of some ids: renewed ones of old ones, and old ones of renewed ones.

    Parameters
    ----------
    mask
        The mask.
    ids
        The ids, shape (n,); those that can't be renewed stay as they are.
    """
    rows = as_rows(ids)
    masks = np.where(are_renewable(rows)[:, np.newaxis], np.frombuffer(mask, dtype=np.uint8), np.uint8(0))
    return as_ids(rows ^ masks)


def apply_to_digits(mask: bytes, digits: str) -> str:
    """Return the other id of one id, both as 32 hexadecimal digits."""
    return addresses.hex_digits(apply(mask, addresses.parse_ids([digits])))[0]
