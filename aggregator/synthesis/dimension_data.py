"""Dimension records of a survey (quantum-graph-format.md section 6.3)."""

import datetime
import math
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from aggregator.butler.dimensions import universe
from aggregator.synthesis import survey as survey_module

Record = dict[str, Any]
"""Values by field name; fields of dimensions are named after these. Regions are bytes, timespans pairs of
nanoseconds (TAI)."""

_NS: Final = 1_000_000_000
_WIDTH: Final = 1.4
"""Extent of a tract, and of a visit, in degrees."""


def _polygon(lon: float, lat: float, width: float, height: float) -> bytes:
    """Return a region from its corner and extent in degrees, as the reference encodes it."""
    corners = ((lon, lat), (lon + width, lat), (lon + width, lat + height), (lon, lat + height))
    numbers = []
    for x, y in corners:
        # Rounded, since the last digit is not the same on every machine.
        a, b = math.radians(x), math.radians(y)
        vector = np.round([math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)], 13)
        numbers += (vector / np.sqrt((vector * vector).sum())).tolist()
    return b"p" + struct.pack("<12d", *numbers)


def _night_start(survey: survey_module.Survey, night: int) -> int:
    """Return when a night begins: noon of its date, in nanoseconds."""
    day = survey.day(night)
    date = datetime.datetime(day // 10_000, day // 100 % 100, day % 100, 12, tzinfo=datetime.UTC)
    return int(date.timestamp()) * _NS


def _corner(tract: int) -> tuple[float, float]:
    """Return where a tract begins, in degrees."""
    return 10.0 + 1.5 * (tract % 200), -30.0 + 1.5 * (tract // 200)


class DimensionData:
    """All dimension records of a survey.

    Parameters
    ----------
    survey
        What is observed.
    """

    def __init__(self, survey: survey_module.Survey) -> None:
        self._survey = survey

    def elements(self) -> dict[str, Iterator[Record]]:
        """Return the records of each element, in an order in which what they refer to comes first."""
        return {
            "instrument": iter([self._instrument()]),
            "skymap": iter([self._skymap()]),
            "band": ({"name": band} for band in survey_module.BANDS[: self._survey.bands]),
            "physical_filter": self._filters(),
            "detector": map(self._detector, range(self._survey.cells)),
            "day_obs": map(self._night, range(self._survey.nights)),
            "visit": map(self._visit, range(self._survey.all_visits)),
            "visit_detector_region": self._regions(),
            "tract": map(self._tract, range(self._survey.tracts)),
            "patch": map(self._patch, range(self._survey.tracts * self._survey.cells)),
        }

    def _instrument(self) -> Record:
        return {
            "name": survey_module.INSTRUMENT,
            "visit_max": 10**13,
            "visit_system": 0,
            "exposure_max": 10**13,
            "detector_max": 1000,
            "class_name": "lsst.pipe.base.Instrument",
        }

    def _skymap(self) -> Record:
        return {
            "name": survey_module.SKYMAP,
            "hash": b"synthetic sky: 1.4 degrees",
            "tract_max": self._survey.tracts,
            "patch_nx_max": self._survey.side,
            "patch_ny_max": self._survey.side,
        }

    def _filters(self) -> Iterator[Record]:
        for band in survey_module.BANDS[: self._survey.bands]:
            name = survey_module.FILTERS[band]
            yield {"instrument": survey_module.INSTRUMENT, "name": name, "band": band}

    def _detector(self, number: int) -> Record:
        raft, slot = f"R{number // 9:02}", f"S{number % 9 // 3}{number % 3}"
        return {
            "instrument": survey_module.INSTRUMENT,
            "id": number,
            "full_name": f"{raft}_{slot}",
            "name_in_raft": slot,
            "raft": raft,
            "purpose": "SCIENCE",
        }

    def _night(self, night: int) -> Record:
        begin = _night_start(self._survey, night)
        return {
            "instrument": survey_module.INSTRUMENT,
            "id": self._survey.day(night),
            "timespan": (begin, begin + 86_400 * _NS),
        }

    def _visit(self, visit: int) -> Record:
        rows = np.array([visit])
        night = int(self._survey.night_of(rows)[0])
        number = int(self._survey.visit_id(rows)[0])
        band = survey_module.BANDS[int(self._survey.band_of(rows)[0])]
        sequence = number % 100_000
        begin = _night_start(self._survey, night) + (10 * 3600 + 40 * sequence) * _NS
        tract = min(int(self._survey.tract_of(rows)[0]), self._survey.tracts - 1)
        return {
            "instrument": survey_module.INSTRUMENT,
            "id": number,
            "name": f"{self._survey.day(night)}_{sequence:05}",
            "physical_filter": survey_module.FILTERS[band],
            "day_obs": self._survey.day(night),
            "seq_num": sequence,
            "exposure_time": 30.0,
            "target_name": f"field {tract}",
            "observation_reason": "survey",
            "science_program": "synthetic",
            "azimuth": None,
            "zenith_angle": 10.0 + number * 7 % 50,
            "region": _polygon(*_corner(tract), _WIDTH, _WIDTH),
            "timespan": (begin, begin + 30 * _NS),
        }

    def _cell(self, tract: int, cell: int) -> bytes:
        y, x = divmod(cell, self._survey.side)
        lon, lat = _corner(tract)
        width = _WIDTH / self._survey.side
        return _polygon(lon + x * width, lat + y * width, width, width)

    def _regions(self) -> Iterator[Record]:
        cells, survey = self._survey.cells, self._survey
        exposures = survey.visits * cells + survey.extras
        for visit in range(survey.all_visits):
            rows = np.array([visit])
            number = int(survey.visit_id(rows)[0])
            tract = min(int(survey.tract_of(rows)[0]), survey.tracts - 1)
            if visit == 0 or visit % survey.visits_per_tract == 0:
                regions = [self._cell(tract, detector) for detector in range(cells)]
            for detector in range(min(cells, exposures - visit * cells)):
                yield {
                    "instrument": survey_module.INSTRUMENT,
                    "visit": number,
                    "detector": detector,
                    "region": regions[detector],
                }

    def _tract(self, tract: int) -> Record:
        region = _polygon(*_corner(tract), _WIDTH, _WIDTH)
        return {"skymap": survey_module.SKYMAP, "id": tract, "region": region}

    def _patch(self, row: int) -> Record:
        tract, cell = divmod(row, self._survey.cells)
        y, x = divmod(cell, self._survey.side)
        region = self._cell(tract, cell)
        place = {"skymap": survey_module.SKYMAP, "tract": tract, "id": cell, "cell_x": x, "cell_y": y}
        return {**place, "region": region}


def rows(survey: survey_module.Survey, dimensions: universe.Universe) -> Iterator[tuple[str, list[Any]]]:
    """Iterate over element and row of each record, of the elements that a universe has."""
    return _rows(DimensionData(survey).elements(), dimensions)


def _rows(
    elements: dict[str, Iterator[Record]], dimensions: universe.Universe
) -> Iterator[tuple[str, list[Any]]]:
    for element, records in elements.items():
        if element not in dimensions:
            continue
        columns = dimensions.record_columns(element)
        for record in records:
            yield element, [_plain(record.get(column)) for column in columns]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


def named_rows(survey: survey_module.Survey, dimensions: universe.Universe) -> list[tuple[str, list[Any]]]:
    """Return the rows that file templates can name: not those of single detectors in visits."""
    elements = DimensionData(survey).elements()
    del elements["visit_detector_region"]
    return list(_rows(elements, dimensions))
