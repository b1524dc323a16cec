from __future__ import annotations

import uuid

import pytest
from aggregator.execution import readiness

A, B, C, D = (uuid.UUID(int=number) for number in range(4))


def data(quantum_id: uuid.UUID, *before: uuid.UUID, is_blocked: bool = False) -> readiness.QuantumData:
    return readiness.QuantumData(None, "task", quantum_id, frozenset(before), is_blocked=is_blocked)


def taken(known: readiness.Readiness) -> list[uuid.UUID]:
    """Return what is ready, and take it."""
    ids = [each.id for each in known.ready]
    known.ready.clear()
    return ids


def test_a_quantum_waits_for_all_before_it() -> None:
    known = readiness.Readiness()
    for each in (data(A), data(B), data(C, A, B)):
        assert known.add(each) == []
    assert taken(known) == [A, B]
    assert known.finish(A, True) == []
    assert taken(known) == []
    assert known.finish(B, True) == []
    assert taken(known) == [C]


def test_one_that_comes_late_is_ready_at_once() -> None:
    known = readiness.Readiness()
    known.add(data(A))
    known.finish(A, True)
    taken(known)
    known.add(data(B, A))
    assert taken(known) == [B]


def test_a_failure_blocks_all_below_it_once() -> None:
    known = readiness.Readiness()
    for each in (data(A), data(B, A), data(C, A, B), data(D)):
        known.add(each)
    assert [each.id for each in known.finish(A, False)] == [B, C]
    assert known.finish(D, True) == []
    assert taken(known) == [A, D]


@pytest.mark.parametrize("is_blocked", [True, False])
def test_one_that_comes_after_a_failure_is_blocked(is_blocked: bool) -> None:
    known = readiness.Readiness()
    known.add(data(A, is_blocked=is_blocked))
    if not is_blocked:
        known.finish(A, False)
    assert [each.id for each in known.add(data(B, A))] == [B]
    assert [each.id for each in known.add(data(C, B))] == [C]


def test_a_prerequisite_has_to_come_first() -> None:
    with pytest.raises(ValueError, match="before its prerequisite"):
        readiness.Readiness().add(data(A, B))
