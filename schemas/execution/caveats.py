"""Caveat bits of successful attempts (quantum-graph-format.md section 7.2)."""

ANY_OUTPUTS_MISSING = 1
"""Some predicted output, log and metadata aside, was not written."""
ALL_OUTPUTS_MISSING = 2
"""No predicted output was written."""
NO_WORK = 4
"""The task found nothing to do."""
ADJUST_QUANTUM_RAISED = 8
"""That was found out before the task was constructed."""
UPSTREAM_FAILURE_NO_WORK = 16
"""There was nothing to do because a quantum before it had written too little."""
UNPROCESSABLE_DATA = 32
"""There was nothing to do because the data can't be processed."""
PARTIAL_OUTPUTS_ERROR = 64
"""An error that left some outputs unwritten was accepted as a success."""

NAMES = {
    ANY_OUTPUTS_MISSING: "ANY_OUTPUTS_MISSING",
    ALL_OUTPUTS_MISSING: "ALL_OUTPUTS_MISSING",
    NO_WORK: "NO_WORK",
    ADJUST_QUANTUM_RAISED: "ADJUST_QUANTUM_RAISED",
    UPSTREAM_FAILURE_NO_WORK: "UPSTREAM_FAILURE_NO_WORK",
    UNPROCESSABLE_DATA: "UNPROCESSABLE_DATA",
    PARTIAL_OUTPUTS_ERROR: "PARTIAL_OUTPUTS_ERROR",
}
"""Name of each bit, as users of the reference know it."""

ALL = sum(NAMES)
"""All bits that are defined."""


def text(bits: int) -> str:
    """Return the names of bits, with bars between them."""
    return "|".join(name for bit, name in NAMES.items() if bits & bit)
