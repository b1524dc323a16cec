"""The predicted graph of a synthetic run, put together from what was made for each chunk."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from aggregator.butler.dimensions import universe
from aggregator.schemas.graphs import addresses, predicted_writer
from aggregator.schemas.graphs import pipeline as formats
from aggregator.storage import durable_files, opening
from aggregator.synthesis import (
    datasets,
    dimension_data,
    node_numbers,
    parameters,
    parts,
    quantum_blocks,
    survey_pipeline,
)

LEVEL: Final = 3
"""Compression level; the reference's 10 takes much longer for a few per cent."""

DICTIONARY_SIZE: Final = 32_768
_SAMPLES: Final = 512
_PIECE: Final = 4096
"""Quanta whose part of the thin graph is held at once."""


def sample(graph: node_numbers.Nodes, blocks: quantum_blocks.QuantumBlocks) -> list[bytes]:
    """Return predicted quanta of all tasks, to train a dictionary with; none for a small graph."""
    if graph.n_quanta < _SAMPLES:
        return []
    documents = []
    n_of_each = _SAMPLES // len(survey_pipeline.TASKS)
    for task, count in enumerate(graph.task_counts):
        n = min(n_of_each, count)
        chunk = node_numbers.Chunk(0, task, 0, n, graph.first_rows[task])
        documents += blocks.documents(chunk)
    return documents


def header(options: parameters.SynthesisParameters, graph: node_numbers.Nodes) -> dict[str, Any]:
    """Return the graph's header (quantum-graph-format.md section 5.2)."""
    labels = [task.label for task in survey_pipeline.TASKS]
    return {
        "version": formats.FORMAT_VERSION,
        "graph_type": "predicted",
        "inputs": [survey_pipeline.INPUT_CHAIN],
        "output": survey_pipeline.OUTPUT_CHAIN,
        "output_run": survey_pipeline.OUTPUT_RUN,
        "user": "synthesis",
        "timestamp": "2026-03-01T23:58:20.648512",
        "command": f"aggregator synthesize --quanta {options.quanta} --seed {options.seed}",
        "metadata": {"synthetic": True, "seed": options.seed},
        "int_size": 8,
        "n_quanta": graph.n_quanta,
        "n_datasets": graph.n_datasets,
        "n_task_quanta": dict(zip(labels, graph.task_counts, strict=True)),
        "provenance_dataset_id": graph.provenance_id,
    }


def init_quanta(graph: node_numbers.Nodes) -> list[dict[str, Any]]:
    """Return the init quanta (section 6.2)."""

    def dataset(name: str, dataset_id: str) -> list[dict[str, Any]]:
        document = {"dataset_id": dataset_id, "dataset_type_name": name, "data_coordinate": []}
        return [{**document, "run": survey_pipeline.OUTPUT_RUN}]

    def members(outputs: tuple[survey_pipeline.Output, ...]) -> dict[str, Any]:
        ids = {each: graph.dataset_ids(each.dataset_type, np.array([0]))[0] for each in outputs}
        return {each.connection: dataset(each.dataset_type, i) for each, i in ids.items()}

    def quantum(position: int, label: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        return {
            "quantum_id": graph.init_quantum_id(position),
            "task_label": label,
            "data_coordinate": [],
            "inputs": inputs,
            "outputs": outputs,
            "datastore_records": {},
        }

    packages = {formats.PACKAGES_TYPE: dataset(formats.PACKAGES_TYPE, graph.packages_id)}
    quanta = [quantum(-1, "", {}, packages)]
    for position, task in enumerate(survey_pipeline.TASKS):
        inputs = members(task.init_inputs)
        quanta.append(quantum(position, task.label, inputs, members(task.all_init_outputs)))
    return quanta


def write(
    path: str,
    options: parameters.SynthesisParameters,
    graph: node_numbers.Nodes,
    described: datasets.Datasets,
    pipeline_json: bytes,
    held: parts.Parts,
) -> None:
    """Write the predicted graph.

    Parameters
    ----------
    path
        Where to.
    options
        Parameters of the run.
    graph, described
        The run's nodes and datasets.
    pipeline_json
        The pipeline graph.
    held
        What was made for each chunk.
    """
    dimensions = universe.Universe.from_config(msgspec.json.decode(pipeline_json)["dimensions"])
    chunks = graph.chunks()
    store, key = opening.locate(path)
    place = store.workplace(key, held.directory)
    with predicted_writer.PredictedWriter(place, held.read_dictionary(), LEVEL) as out:
        out.single("header", msgspec.json.encode(header(options, graph)))
        out.single("pipeline_graph", pipeline_json)
        out.thin_graph(lambda: _quanta(graph, described), lambda: _edges(graph))
        out.dimension_data(lambda: dimension_data.rows(graph.survey, dimensions))
        out.single("init_quanta", msgspec.json.encode(init_quanta(graph)))
        out.quanta(held.read_blocks(chunk.number) for chunk in chunks)
        sizes = np.concatenate([held.read_sizes(chunk.number) for chunk in chunks])
        out.addresses(graph.quantum_ids(np.arange(graph.n_quanta)), sizes)
    if place != path:
        with durable_files.writing(path):
            store.publish(place, key, lambda: None)


def _quanta(
    graph: node_numbers.Nodes, described: datasets.Datasets
) -> Iterator[tuple[str, addresses.Ids, list[str]]]:
    """Yield label, ids and data coordinates of all quanta in pieces."""
    for task, first, count in zip(survey_pipeline.TASKS, graph.first_rows, graph.task_counts, strict=False):
        for begin in range(0, count, _PIECE):
            rows = np.arange(begin, min(begin + _PIECE, count))
            coordinates = map(datasets.coordinate, described.values(task.kind, rows))
            yield task.label, graph.quantum_ids(rows + first), list(coordinates)


def _edges(graph: node_numbers.Nodes) -> Iterator[tuple[addresses.Ids, addresses.Ids]]:
    """Yield producers and consumers of all edges in pieces."""
    for task, count in enumerate(graph.task_counts):
        for begin in range(0, count, _PIECE):
            ends = quantum_blocks.edges(graph, task, begin, min(begin + _PIECE, count))
            yield graph.quantum_ids(ends[0]), graph.quantum_ids(ends[1])
