"""Repositories to execute in: dimension records, input datasets, pipeline and predicted graph."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import astropy.time
from lsst.daf.butler import Butler, DatasetType, Timespan
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.pipe.base.tests.mocks import DirectButlerRepo, DynamicConnectionConfig, MockStorageClass
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from tests.helpers.oracle import tasks

INSTRUMENT = "OracleCam"
SKYMAP = "OracleSky"
RUN = "u/oracle/run.1"
CHAIN = "u/oracle"
FILTERS = {"g": "Oracle-G 1", "r": "Oracle-R", "i": "Oracle#I/2"}
VISIT_DETECTOR = ("visit", "detector")

Plans = Mapping[str, Mapping[str, str]]
"""What is to happen to which quanta, by task label (see `tasks.OracleTaskConfig.plan`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much there is to process."""

    visits: int
    """Number of visits, the bands taking turns."""

    detectors: int
    """Number of detectors of the instrument."""

    patches: int
    """Number of patches, beside each other along a visit's longitudes."""

    width: float = 1.2
    """Extent of a visit in longitude, in degrees."""

    height: float = 0.3
    """Extent of a visit in latitude, in degrees; larger detectors need more of the reference catalogue."""

    def strip(self, index: int, total: int) -> ConvexPolygon:
        """Return one of ``total`` regions beside each other; a little of its sides is cut off."""
        margin = 0.02 if total > 1 else 0.0
        begin, end = (10.0 + (index + part) * self.width / total for part in (margin, 1.0 - margin))
        corners = [(begin, 0.0), (end, 0.0), (end, self.height), (begin, self.height)]
        return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners])


def _insert_instrument(butler: Butler, size: Size) -> None:
    insert = butler.registry.insertDimensionData
    insert(
        "instrument",
        {
            "name": INSTRUMENT,
            "visit_max": 1_000_000,
            "visit_system": 0,
            "exposure_max": 1_000_000,
            "detector_max": 1000,
            "class_name": "lsst.pipe.base.Instrument",
        },
    )
    filters = [{"instrument": INSTRUMENT, "name": name, "band": band} for band, name in FILTERS.items()]
    insert("physical_filter", *filters)
    detectors = [
        {
            "instrument": INSTRUMENT,
            "id": number,
            "full_name": f"R{number // 9:02}/S{number % 9}.x",
            "name_in_raft": f"S{number % 9}",
            "raft": f"R{number // 9:02}",
            "purpose": "SCIENCE",
        }
        for number in range(1, size.detectors + 1)
    ]
    insert("detector", *detectors)


def _insert_visits(butler: Butler, size: Size) -> None:
    insert = butler.registry.insertDimensionData
    start = astropy.time.Time("2026-03-01T12:00:00", scale="tai")
    day = astropy.time.TimeDelta(1.0, format="jd")
    nights = {20260301 + n: Timespan(start + n * day, start + (n + 1) * day) for n in range(2)}
    insert("day_obs", *[{"instrument": INSTRUMENT, "id": i, "timespan": span} for i, span in nights.items()])
    visits, regions = [], []
    for index in range(size.visits):
        night = 20260301 + index % 2
        begin = nights[night].begin + astropy.time.TimeDelta(40.0 * index, format="sec")
        visits.append(
            {
                "instrument": INSTRUMENT,
                "id": 101 + index,
                "name": f"v#{101 + index}",
                "physical_filter": list(FILTERS.values())[index % len(FILTERS)],
                "day_obs": night,
                "seq_num": index,
                "exposure_time": 30.0,
                "target_name": "field 1",
                "observation_reason": "test",
                "science_program": "oracle",
                "azimuth": None,
                "zenith_angle": 12.5,
                "region": size.strip(0, 1),
                "timespan": Timespan(begin, begin + astropy.time.TimeDelta(30.0, format="sec")),
            }
        )
        for detector in range(1, size.detectors + 1):
            region = size.strip(detector - 1, size.detectors)
            regions.append(
                {"instrument": INSTRUMENT, "visit": 101 + index, "detector": detector, "region": region}
            )
    insert("visit", *visits)
    insert("visit_detector_region", *regions)


def _insert_skymap(butler: Butler, size: Size) -> None:
    insert = butler.registry.insertDimensionData
    skymap = {"name": SKYMAP, "hash": b"oracle-sky-hash", "tract_max": 1, "patch_ny_max": 1}
    insert("skymap", {**skymap, "patch_nx_max": size.patches})
    insert("tract", {"skymap": SKYMAP, "id": 0, "region": size.strip(0, 1)})
    patches = [
        {
            "skymap": SKYMAP,
            "tract": 0,
            "id": n,
            "cell_x": n,
            "cell_y": 0,
            "region": size.strip(n, size.patches),
        }
        for n in range(size.patches)
    ]
    insert("patch", *patches)


def _connection(name: str, *dimensions: str, multiple: bool = False) -> DynamicConnectionConfig:
    return DynamicConnectionConfig(dataset_type_name=name, dimensions=list(dimensions), multiple=multiple)


