"""Trains the compression dictionary on a sample of all tasks (docs/design.md, Digests)."""

import dataclasses

import msgspec
import numpy as np

from aggregator.aggregation import configuration, shards
from aggregator.schemas.graphs import blocks, nodes, predicted
from aggregator.storage import in_flight, stores
from aggregator.workers.roles.scanning import execution_files, outcome

_LARGEST_SAMPLE = 64 * 1024
"""Bytes of one document to train with: the dictionary holds what documents have in common, and a huge log
would take the room of all others."""


_LARGEST_FILE = 1024 * 1024
"""Bytes of a file to train with: parsing a huge one takes several times its size of memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """A dictionary, and what it was trained with."""

    data: bytes
    """The dictionary; empty for a small graph, or if training gives none."""

    share: float
    """Of the quanta that were looked at, the share of those that had left something."""


def train(
    config: configuration.AggregatorConfig,
    graph: predicted.PredictedGraph,
    division: shards.Shards,
    files: execution_files.ExecutionFiles,
    requests: in_flight.Requests,
) -> Trained:
    """Return a dictionary.

    Parameters
    ----------
    config
        Limits of the training.
    graph
        The predicted graph.
    division
        Its quanta in order.
    files
        Finds their files.
    requests
        Does several operations at a time where they take long.
    """
    n = len(division.ids)
    if config.zstd_dict_size <= 0 or n < config.zstd_dict_n_inputs:
        return Trained(b"", 1.0)
    # Evenly over the graph, which is grouped by task, in eight rounds, so that any cap leaves all tasks in.
    n_samples = min(n, config.zstd_dict_n_inputs)
    rows = np.arange(n_samples) * n // max(n_samples, 1)
    rows = np.concatenate([rows[i::8] for i in range(8)])
    samples: list[bytes] = []
    n_bytes = n_looked = n_silent = 0
    quanta = graph.read_quanta(division.offsets[rows], division.sizes[rows])
    requests.measure()
    for quantum, _ in requests.ahead(quanta, lambda each: _begin(files, each[0])):
        content = _read(files, quantum)
        n_looked += 1
        n_silent += content == (None, None)
        for sample in () if content is None else _documents(quantum, *content):
            samples.append(sample[:_LARGEST_SAMPLE])
            n_bytes += len(samples[-1])
        if n_bytes >= config.zstd_dict_input_max_bytes:
            break
    files.forget()
    dictionary = blocks.train_dictionary(samples, config.zstd_dict_size)
    return Trained(dictionary, 1.0 - n_silent / max(n_looked, 1))


def _begin(files: execution_files.ExecutionFiles, quantum: predicted.Quantum) -> None:
    for dataset in outcome.special_outputs(quantum):
        files.begin_reading(dataset)


def _read(
    files: execution_files.ExecutionFiles, quantum: predicted.Quantum
) -> tuple[bytes | None, bytes | None] | None:
    """Return log and metadata of a quantum, if they can be read without great effort."""
    try:
        log, metadata = (files.read(d, _LARGEST_FILE).data for d in outcome.special_outputs(quantum))
    except (execution_files.UnreadableError, stores.TooLargeError):
        return None
    return log, metadata


def _documents(quantum: predicted.Quantum, log: bytes | None, metadata: bytes | None) -> list[bytes]:
    """Return what the graph will hold of a quantum, unless its files are damaged."""
    try:
        judgement = outcome.judge(quantum, log, metadata)
    except (outcome.LogError, outcome.MetadataError):
        return []
    return [
        outcome.quantum_block(quantum, judgement.attempts),
        b"".join(judgement.metadata_block()),
        b"".join(judgement.logs_block()),
        *_datasets(quantum),
    ]


def _datasets(quantum: predicted.Quantum) -> list[bytes]:
    """Return documents like those of a quantum's outputs; who reads them is not known yet."""
    return [
        msgspec.json.encode(
            nodes.Dataset(
                dataset_id=dataset.dataset_id,
                dataset_type_name=dataset.dataset_type_name,
                data_coordinate=dataset.data_coordinate,
                run=dataset.run,
                produced=True,
                producer=quantum.quantum_id,
                consumers=[quantum.quantum_id],
            )
        )
        for datasets in quantum.outputs.values()
        for dataset in datasets
    ]
