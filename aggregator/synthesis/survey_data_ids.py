"""Data IDs of all that a survey has, by kind and row."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from aggregator.synthesis import seeded_numbers
from aggregator.synthesis import survey as survey_module

_FIRST_SHARD: Final = 131_072
"""Smallest pixel number of the reference catalogue's level (htm7)."""

_SHARDS: Final = 131_072
"""Pixels of that level."""


def _texts(names: tuple[str, ...], rows: seeded_numbers.Integers) -> list[str]:
    return [names[row] for row in rows.tolist()]


def _visit_columns(survey: survey_module.Survey, visits: seeded_numbers.Integers) -> dict[str, list[Any]]:
    bands = survey.band_of(visits)
    return {
        "instrument": [survey_module.INSTRUMENT] * len(visits),
        "visit": survey.visit_id(visits).tolist(),
        "band": _texts(survey_module.BANDS, bands),
        "physical_filter": _texts(tuple(survey_module.FILTERS.values()), bands),
        "day_obs": survey.days[survey.night_of(visits)].tolist(),
    }


def _exposure_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    visits, detectors = np.divmod(rows, survey.cells)
    return {**_visit_columns(survey, visits), "detector": detectors.tolist()}


def _patch_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    tracts, patches = np.divmod(rows, survey.cells)
    return {"skymap": [survey_module.SKYMAP] * len(rows), "tract": tracts.tolist(), "patch": patches.tolist()}


def _warp_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    visits, patches = np.divmod(rows, survey.cells)
    cells = survey.tract_of(visits) * survey.cells + patches
    return {**_visit_columns(survey, visits), **_patch_columns(survey, cells)}


def _coadd_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    patches, bands = np.divmod(rows, survey.bands)
    return {**_patch_columns(survey, patches), "band": _texts(survey_module.BANDS, bands)}


def _tract_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    return {"skymap": [survey_module.SKYMAP] * len(rows), "tract": rows.tolist()}


def _night_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    return {"instrument": [survey_module.INSTRUMENT] * len(rows), "day_obs": survey.days[rows].tolist()}


def _detector_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    return {"instrument": [survey_module.INSTRUMENT] * len(rows), "detector": rows.tolist()}


def _flat_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    bands, detectors = np.divmod(rows, survey.cells)
    names = {
        "band": _texts(survey_module.BANDS, bands),
        "physical_filter": _texts(tuple(survey_module.FILTERS.values()), bands),
    }
    return {**_detector_columns(survey, detectors), **names}


def _shard_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    return {"htm7": (_FIRST_SHARD + rows % _SHARDS).tolist()}


def _sky_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    return {"skymap": [survey_module.SKYMAP] * len(rows)}


def _no_columns(survey: survey_module.Survey, rows: seeded_numbers.Integers) -> dict[str, list[Any]]:
    return {}


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of data ID."""

    dimensions: tuple[str, ...]
    """Dimensions, as a task would declare them."""

    count: Callable[[survey_module.Survey], int]
    """Number of them in a survey."""

    columns: Callable[[survey_module.Survey, seeded_numbers.Integers], dict[str, list[Any]]]
    """Values of given ones, by dimension; the dimensions implied are among them."""


KINDS: Final = {
    "exposure": Kind(("visit", "detector"), lambda s: s.visits * s.cells + s.extras, _exposure_columns),
    "processed": Kind(("visit", "detector"), lambda s: s.visits * s.cells, _exposure_columns),
    "visit": Kind(("visit",), lambda s: s.visits, _visit_columns),
    "warp": Kind(("visit", "patch"), lambda s: s.visits * s.cells, _warp_columns),
    "coadd": Kind(("patch", "band"), lambda s: s.tracts * s.cells * s.bands, _coadd_columns),
    "patch": Kind(("patch",), lambda s: s.tracts * s.cells, _patch_columns),
    "tract": Kind(("tract",), lambda s: s.tracts, _tract_columns),
    "night": Kind(("day_obs",), lambda s: s.nights, _night_columns),
    "detector": Kind(("detector",), lambda s: s.cells, _detector_columns),
    "flat": Kind(("detector", "physical_filter"), lambda s: s.cells * s.bands, _flat_columns),
    "shard": Kind(("htm7",), lambda s: s.tracts * s.shards_per_tract, _shard_columns),
    "sky": Kind(("skymap",), lambda s: 1, _sky_columns),
    "nothing": Kind((), lambda s: 1, _no_columns),
}
"""Kinds of data IDs by name; one of a kind is called by its row, from 0."""
