"""Pixels of the hierarchical triangular mesh that a region of the sky overlaps.

The sky is divided into eight triangles, and each of these again and again into four; a pixel's number is that
of its triangle, with two more bits on each level. Regions are in the code of sphgeom.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

_Vectors = npt.NDArray[np.float64]
"""Unit vectors, shape (n, 3)."""

_POLYGON: Final = b"p"
_VECTOR_SIZE: Final = 24

_X, _Y, _Z = np.eye(3)
_ROOTS: Final = [
    np.array(corners)
    for corners in (
        (_X, -_Z, _Y),
        (_Y, -_Z, -_X),
        (-_X, -_Z, -_Y),
        (-_Y, -_Z, _X),
        (_X, _Z, -_Y),
        (-_Y, _Z, -_X),
        (-_X, _Z, _Y),
        (_Y, _Z, _X),
    )
]
"""Corners of the triangles 8 to 15, counter-clockwise seen from outside."""

_TOUCHING: Final = 1e-15


def polygon(region: bytes) -> _Vectors | None:
    """Return the corners of a region, counter-clockwise; nothing if it is no convex polygon."""
    data = region[1:]
    if region[:1] != _POLYGON or len(data) % _VECTOR_SIZE or len(data) < 3 * _VECTOR_SIZE:
        return None
    return np.array(list(struct.iter_unpack("<3d", data)))


def overlapping(corners: _Vectors, level: int) -> list[int]:
    """Return the numbers of all pixels of a level that a convex polygon overlaps or touches, ascending.

    Parameters
    ----------
    corners
        Its corners, counter-clockwise seen from outside.
    level
        The level; 0 is that of the eight triangles.
    """
    sides = _sides(corners)
    found = [(8 + number, root) for number, root in enumerate(_ROOTS) if not _is_apart(corners, sides, root)]
    for _ in range(level):
        found = [
            (4 * number + place, part)
            for number, triangle in found
            for place, part in enumerate(_parts(triangle))
            if not _is_apart(corners, sides, part)
        ]
    return [number for number, _ in found]


def _sides(corners: _Vectors) -> _Vectors:
    """Return the vectors that point inwards from the sides of a convex polygon."""
    sides: _Vectors = np.cross(corners, np.roll(corners, -1, axis=0))
    return sides


def _is_apart(corners: _Vectors, sides: _Vectors, triangle: _Vectors) -> bool:
    """Return whether a side of one of two convex polygons has all of the other one outside."""
    if np.any(np.all(sides @ triangle.T < -_TOUCHING, axis=1)):
        return True
    return bool(np.any(np.all(_sides(triangle) @ corners.T < -_TOUCHING, axis=1)))


def _parts(triangle: _Vectors) -> list[_Vectors]:
    first, second, third = triangle
    middles = [second + third, third + first, first + second]
    opposite_first, opposite_second, opposite_third = (each / np.linalg.norm(each) for each in middles)
    return [
        np.array((first, opposite_third, opposite_second)),
        np.array((second, opposite_first, opposite_third)),
        np.array((third, opposite_second, opposite_first)),
        np.array((opposite_first, opposite_second, opposite_third)),
    ]
