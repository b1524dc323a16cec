"""Truly executing a predicted graph, in this process, the way batch jobs do it (quantum-backed)."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import networkx
from lsst.daf.butler import DatasetRef, QuantumBackedButler
from lsst.daf.butler.datastore.record_data import DatastoreRecordData
from lsst.daf.butler.logging import ButlerMDC
from lsst.pipe.base import ExecutionResources
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor

from tests.helpers.oracle import tasks

QUANTA_PER_PROCESS = 12
"""After so many quanta a new executor is used, as if the batch system had started another job."""


@contextlib.contextmanager
def _captured_logging() -> Iterator[None]:
    """Let log records of level INFO reach the executor's handler, and nobody else."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers
    ButlerMDC.add_mdc_log_record_factory()
    root.setLevel(logging.INFO)
    root.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        ButlerMDC.restore_log_record_factory()


def order(graph: PredictedQuantumGraph) -> list[uuid.UUID]:
    """Return all quanta in the order in which a batch system might run them: topological, visit by visit."""
    graph.build_execution_quanta()
    xgraph = graph.quantum_only_xgraph
    labels = list(graph.pipeline_graph.tasks)

    def key(quantum_id: uuid.UUID) -> tuple[Any, ...]:
        info = xgraph.nodes[quantum_id]
        data_id = info["data_id"]
        return (data_id.get("visit", 10**9), labels.index(info["task_label"]), data_id.required_values)

    return list(networkx.lexicographical_topological_sort(xgraph, key))


def execute(
    root: pathlib.Path, graph: PredictedQuantumGraph, quanta: list[uuid.UUID], number: int, **kwargs: Any
) -> None:
    """Execute quanta once, skipping those that have succeeded before and those below a failure.

    Parameters
    ----------
    root
        The repository.
    graph
        The predicted graph.
    quanta
        Ids in topological order.
    number
        Which pass this is: 0, 1, ...; from the second on, leftovers of failures are deleted first.
    **kwargs
        Further arguments of the executor.
    """
    if number == 0:
        with graph.make_init_qbb(str(root)) as butler:
            graph.init_output_run(butler)
    butler = _common_butler(root, graph, quanta)

    def new_executor() -> SingleQuantumExecutor:
        return SingleQuantumExecutor(
            limited_butler_factory=lambda quantum: butler,
            assume_no_existing_outputs=number == 0,
            skip_existing=number > 0,
            clobber_outputs=number > 0,
            resources=ExecutionResources(),
            job_metadata={"qg_read_time": 0.25, "qg_size": len(quanta)},
            **kwargs,
        )

    xgraph = graph.quantum_only_xgraph
    stopped: set[uuid.UUID] = set()
    tasks.current_pass = number
    with _captured_logging(), contextlib.ExitStack() as stack:
        stack.callback(QuantumBackedButler.close, butler)
        for count, quantum_id in enumerate(quanta):
            if count % QUANTA_PER_PROCESS == 0:
                executor = new_executor()
            blocked = not stopped.isdisjoint(xgraph.predecessors(quantum_id))
            if blocked or not _attempt(executor, quantum_id, xgraph.nodes[quantum_id]):
                stopped.add(quantum_id)


def _common_butler(
    root: pathlib.Path, graph: PredictedQuantumGraph, quanta: list[uuid.UUID]
) -> QuantumBackedButler:
    """Return one butler for all quanta: making one for each would take most of the time."""
    node_types = graph.pipeline_graph.dataset_types
    found = [graph.quantum_only_xgraph.nodes[quantum_id]["quantum"] for quantum_id in quanta]
    inputs = {ref.id for quantum in found for refs in quantum.inputs.values() for ref in refs}
    inputs.update(ref.id for quantum in found for ref in quantum.initInputs.values())
    butler = QuantumBackedButler.from_predicted(
        str(root),
        predicted_inputs=inputs,
        predicted_outputs=[ref.id for quantum in found for refs in quantum.outputs.values() for ref in refs],
        dimensions=graph.pipeline_graph.universe,
        datastore_records=DatastoreRecordData.merge_mappings(*[q.datastore_records for q in found]),
        dataset_types={node.name: node.dataset_type for node in node_types.values()},
    )
    butler.close = lambda: None  # type: ignore[method-assign]  # the executor would close it after a quantum
    return butler


def _attempt(executor: SingleQuantumExecutor, quantum_id: uuid.UUID, info: Any) -> bool:
    node, data_id = info["pipeline_node"], dict(info["data_id"].mapping)
    action = tasks.behaviour(node.config, data_id, tasks.current_pass)
    tasks.construction_fails = action == "construct"
    try:
        executor.execute(node, info["quantum"], quantum_id)
    except Exception:
        return False
    finally:
        tasks.construction_fails = False
    return True


def manifest(root: pathlib.Path, graph: PredictedQuantumGraph, quanta: list[uuid.UUID]) -> dict[str, Any]:
    """Describe quanta, in the given order, and init quanta with their outputs and predicted files.

    Returns
    -------
    manifest
        ``{"quanta": [entry], "init": [entry]}`` with entries ``{"id", "task", "data_id", "outputs"}``;
        outputs by connection are lists of ``[dataset id, path relative to the repository's root]``.
    """
    graph.build_execution_quanta()
    butler = _common_butler(root, graph, [])

    def entry(quantum_id: uuid.UUID, label: str, data_id: Any, outputs: dict[str, list[DatasetRef]]) -> Any:
        paths: dict[str, list[list[str]]] = {}
        for connection, refs in outputs.items():
            uris = [(ref.id, butler._datastore.getURI(ref, predict=True)) for ref in refs]
            paths[connection] = [[str(i), str(pathlib.Path(uri.ospath).relative_to(root))] for i, uri in uris]
        return {"id": str(quantum_id), "task": label, "data_id": dict(data_id.mapping), "outputs": paths}

    def regular(quantum_id: uuid.UUID) -> Any:
        info = graph.quantum_only_xgraph.nodes[quantum_id]
        node, outputs = info["pipeline_node"], info["quantum"].outputs
        edges = node.iter_all_outputs()
        refs = {edge.connection_name: list(outputs[edge.parent_dataset_type_name]) for edge in edges}
        return entry(quantum_id, info["task_label"], info["data_id"], refs)

    def initial(label: str, quantum_id: uuid.UUID) -> Any:
        refs = {name: [ref] for name, ref in graph.get_init_outputs(label).items()}
        return entry(quantum_id, label, next(iter(refs.values()))[0].dataId, refs)

    try:
        return {
            "quanta": [regular(quantum_id) for quantum_id in quanta],
            "init": [initial(label, model.quantum_id) for label, model in graph._init_quanta.items()],
        }
    finally:
        QuantumBackedButler.close(butler)
