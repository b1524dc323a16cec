"""Numbers in a graph mean what they mean for the reference."""

import pytest
from aggregator.schemas.execution import caveats, statuses


def test_codes_are_those_of_the_reference() -> None:
    reference = pytest.importorskip("lsst.pipe.base")
    assert {s.value: s.name for s in reference.QuantumAttemptStatus} == statuses.NAMES
    assert {c.value: c.name for c in reference.QuantumSuccessCaveats} == caveats.NAMES
    assert caveats.ALL == 127
