"""A built graph, written as a file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from aggregator.butler.registry import new_ids
from aggregator.execution.graph_building import graph_builder, graph_nodes, graph_parts
from aggregator.schemas.graphs import addresses, blocks, pipeline, predicted_writer
from aggregator.storage import durable_files

_LEVEL: Final = 3
_DICTIONARY_SIZE: Final = 32_768
_SAMPLES: Final = 512
"""Quanta that a graph has to have for a dictionary, and from which it is trained."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """What the header tells of how a graph was made."""

    request: graph_builder.BuildRequest
    """What it was to be."""

    output_chain: str | None
    """CHAINED collection that is to begin with the output run."""

    command: str
    """The command."""


def write(path: str, parts: graph_parts.GraphParts, edges: set[tuple[str, str]], origin: Origin) -> None:
    """Write a graph; it appears complete, or not at all, and replaces nothing.

    Parameters
    ----------
    path
        Local path of the graph.
    parts
        The graph.
    edges
        Pairs of ids of quanta of which one reads what the other writes.
    origin
        How it was made.

    Raises
    ------
    FileExistsError
        If something is there.
    """
    documents = list(parts.quantum_documents())
    samples = documents[:_SAMPLES] if len(documents) >= _SAMPLES else []
    dictionary = blocks.train_dictionary(samples, _DICTIONARY_SIZE)
    frames = list(map(predicted_writer.Frames(dictionary, _LEVEL), documents))
    ends = sorted(edges)
    ids = [quantum.id for quantum in parts.skeleton.all_quanta()]
    partial = durable_files.temporary_name(path, "partial")
    with (
        _published(partial, path),
        predicted_writer.PredictedWriter(partial, dictionary, _LEVEL) as out,
    ):
        out.single("header", msgspec.json.encode(_header(parts, origin)))
        out.single("pipeline_graph", parts.pipeline_json)
        out.thin_graph(
            lambda: _quanta(parts.skeleton),
            lambda: iter([(_ids(first for first, _ in ends), _ids(second for _, second in ends))]),
        )
        out.dimension_data(lambda: iter(parts.dimension_rows))
        out.single("init_quanta", parts.init_quanta(new_ids.new))
        out.quanta(frames)
        out.addresses(_ids(ids), np.array([len(frame) for frame in frames], dtype=np.int64))


@contextlib.contextmanager
def _published(partial: str, path: str) -> Iterator[None]:
    """Give a file its name when it is complete, unless another build was faster."""
    try:
        yield
        durable_files.rename_new(partial, path)
        durable_files.sync_directory(os.path.dirname(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _header(parts: graph_parts.GraphParts, origin: Origin) -> dict[str, Any]:
    counts = {label: len(quanta) for label, quanta in parts.skeleton.quanta.items()}
    request = origin.request
    return {
        "version": pipeline.FORMAT_VERSION,
        "graph_type": "predicted",
        "inputs": list(request.inputs),
        "output": origin.output_chain,
        "output_run": request.output_run,
        "user": _user(),
        "timestamp": datetime.datetime.now().isoformat(timespec="microseconds"),
        "command": origin.command,
        "metadata": {
            "data_query": request.data_query,
            "skip_existing_in": list(request.skip_existing_in),
            "clobber_outputs": request.clobber_outputs,
        },
        "int_size": 8,
        "n_quanta": sum(counts.values()),
        # With `packages`.
        "n_datasets": len(parts.datasets()) + 1,
        "n_task_quanta": counts,
        "provenance_dataset_id": addresses.dashed(new_ids.new()),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # As in containers, where numbers of users need not have names.
        return str(os.getuid())


def _quanta(skeleton: graph_nodes.Skeleton) -> Iterator[tuple[str, addresses.Ids, list[str]]]:
    """Yield label, ids and data coordinates of all quanta."""
    for label, quanta in skeleton.quanta.items():
        coordinates = [
            msgspec.json.encode(quantum.data_id.coordinate).decode() for quantum in quanta.values()
        ]
        yield label, _ids(quantum.id for quantum in quanta.values()), coordinates


def _ids(texts: Any) -> addresses.Ids:
    return addresses.parse_ids(list(texts))
