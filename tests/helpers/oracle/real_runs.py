"""A small repository with real storage classes, and predicted graphs of real tasks (`real_tasks`) for it."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import lsst.pipe.base as pb
import networkx
from lsst.daf.butler import Butler, DatasetType, QuantumBackedButler
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph, ProvenanceQuantumGraphReader
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from tests.helpers.oracle import execution

RUN = "u/run1"

_TASKS = "tests.helpers.oracle.real_tasks"

PIPELINE = {"step": "StepTask", "join": "JoinTask", "sink": "SinkTask", "coadd": "CoaddTask"}
"""Tasks by label."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A repository with a predicted graph, nothing of which is executed."""

    root: pathlib.Path
    """The repository."""

    @property
    def graph(self) -> pathlib.Path:
        """The predicted graph."""
        return self.root / "predicted.qg"

    def copy(self, root: pathlib.Path) -> Case:
        """Return a copy."""
        shutil.copytree(self.root, root)
        return Case(root)


def make(
    repository: pathlib.Path,
    root: pathlib.Path,
    modes: Mapping[str, str] | None = None,
    *,
    labels: tuple[str, ...] = tuple(PIPELINE),
    records: bool = True,
    **config: Any,
) -> Case:
    """Make a graph for a copy of a repository.

    Parameters
    ----------
    repository
        The repository, as `make_repository` makes it.
    root
        Where the copy goes.
    modes
        What `StepTask` does, by "visit/detector".
    labels
        Tasks of the pipeline.
    records
        Whether quanta have the records of overall inputs.
    **config
        Other options of `StepTask`.
    """
    shutil.copytree(repository, root)
    butler = Butler.from_config(str(root), writeable=True)
    pipeline = pb.Pipeline("tasks of tests")
    for label in labels:
        pipeline.addTask(f"{_TASKS}.{PIPELINE[label]}", label)
    for name, value in {"scale": 3.0, "mode": dict(modes or {}), **config}.items():
        pipeline.addConfigOverride("step", name, value)
    graph = pipeline.to_graph(registry=butler.registry)
    builder = AllDimensionsQuantumGraphBuilder(graph, butler, input_collections=["in"], output_run=RUN)
    case = Case(root)
    builder.finish(attach_datastore_records=records).write(str(case.graph))
    return case


def _box(lon0: float, lat0: float, lon1: float, lat1: float) -> ConvexPolygon:
    corners = [(lon0, lat0), (lon1, lat0), (lon1, lat1), (lon0, lat1)]
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners])


def make_repository(root: pathlib.Path, visits: int = 2, detectors: int = 3) -> pathlib.Path:
    """Make a repository with inputs, without a graph; return where it is."""
    Butler.makeRepo(str(root))
    butler = Butler.from_config(str(root), writeable=True)
    insert = butler.registry.insertDimensionData
    most = {"visit_max": 10_000, "visit_system": 0, "exposure_max": 10_000, "detector_max": 1000}
    insert("instrument", {"name": "Cam", "class_name": "lsst.pipe.base.Instrument", **most})
    insert("physical_filter", {"instrument": "Cam", "name": "r1", "band": "r"})
    numbers, sky = range(1, detectors + 1), _box(10, 0, 10 + detectors, 1)
    insert("detector", *[{"instrument": "Cam", "id": n, "full_name": f"D{n}"} for n in numbers])
    insert("day_obs", {"instrument": "Cam", "id": 20260301})
    for visit in range(1, visits + 1):
        about = {"physical_filter": "r1", "day_obs": 20260301, "region": sky}
        insert("visit", {"instrument": "Cam", "id": visit, "name": f"v{visit}", **about})
        at = {"instrument": "Cam", "visit": visit}
        regions = [{**at, "detector": n, "region": _box(9 + n, 0, 10 + n, 1)} for n in numbers]
        insert("visit_detector_region", *regions)
    insert("skymap", {"name": "S", "hash": b"h", "tract_max": 1, "patch_nx_max": 10, "patch_ny_max": 1})
    insert("tract", {"skymap": "S", "id": 0, "region": sky})
    patches = [{"id": n - 1, "cell_x": n - 1, "cell_y": 0} for n in numbers]
    for n, patch in zip(numbers, patches, strict=True):
        patch |= {"region": _box(9.05 + n, 0.05, 9.95 + n, 0.95)}
    insert("patch", *[{"skymap": "S", "tract": 0, **patch} for patch in patches])
    _put_inputs(butler, visits, detectors, sky)
    return root


