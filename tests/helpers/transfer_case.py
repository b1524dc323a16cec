"""A repository with all that can be transferred, and what its copies are compared by."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import msgspec
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.butler.transfers import dataset_selection, repository_source
from aggregator.schemas import bundle

from tests.helpers import databases, samples

RUN = "u/sample/run1"
CHAIN = "u/sample"
INPUTS = "in/all"
CALIBRATIONS = "calib/all"
TAG = "u/tagged"
TOP = "u/everything"
ALL = dataset_selection.Selection(collections=(TOP,))


def make(directory: pathlib.Path) -> pathlib.Path:
    """Make a repository from the sample: aggregated, with calibrations, tags and nested chains."""
    import astropy.time
    import lsst.daf.butler as daf
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    sample = samples.unpack(directory)
    shutil.copy(sample.root / "after_aggregate.sqlite3", sample.repo / "gen3.sqlite3")
    with daf.Butler.from_config(str(sample.repo), writeable=True, run="calib/run") as butler:
        kind = daf.DatasetType(
            "flat",
            ("instrument", "detector"),
            "StructuredDataDict",
            universe=butler.dimensions,
            isCalibration=True,
        )
        butler.registry.registerDatasetType(kind)
        butler.collections.register("calib/run2", doc="More of them")
        refs = [
            butler.put({"detector": n}, kind, instrument="SampleCam", detector=n, run=run)
            for run in ("calib/run", "calib/run2")
            for n in (1, 2)
        ]
        times = [astropy.time.Time(f"2026-0{month}-01", scale="tai") for month in (1, 3, 6)]
        butler.registry.registerCollection(CALIBRATIONS, daf.CollectionType.CALIBRATION, "Flats")
        butler.registry.certify(CALIBRATIONS, refs[:2], daf.Timespan(times[0], times[1]))
        butler.registry.certify(CALIBRATIONS, refs[2:], daf.Timespan(times[1], None))
        butler.registry.registerCollection(TAG, daf.CollectionType.TAGGED, "Some images")
        images = butler.registry.queryDatasets("clean_image", collections=RUN)
        butler.registry.associate(TAG, list(images)[:3])
        butler.collections.register(TOP, daf.CollectionType.CHAINED, "All of it")
        butler.collections.redefine_chain(
            TOP, [TAG, CHAIN, CALIBRATIONS, "calib/run", "calib/run2", RUN, INPUTS]
        )
    return sample.repo


def content(root: pathlib.Path, chosen: dataset_selection.Selection = ALL, *, is_full: bool = True) -> Any:
    """Return what a repository gives away, in a form that does not depend on its database."""
    config = repository_config.load(root)
    result: dict[str, Any] = {}
    with registry.open_repository(config, writeable=False) as opened:
        extent = repository_source.Extent(is_full=is_full)
        for batch in repository_source.RepositorySource(config, opened, chosen, extent).batches():
            plain = msgspec.to_builtins(batch, builtin_types=(bytes,))
            if isinstance(batch, bundle.Datasets):
                plain["rows"] = [row[:3] for row in plain["rows"]]
            if isinstance(batch, bundle.Associations):
                plain["rows"] = [row[:4] for row in plain["rows"]]
            if isinstance(batch, bundle.Graph):
                plain = {"dataset_id": batch.dataset_id}
            name = next((plain[key] for key in ("run", "element", "collection", "name") if key in plain), "")
            result.setdefault(f"{type(batch).__name__} {name}", []).append(plain)
    return result


def dimensions(root: pathlib.Path) -> dict[str, Any]:
    """Return the configuration of the dimensions of a repository in SQLite."""
    query = "SELECT value FROM butler_attributes WHERE name = 'config:dimensions.json'"
    [(text,)] = databases.Sqlite(root / "gen3.sqlite3").query(query)
    config: dict[str, Any] = json.loads(text)
    return config
