"""Shards are executed when the last of their quanta is."""

from __future__ import annotations

import uuid

import numpy as np
from aggregator.schemas.graphs import addresses

from aggregator.aggregation import executed_quanta, shards


def test_a_shard_is_executed_with_its_last_quantum() -> None:
    ids = [uuid.UUID(int=number << 64) for number in (5, 1, 4, 2, 3)]
    division = shards.Shards(
        2,
        np.array([each.bytes for each in ids], dtype=addresses.ID_TYPE),
        np.zeros(5, np.int64),
        np.zeros(5, np.int64),
        *shards.by_consumer([], 5),
    )
    quanta = executed_quanta.ExecutedQuanta()
    executed = executed_quanta.ExecutedShards(quanta, division)
    assert executed.take() == [0]
    assert executed.take() == []
    for number, expected in ((4, [3]), (0, []), (2, []), (1, [1])):
        quanta.add(ids[number])
        assert executed.take() == expected
    assert not executed.is_cut_short
    quanta.is_over = True
    assert executed.is_cut_short
    quanta.add(ids[3])
    assert not executed.is_cut_short
    assert executed.take() == [2]
    assert not executed.is_cut_short
