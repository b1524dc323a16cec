"""Short codes for the caveats of successes (aggregate-and-ingest.md section 7.1)."""

from typing import Final

from aggregator.schemas.execution import caveats

_MISSING: Final = ((caveats.ALL_OUTPUTS_MISSING, "*"), (caveats.ANY_OUTPUTS_MISSING, "+"))
_REASONS: Final = (
    (caveats.ADJUST_QUANTUM_RAISED, "A"),
    (caveats.UNPROCESSABLE_DATA, "D"),
    (caveats.UPSTREAM_FAILURE_NO_WORK, "U"),
    (caveats.PARTIAL_OUTPUTS_ERROR, "P"),
    (caveats.NO_WORK, "N"),
)

LEGEND: Final = {
    "+": "some of the predicted outputs are missing",
    "*": "all predicted outputs but log and metadata are missing",
    "A": "found before the task ran that there is nothing to do; a new graph would leave the quantum out",
    "D": "the data were judged too bad to be processed",
    "U": "inputs were incomplete because something before had failed",
    "P": "met an error that counts as a success with what was written by then, even if that is nothing",
    "N": "found while the task ran that there is nothing to do, or nothing more",
}
"""What each character of a code means."""


def split(bits: int) -> tuple[str, str]:
    """Return the two halves of a code, which can be empty: which outputs are missing, and why."""
    return _first(_MISSING, bits), _first(_REASONS, bits)


def code(bits: int) -> str:
    """Return the code of some caveats: of several reasons it names the first."""
    return "".join(split(bits))


def names(bits: int) -> list[str]:
    """Return the names of all caveats."""
    return [name for bit, name in caveats.NAMES.items() if bits & bit]


def _first(codes: tuple[tuple[int, str], ...], bits: int) -> str:
    return next((code for bit, code in codes if bits & bit), "")
