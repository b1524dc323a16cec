"""What quanta read: for each way to gather inputs, the function from rows of quanta to rows of inputs."""

import functools
from collections.abc import Callable
from typing import Final

import numpy as np

from aggregator.synthesis import seeded_numbers
from aggregator.synthesis import survey as survey_module


def _ragged(
    firsts: seeded_numbers.Integers, counts: seeded_numbers.Integers, step: int = 1
) -> seeded_numbers.Integers:
    """Return for each first number so many numbers that begin with it."""
    begins = np.cumsum(counts) - counts
    return np.repeat(firsts - begins * step, counts) + np.arange(int(counts.sum())) * step


@functools.lru_cache
def _overlaps(side: int) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    """Return which detectors overlap each patch: those beside its own one, and their number."""
    neighbours, counts = [], []
    for cell in range(side * side):
        y, x = divmod(cell, side)
        near = [
            row * side + column
            for row in range(max(0, y - 1), min(side, y + 2))
            for column in range(max(0, x - 1), min(side, x + 2))
        ]
        neighbours += near
        counts.append(len(near))
    return np.array(neighbours, dtype=np.int64), np.array(counts, dtype=np.int64)


def _same(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    return rows, np.ones_like(rows)


def _detector(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    return rows % survey.cells, np.ones_like(rows)


def _flat(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    visits, detectors = np.divmod(rows, survey.cells)
    return survey.band_of(visits) * survey.cells + detectors, np.ones_like(rows)


def _shards(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    visits, detectors = np.divmod(rows, survey.cells)
    ranges = np.array([survey.shards(detector) for detector in range(survey.cells)], dtype=np.int64)
    firsts, counts = ranges[detectors, 0], ranges[detectors, 1]
    return _ragged(survey.tract_of(visits) * survey.shards_per_tract + firsts, counts), counts


def _exposures_of_visit(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    counts = np.full_like(rows, survey.cells)
    return _ragged(rows * survey.cells, counts), counts


def _exposures_of_warp(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    visits, patches = np.divmod(rows, survey.cells)
    near, numbers = _overlaps(survey.side)
    counts = numbers[patches]
    places = _ragged((np.cumsum(numbers) - numbers)[patches], counts)
    return np.repeat(visits * survey.cells, counts) + near[places], counts


def _visit_of_warp(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    return rows // survey.cells, np.ones_like(rows)


def _sky(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    return np.zeros_like(rows), np.ones_like(rows)


def _warps_of_coadd(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    cells, bands = np.divmod(rows, survey.bands)
    tracts, patches = np.divmod(cells, survey.cells)
    first = tracts * survey.visits_per_tract + bands
    end = np.minimum((tracts + 1) * survey.visits_per_tract, survey.visits)
    counts = -(-(end - first) // survey.bands)
    return _ragged(first * survey.cells + patches, counts, survey.bands * survey.cells), counts


def _bands_of_patch(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    counts = np.full_like(rows, survey.bands)
    return _ragged(rows * survey.bands, counts), counts


def _patch_of_coadd(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    return rows // survey.bands, np.ones_like(rows)


def _coadds_of_tract(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    counts = np.full_like(rows, survey.cells * survey.bands)
    return _ragged(rows * survey.cells * survey.bands, counts), counts


def _visits_of_night(
    survey: survey_module.Survey, rows: seeded_numbers.Integers
) -> tuple[seeded_numbers.Integers, seeded_numbers.Integers]:
    first = rows * survey.visits_per_night
    counts = np.minimum(survey.visits_per_night, survey.visits - first)
    return _ragged(first, counts), counts


REACHES: Final[
    dict[
        str,
        Callable[
            [survey_module.Survey, seeded_numbers.Integers],
            tuple[seeded_numbers.Integers, seeded_numbers.Integers],
        ],
    ]
] = {
    "same": _same,
    "detector": _detector,
    "flat": _flat,
    "shards": _shards,
    "exposures of visit": _exposures_of_visit,
    "exposures of warp": _exposures_of_warp,
    "visit of warp": _visit_of_warp,
    "sky": _sky,
    "warps of coadd": _warps_of_coadd,
    "bands of patch": _bands_of_patch,
    "patch of coadd": _patch_of_coadd,
    "coadds of tract": _coadds_of_tract,
    "visits of night": _visits_of_night,
}
"""Ways to find what quanta read: from their rows to rows of the inputs, one after the other, and the number
that each quantum has."""
