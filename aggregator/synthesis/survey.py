"""What is observed: nights, visits and detectors, and the tracts and patches of the sky that they cover."""

import dataclasses
import datetime
from typing import Final

import numpy as np

from aggregator.synthesis import seeded_numbers

INSTRUMENT: Final = "SynthCam"
SKYMAP: Final = "synth_cells"
FILTERS: Final = {
    "u": "SC-u 350",
    "g": "SC-g 480",
    "r": "SC-r 620",
    "i": "SC-i 750",
    "z": "SC-z 870",
    "y": "SC-y 970",
}
"""Physical filter of each band."""

BANDS: Final = tuple(FILTERS)
_FIRST_NIGHT: Final = datetime.date(2026, 1, 5)
_VISITS_PER_NIGHT: Final = 150
_VISITS_PER_TRACT: Final = 600
_MAX_SIDE: Final = 10
Rows = seeded_numbers.Integers
"""Positions of things of one kind, shape (n,)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """How much there is of everything; all else follows."""

    side: int
    """Detectors, and patches of a tract, along one side of a square."""

    visits: int
    """Visits that are processed to the end."""

    extras: int
    """Exposures of single detectors, belonging to more visits, from which just the camera's effects are
    removed; they make up the number of quanta."""

    @property
    def cells(self) -> int:
        """Number of detectors, and of patches in a tract."""
        return self.side * self.side

    @property
    def tracts(self) -> int:
        """Number of tracts."""
        return -(-self.visits // _VISITS_PER_TRACT)

    @property
    def visits_per_tract(self) -> int:
        """Visits of each tract but the last one, which may have fewer."""
        return -(-self.visits // self.tracts)

    @property
    def bands(self) -> int:
        """Number of bands in use."""
        return min(len(BANDS), max(1, self.visits // (2 * self.tracts)))

    @property
    def visits_per_night(self) -> int:
        """Visits of each night but the last one."""
        return min(_VISITS_PER_NIGHT, -(-self.visits // 2))

    @property
    def nights(self) -> int:
        """Number of nights."""
        return -(-self.visits // self.visits_per_night)

    @property
    def all_visits(self) -> int:
        """Number of visits with those that have extra exposures only."""
        return self.visits - (-self.extras // self.cells)

    @property
    def shards_per_tract(self) -> int:
        """Parts of the reference catalogue that cover a tract."""
        return max(first + count for first, count in map(self.shards, range(self.cells)))

    @staticmethod
    def shards(detector: int) -> tuple[int, int]:
        """Return the first of the parts that a detector sees, and their number."""
        return 3 * detector, 12 + detector * 5 % 7

    def tract_of(self, visits: Rows) -> Rows:
        """Return the tract of each visit."""
        return visits // self.visits_per_tract

    def band_of(self, visits: Rows) -> Rows:
        """Return the band of each visit; those of a tract take turns."""
        return visits % self.visits_per_tract % self.bands

    def night_of(self, visits: Rows) -> Rows:
        """Return the night of each visit; extra exposures belong to the last one."""
        return np.minimum(visits // self.visits_per_night, self.nights - 1)

    def day(self, night: int) -> int:
        """Return the number of a night: its date as YYYYMMDD."""
        date = _FIRST_NIGHT + datetime.timedelta(days=night)
        return date.year * 10_000 + date.month * 100 + date.day

    @property
    def days(self) -> seeded_numbers.Integers:
        """Number of each night."""
        return np.array([self.day(night) for night in range(self.nights)], dtype=np.int64)

    def visit_id(self, visits: Rows) -> Rows:
        """Return the ids of visits: night and number within it."""
        nights = self.night_of(visits)
        return self.days[nights] * 100_000 + visits - nights * self.visits_per_night + 1


def count_quanta(survey: Survey) -> int:
    """Return the number of quanta that the pipeline has for a survey."""
    per_patch = 2 * survey.bands + 1
    per_visit = 3 * survey.cells + 1 + survey.cells
    return (
        survey.visits * per_visit
        + survey.tracts * (survey.cells * per_patch + 1)
        + survey.nights
        + survey.extras
    )


def plan(quanta: int) -> Survey:
    """Return a survey with exactly so many quanta; `parameters.MIN_QUANTA` at least."""
    side = _MAX_SIDE
    # Each task should have a good number of quanta: rather more visits than more detectors.
    while side > 2 and count_quanta(Survey(side, 24, 0)) > quanta:
        side -= 1
    low, high = 2, max(3, quanta)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_quanta(Survey(side, middle, 0)) <= quanta else (low, middle)
    return Survey(side, low, quanta - count_quanta(Survey(side, low, 0)))
