"""Lines of last words that name the first of many things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

N_NAMED: Final = 10
"""Things that are named."""


def of(title: str, names: Sequence[str]) -> list[str]:
    """Return lines with the first of some names; none if there are none."""
    if not names:
        return []
    rest = [f"  ... and {len(names) - N_NAMED} others"] if len(names) > N_NAMED else []
    return [f"{title}:", *(f"  {name}" for name in names[:N_NAMED]), *rest]


def size(n_bytes: int) -> str:
    """Return a number of bytes for people."""
    return f"{n_bytes / 1e6:.1f} MB"
