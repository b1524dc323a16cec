"""What a graph holds in place of a file, compared with what is in that file now."""

import math
from typing import Any

import msgspec

from aggregator.schemas.execution import log_records, task_metadata
from aggregator.schemas.graphs import nodes, pipeline, provenance_graph
from aggregator.storage import errors, stores

_UNREADABLE = (ValueError, RecursionError, msgspec.MsgspecError)
"""What parsing of a file can raise."""


class _Task(msgspec.Struct):
    config_str: str = ""


class _Tasks(msgspec.Struct):
    tasks: dict[str, _Task]


class _Attempts(msgspec.Struct):
    attempts: tuple[msgspec.Raw]


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
                return bool(self._last(self._graph.logs(dataset_id)) == _records(data))
            held = self._last(self._graph.metadata(dataset_id))
            return bool(_plain(held) == _plain(task_metadata.parse(data)))
        except (errors.FormatError, *_UNREADABLE):
            return False

    @staticmethod
    def _last(attempts: list[Any] | None) -> Any:
        return attempts[-1] if attempts else None


def _records(data: bytes) -> Any:
    """Return the records of a log file, as a graph's are returned."""
    document = msgspec.json.encode(_Attempts((msgspec.Raw(log_records.parse(data).records),)))
    return nodes.decode_logs(document)[0]


def _plain(value: Any) -> Any:
    """Return metadata with None for numbers that are not finite, as some writers of graphs put them."""
    if isinstance(value, msgspec.Struct):
        return _plain({name: getattr(value, name) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
