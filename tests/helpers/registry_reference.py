"""A repository of the reference's, to be read and written by both sides."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import astropy.time
import lsst.pipe.base.tests.mocks  # noqa: F401  (makes the reference accept mock storage classes)
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan

from tests.helpers import databases

INSTRUMENT = "OracleCam"
SKYMAP = "OracleSky"

GROUPS: tuple[tuple[str, ...], ...] = (
    (),
    ("instrument",),
    ("visit", "detector"),
    ("band",),
    ("htm7",),
    ("healpix9", "detector"),
    ("patch", "band"),
    ("visit", "patch"),
    ("exposure", "group", "detector"),
    ("physical_filter", "detector"),
    ("subfilter", "tract"),
    ("visit_system", "visit"),
)
"""Dimension groups of all sorts: none, governors, pixelizations, long strings, implied dimensions."""


def make(root: pathlib.Path) -> databases.Sqlite:
    """Make a SQLite repository with a few dimension records; return its database."""
    with Butler.from_config(Butler.makeRepo(str(root)), writeable=True) as butler:
        insert = butler.registry.insertDimensionData
        camera = {"visit_max": 1000, "visit_system": 0, "exposure_max": 1000, "detector_max": 1000}
        insert("instrument", {"name": INSTRUMENT, **camera, "class_name": "lsst.pipe.base.Instrument"})
        insert("physical_filter", {"instrument": INSTRUMENT, "name": "G", "band": "g"})
        for n in range(1, 4):
            detector = {"instrument": INSTRUMENT, "id": n, "full_name": f"R0/S{n}", "purpose": "SCIENCE"}
            insert("detector", {**detector, "raft": "R0", "name_in_raft": f"S{n}"})
        start = astropy.time.Time("2026-03-01T12:00:00", scale="tai")
        span = Timespan(start, start + astropy.time.TimeDelta(1.0, format="jd"))
        insert("day_obs", {"instrument": INSTRUMENT, "id": 20260301, "timespan": span})
        for n in range(101, 104):
            visit = {"instrument": INSTRUMENT, "id": n, "name": f"v{n}", "physical_filter": "G"}
            insert("visit", {**visit, "day_obs": 20260301, "seq_num": n, "timespan": span})
        sky = {"name": SKYMAP, "hash": b"sky", "tract_max": 1, "patch_nx_max": 2, "patch_ny_max": 1}
        insert("skymap", sky)
        insert("tract", {"skymap": SKYMAP, "id": 0})
        insert("patch", {"skymap": SKYMAP, "tract": 0, "id": 0, "cell_x": 0, "cell_y": 0})
    return databases.Sqlite(root / "gen3.sqlite3")


def open_butler(root: pathlib.Path) -> Butler:
    """Open a repository with the reference."""
    return Butler.from_config(str(root), writeable=True)


def dataset_type(
    butler: Butler, name: str, dimensions: Iterable[str], *, is_calibration: bool = False
) -> DatasetType:
    """Make a dataset type of the reference."""
    return DatasetType(
        name, butler.dimensions.conform(dimensions), "StructuredDataDict", isCalibration=is_calibration
    )


def register_chain(butler: Butler, name: str) -> None:
    """Register a CHAINED collection."""
    butler.collections.register(name, CollectionType.CHAINED)
