"""Division into shards by numbers of quanta: each in one shard, the last shards smaller, not many more."""

from __future__ import annotations

import numpy as np
import pytest
from aggregator.schemas.checkpoints import division
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 30_000), st.integers(1, 1000))
def test_each_quantum_is_in_one_shard_of_no_more_than_the_size(n_quanta: int, size: int) -> None:
    bounds = division.bounds(n_quanta, size)
    assert (bounds[0], bounds[-1]) == (0, n_quanta)
    sizes = np.diff(bounds)
    assert ((sizes > 0) & (sizes <= size)).all()
    # Only three shards, which end a part of the graph, may be smaller than the smallest.
    assert (sizes < min(size, division.SMALLEST)).sum() <= 3
    assert bounds.tolist() == division.bounds(n_quanta, size).tolist()


@given(st.integers(0, 300), st.integers(1, division.SMALLEST))
def test_small_shards_are_all_of_one_size(n_quanta: int, size: int) -> None:
    assert division.bounds(n_quanta, size).tolist() == [*range(0, n_quanta, size), n_quanta]


@pytest.mark.parametrize(("n_quanta", "size", "n_small", "n_shards"), [
    (20_000, 454, 5_000, 70), (1_000_000, 1_000, 16_000, 1_033),
])  # fmt: skip
def test_the_last_shards_are_smaller(n_quanta: int, size: int, n_small: int, n_shards: int) -> None:
    bounds = division.bounds(n_quanta, size)
    sizes = np.diff(bounds)
    assert len(sizes) == n_shards - 1
    assert sizes[bounds[:-1] >= n_quanta - n_small].max() == size // 2
    assert sizes[bounds[:-1] >= n_quanta - n_small // 2].max() == size // 4
