"""Sets of keys are sets, whatever their values are."""

import hypothesis
import pytest
from aggregator.butler.transfers import key_sets
from hypothesis import strategies

_KEYS = strategies.lists(
    strategies.tuples(strategies.text(max_size=3), strategies.integers(-(2**63), 2**63 - 1)), max_size=50
)


@hypothesis.given(_KEYS, strategies.integers(1, 7), strategies.integers(1, 9))
def test_a_set_has_what_was_added(keys: list[tuple[str, int]], at_once: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_sets, "_LOOSE", 5)
        gathered = key_sets.KeySet(2)
        for begin in range(0, len(keys), at_once):
            gathered.update(keys[begin : begin + at_once])
    pieces = list(gathered.pieces(piece))
    assert bool(gathered) == bool(keys)
    assert all(0 < len(each) <= piece for each in pieces)
    assert sum(map(len, pieces)) == len(set(keys))
    assert set().union(*pieces) == set(keys)