def _put_inputs(butler: Butler, visits: int, detectors: int, sky: ConvexPolygon) -> None:
    raw = DatasetType("raw", ["visit", "detector"], "StructuredDataDict", universe=butler.dimensions)
    ref = DatasetType("ref", ["htm7"], "StructuredDataDict", universe=butler.dimensions)
    butler.registry.registerDatasetType(raw)
    butler.registry.registerDatasetType(ref)
    butler.collections.register("in")
    for visit in range(1, visits + 1):
        for detector in range(1, detectors + 1):
            data_id = {"instrument": "Cam", "visit": visit, "detector": detector}
            butler.put({"value": 10 * visit + detector}, raw, data_id, run="in")
    for begin, end in butler.dimensions["htm7"].pixelization.envelope(sky):
        for pixel in range(begin, min(end, begin + 2)):
            butler.put({"pix": pixel}, ref, run="in", htm7=pixel)


def execute_by_reference(case: Case, *, labels: tuple[str, ...] = (), **options: Any) -> dict[str, str]:
    """Execute a graph by the reference, in this process, but for quanta below a failed one.

    Parameters
    ----------
    case
        The repository with its graph.
    labels
        Tasks to execute; all by default.
    **options
        Of the reference's executor.

    Returns
    -------
    failures
        What was raised, by quantum id.
    """
    graph = PredictedQuantumGraph.read_execution_quanta(str(case.graph))
    graph.build_execution_quanta()
    types = {node.name: node.dataset_type for node in graph.pipeline_graph.dataset_types.values()}

    def butler(quantum: Any) -> QuantumBackedButler:
        universe = graph.pipeline_graph.universe
        return QuantumBackedButler.initialize(str(case.root), quantum, universe, dataset_types=types)

    with graph.make_init_qbb(str(case.root)) as init_butler:
        graph.init_output_run(init_butler)
    executor = SingleQuantumExecutor(
        limited_butler_factory=butler, **{"skip_existing": True, "clobber_outputs": True, **options}
    )
    xgraph = graph.quantum_only_xgraph
    failures: dict[str, str] = {}
    blocked: set[Any] = set()
    with execution._captured_logging():
        for quantum_id in networkx.topological_sort(xgraph):
            info = xgraph.nodes[quantum_id]
            is_blocked = not blocked.isdisjoint(xgraph.predecessors(quantum_id))
            if is_blocked or (labels and info["task_label"] not in labels):
                blocked.add(quantum_id)
                continue
            try:
                executor.execute(info["pipeline_node"], info["quantum"], quantum_id)
            except BaseException as exc:
                blocked.add(quantum_id)
                failures[str(quantum_id)] = f"{type(exc).__name__}: {exc}"
    return failures


def outcome(provenance: pathlib.Path) -> dict[str, Any]:
    """Return what a provenance graph tells of each quantum and dataset, but for times and texts of logs."""
    with ProvenanceQuantumGraphReader.open(str(provenance)) as reader:
        reader.read_full_graph()
        graph = reader.graph
    quanta = {
        str(quantum_id): (
            info["task_label"],
            info["status"].name,
            None if info["caveats"] is None else info["caveats"].value,
            [
                (each.status.name, each.exception and (each.exception.type_name, each.exception.message))
                for each in info["attempts"]
            ],
            [each.resource_usage is None for each in info["attempts"]],
        )
        for quantum_id, info in graph.quantum_only_xgraph.nodes(data=True)
    }
    produced = {
        str(node): info["produced"]
        for node, info in graph.bipartite_xgraph.nodes(data=True)
        if "dataset_type_name" in info
    }
    return {"quanta": quanta, "produced": produced}
