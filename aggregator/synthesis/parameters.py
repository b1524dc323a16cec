"""What a synthetic run shall be like."""

import dataclasses
from typing import Any, Final

from aggregator import ranges
from aggregator.schemas import argument_types
from aggregator.storage import errors

FORMAT: Final = 1
"""To be increased with every change of what is made, so that older runs are not taken for new ones."""

MIN_QUANTA: Final = 60
"""Fewer do not make the pipeline."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisParameters:
    """All that determines the content of a synthetic run; equal parameters make equal files.

    Parameters
    ----------
    quanta
        Number of regular quanta.
    seed
        Seed of everything that varies, ids included.
    log_size
        Mean size of a log file in bytes; files of a run differ by a factor of two and more.
    metadata_size
        Mean size of a metadata file in bytes.
    output_size
        Size of the other output files in bytes.
    failed
        Share of quanta that fail; their logs tell the exception.
    blocked
        Share of quanta that do not run because something before them failed or was aborted.
    retried
        Share of quanta that succeed at the second or third attempt.
    caveats
        Share of quanta that succeed without all of their outputs.
    aborted
        Share of quanta whose process is killed: before the log, before the metadata, or between both.
    corrupt
        Share of quanta that ran, but whose log or metadata file can't be read.
    database
        SQLAlchemy URL of the database; nothing for an SQLite file in the repository.
    namespace
        Schema of the tables, on PostgreSQL.
    """

    quanta: int
    seed: int = 1
    log_size: int = 22_000
    metadata_size: int = 7_000
    output_size: int = 0
    failed: float = 0.004
    blocked: float = 0.01
    retried: float = 0.02
    caveats: float = 0.02
    aborted: float = 0.003
    corrupt: float = 0.0
    database: str | None = None
    namespace: str | None = None

    def __post_init__(self) -> None:
        argument_types.check(SynthesisParameters, {name: getattr(self, name) for name in self.__slots__})

    def document(self) -> dict[str, Any]:
        """Return everything that must agree for a run to be continued, as JSON."""
        return {"format": FORMAT, **dataclasses.asdict(self)}


SHARES: Final = ("failed", "blocked", "retried", "caveats", "aborted", "corrupt")
"""The fields that are shares of all quanta."""

SMALL: Final = {"log_size": 2_600, "metadata_size": 2_600}
"""Sizes with which a million quanta fit the page cache: each file takes one page."""


_SHARE: Final = ranges.Range(0, 1, is_whole=False)


def check(parameters: SynthesisParameters) -> None:
    """Refuse what no run can be made of.

    Raises
    ------
    RefusedError
        Raised if a number is out of range, or the shares do not leave enough quanta.
    """
    for name in ("quanta", "seed", "log_size", "metadata_size", "output_size"):
        ranges.COUNT_OR_NONE.check(name, getattr(parameters, name))
    if parameters.quanta < MIN_QUANTA:
        raise errors.RefusedError(f"{parameters.quanta} quanta: the pipeline needs at least {MIN_QUANTA}.")
    shares = {name: getattr(parameters, name) for name in SHARES}
    for name, share in shares.items():
        _SHARE.check(name, share)
    if sum(shares.values()) > 0.5:
        raise errors.RefusedError("More than half of the quanta shall be special; choose smaller shares.")