def _add_detector_tasks(add: Any) -> None:
    vd = VISIT_DETECTOR
    add(
        "isr",
        vd,
        inputs={"raw": _connection("raw", *vd)},
        prerequisite_inputs={"bias": _connection("bias", "instrument", "detector")},
        outputs={"corrected": _connection("post_isr", *vd), "stats": _connection("isr_stats", *vd)},
    )
    add(
        "calibrate",
        vd,
        inputs={"corrected": _connection("post_isr", *vd)},
        prerequisite_inputs={"reference": _connection("refcat", "htm7", multiple=True)},
        init_outputs={"schema": _connection("sources_schema")},
        outputs={
            "background": _connection("background", *vd),
            "image": _connection("image", *vd),
            "sources": _connection("sources", *vd),
        },
    )
    add(
        "measure",
        vd,
        awkward=True,
        init_inputs={"schema": _connection("sources_schema")},
        inputs={"image": _connection("image", *vd), "sources": _connection("sources", *vd)},
        init_outputs={"schema_out": _connection("features_schema")},
        outputs={"features": _connection("features", *vd)},
    )


def _add_gathering_tasks(add: Any) -> None:
    add(
        "summarize",
        ("visit",),
        inputs={"features": _connection("features", *VISIT_DETECTOR, multiple=True)},
        outputs={"summary": _connection("visit_summary", "visit")},
    )
    add(
        "nothing",
        ("visit",),
        inputs={"stats": _connection("isr_stats", *VISIT_DETECTOR, multiple=True)},
        outputs={"plot": _connection("visit_plot", "visit")},
    )
    add(
        "warp",
        ("visit", "patch"),
        inputs={"images": _connection("image", *VISIT_DETECTOR, multiple=True)},
        outputs={"warp": _connection("warped", "visit", "patch")},
    )
    add(
        "stack",
        ("patch", "band"),
        inputs={"warps": _connection("warped", "visit", "patch", multiple=True)},
        outputs={
            "stack": _connection("stacked", "patch", "band"),
            "table": _connection("peaks", "patch", "band"),
        },
    )
    add(
        "merge",
        ("patch",),
        inputs={"tables": _connection("peaks", "patch", "band", multiple=True)},
        outputs={"objects": _connection("objects", "patch")},
    )
    add(
        "report",
        ("instrument",),
        inputs={"summaries": _connection("visit_summary", "visit", multiple=True)},
        outputs={"report": _connection("report", "instrument")},
    )
    add(
        "idle",
        ("visit",),
        inputs={"absent": _connection("absent", "visit")},
        outputs={"idle": _connection("idle_output", "visit")},
    )


def build(root: pathlib.Path, size: Size, plans: Plans, run: str = RUN) -> PredictedQuantumGraph:
    """Make a repository with inputs, and the predicted graph ``predicted.qg`` in its root.

    Parameters
    ----------
    root
        Directory of the new repository.
    size
        How much there is to process.
    plans
        What is to happen to which quanta.
    run
        Name of the output run.

    Returns
    -------
    graph
        The predicted graph.
    """
    with Butler.from_config(Butler.makeRepo(str(root)), writeable=True) as butler:
        _insert_instrument(butler, size)
        _insert_visits(butler, size)
        _insert_skymap(butler, size)
        storage_class = MockStorageClass.get_or_register_mock("StructuredDataDict")
        dimensions = butler.dimensions.conform(["visit"])
        butler.registry.registerDatasetType(DatasetType("absent", dimensions, storage_class))
        repo = DirectButlerRepo(butler, input_run="in/raw", input_chain="in/all")

        def add(label: str, dimensions: tuple[str, ...], awkward: bool = False, **kwargs: Any) -> None:
            config = tasks.OracleTaskConfig()
            config.plan = dict(plans.get(label, {}))
            config.awkward_metadata = awkward
            repo.add_task(label, task_class=tasks.OracleTask, config=config, dimensions=dimensions, **kwargs)

        _add_detector_tasks(add)
        _add_gathering_tasks(add)
        builder = repo.make_quantum_graph_builder(output_run=run, register_output_dataset_types=False)
        components = builder.finish(output=CHAIN, metadata={"comment": "made for the oracle", "n": 1})
        components.write(str(root / "predicted.qg"))
        return components.assemble()


def build_again(root: pathlib.Path, earlier: PredictedQuantumGraph, name: str) -> PredictedQuantumGraph:
    """Make a graph of what an earlier one has left to be done in its run, once that is in the database.

    Parameters
    ----------
    root
        Directory of the repository.
    earlier
        The earlier graph, as `build` returns it.
    name
        File name of the new one in the repository's root.
    """
    run = earlier.header.output_run
    with Butler.from_config(str(root), writeable=True) as butler:
        builder = AllDimensionsQuantumGraphBuilder(
            earlier.pipeline_graph,
            butler,
            input_collections=["in/all"],
            output_run=run,
            skip_existing_in=[run],
            clobber=True,
        )
        components = builder.finish(output=CHAIN, metadata={"comment": "made for the oracle", "n": 2})
        components.write(str(root / name))
        return components.assemble()
