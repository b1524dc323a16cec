"""Combinations of which `make test` runs some, and `make test-all` all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def thinned(combinations: Iterable[Any], chosen: Collection[Any]) -> list[Any]:
    """Return values for `parametrize`; those that are not chosen are marked as exhaustive."""
    combinations = list(combinations)
    assert all(choice in combinations for choice in chosen), "a chosen combination is none"
    return [
        combination if combination in chosen else _exhaustive(combination) for combination in combinations
    ]


def _exhaustive(combination: Any) -> Any:
    values = combination if isinstance(combination, tuple) else (combination,)
    return pytest.param(*values, marks=pytest.mark.exhaustive)
