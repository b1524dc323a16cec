"""What a graph holds in place of a file, compared with what is in that file now."""

import math
from typing import Any

import msgspec

from aggregator.schemas.execution import log_records, task_metadata
from aggregator.schemas.graphs import nodes, pipeline, provenance_graph
from aggregator.storage import errors, stores

_UNREADABLE = (ValueError, RecursionError, msgspec.MsgspecError)
"""What parsing of a file can raise."""


_ONE = b'{"attempts":[%b]}'
"""A block with one attempt. Mostly it is as in its file, byte by byte: then nothing has to be parsed."""


class _Task(msgspec.Struct):
    config_str: str = ""


class _Tasks(msgspec.Struct):
    tasks: dict[str, _Task]


class Contents:
    """Compares files with the blocks that take their place.

    Parameters
    ----------
    graph
        The graph, open.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph) -> None:
        self._graph = graph
        texts = msgspec.json.decode(graph.pipeline_json, type=_Tasks).tasks
        self._configs = {
            task.init_outputs[pipeline.CONFIG_CONNECTION]: texts[task.label].config_str
            for task in graph.pipeline.tasks
        }
        self._logs = {task.outputs.get(pipeline.LOG_CONNECTION) for task in graph.pipeline.tasks}

    def holds(self, dataset_id: str, dataset_type: str, store: stores.Store, key: str) -> bool:
        """Return whether the graph holds what a file holds of the last attempt; not if nobody can tell.

        Parameters
        ----------
        dataset_id
            Id of the dataset, 32 hexadecimal digits.
        dataset_type
            Name of its type: of a log, metadata or a config.
        store, key
            Where the file is.

        Raises
        ------
        FileNotFoundError, UnusableError, MachineError
            If the file is gone, or can't be read.
        """
        content = store.read(key)
        if content is None:
            raise FileNotFoundError(store.location(key))
        data = content.data
        try:
            if dataset_type in self._configs:
                return data.decode() == self._configs[dataset_type]
            if dataset_type in self._logs:
                return self._holds_log(dataset_id, data)
            return self._holds_metadata(dataset_id, data)
        except (errors.FormatError, *_UNREADABLE):
            return False

    def _holds_log(self, dataset_id: str, data: bytes) -> bool:
        document = self._graph.document(nodes.LOGS, dataset_id)
        if document is None or document == _ONE % data:
            return document is not None
        records = _ONE % log_records.parse(data).records
        if document == records:
            return True
        held = nodes.decode_logs(document)
        return bool(held and held[-1] == nodes.decode_logs(records)[0])

    def _holds_metadata(self, dataset_id: str, data: bytes) -> bool:
        document = self._graph.document(nodes.METADATA, dataset_id)
        if document is None or document == _ONE % data:
            return document is not None
        attempts = nodes.decode_metadata(document)
        if not attempts:
            return False
        held, now = attempts[-1], task_metadata.parse(data)
        # NaN is equal to nothing, and making things plain takes most of the time of a comparison.
        return bool(held == now) or bool(_plain(held) == _plain(now))


def _plain(value: Any) -> Any:
    """Return metadata with None for numbers that are not finite, as some writers of graphs put them."""
    if isinstance(value, msgspec.Struct):
        return _plain({name: getattr(value, name) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
