"""Trains the compression dictionary on a sample of all tasks (docs/design.md, Digests)."""

import msgspec
import numpy as np

from aggregator.aggregation import configuration, shards
from aggregator.butler.datastores import catalog
from aggregator.schemas.graphs import blocks, nodes, predicted
from aggregator.storage import in_flight
from aggregator.workers.roles.scanning import execution_files, outcome

_LARGEST_SAMPLE = 64 * 1024
"""Bytes of one document to train with: the dictionary holds what documents have in common, and a huge log
would take the room of all others."""


_LARGEST_FILE = 1024 * 1024
"""Bytes of a file to train with: parsing a huge one takes several times its size of memory."""


def train(
    config: configuration.AggregatorConfig,
    graph: predicted.PredictedGraph,
    division: shards.Shards,
    types: catalog.Catalog,
) -> bytes:
    """Return a dictionary, or nothing for a small graph, or if training gives none.

    Parameters
    ----------
    config
        Limits of the training.
    graph
        The predicted graph.
    division
        Its quanta in order.
    types
        Where their files are.
    """
    n = len(division.ids)
    if config.zstd_dict_size <= 0 or n < config.zstd_dict_n_inputs:
        return b""
    # Evenly over the graph, which is grouped by task, in eight rounds, so that any cap leaves all tasks in.
    n_samples = min(n, config.zstd_dict_n_inputs)
    rows = np.arange(n_samples) * n // max(n_samples, 1)
    rows = np.concatenate([rows[i::8] for i in range(8)])
    files = execution_files.ExecutionFiles(types)
    samples: list[bytes] = []
    n_bytes = 0
    quanta = graph.read_quanta(division.offsets[rows], division.sizes[rows])
    for documents in in_flight.map_ordered(lambda pair: _documents(files, *pair), quanta):
        for sample in documents:
            samples.append(sample[:_LARGEST_SAMPLE])
            n_bytes += len(samples[-1])
        if n_bytes >= config.zstd_dict_input_max_bytes:
            break
    return blocks.train_dictionary(samples, config.zstd_dict_size)


def _documents(
    files: execution_files.ExecutionFiles, quantum: predicted.Quantum, document: bytes
) -> list[bytes]:
    """Return what the graph will hold of a quantum, as far as it can be read without great effort."""
    special = [(d, catalog.decode_values(bytes(d.data_coordinate))) for d in outcome.special_outputs(quantum)]
    try:
        if any(files.size(dataset, values) > _LARGEST_FILE for dataset, values in special):
            return []
        log, metadata = (files.read(dataset, values).data for dataset, values in special)
        found = outcome.judge(quantum, log, metadata)
    except (execution_files.UnreadableError, outcome.LogError, outcome.MetadataError):
        return []
    return [
        outcome.quantum_block(quantum, found.attempts),
        b"".join(found.metadata_block()),
        b"".join(found.logs_block()),
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
