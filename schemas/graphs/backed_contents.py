"""What the files hold, or held, in whose place a provenance graph stands: configs, logs and metadata.

As the middleware reads them from a graph: of metadata and logs that is the last attempt.
"""

import json
from typing import Final

import msgspec
from aggregator.schemas.execution import log_writer
from aggregator.schemas.graphs import nodes, provenance_graph
from aggregator.storage import errors

STORAGE_CLASSES: Final = {
    "TaskMetadata": nodes.METADATA,
    "PropertySet": nodes.METADATA,
    "ButlerLogRecords": nodes.LOGS,
}
"""Component that holds datasets of a storage class; configs are in the pipeline."""

CONFIG: Final = "Config"
"""Storage class of configs."""

_CONFIG_END: Final = "_config"


class _Attempts(msgspec.Struct):
    attempts: list[msgspec.Raw]


class _Task(msgspec.Struct):
    config_str: str = ""


class _Pipeline(msgspec.Struct):
    tasks: dict[str, _Task]


_decoder = msgspec.json.Decoder(_Attempts)


class BackedContents:
    """Contents of the datasets that one graph stands for.

    Parameters
    ----------
    graph
        The graph, open.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph) -> None:
        self._graph = graph
        self._configs = {
            label: task.config_str
            for label, task in msgspec.json.decode(graph.pipeline_json, type=_Pipeline).tasks.items()
        }

    def read(self, dataset_id: str, dataset_type: str, storage_class: str) -> bytes:
        """Return what the file of a dataset holds.

        Parameters
        ----------
        dataset_id
            Id of the dataset.
        dataset_type
            Name of its type.
        storage_class
            Storage class of what is stored.

        Raises
        ------
        FormatError
            If the graph does not have it.
        """
        if storage_class == CONFIG:
            text = self._configs.get(dataset_type.removesuffix(_CONFIG_END))
            if not text:
                raise self._absence("pipeline_graph", dataset_id, dataset_type)
            return text.encode()
        if storage_class not in STORAGE_CLASSES:
            raise self._absence(nodes.ADDRESSES, dataset_id, dataset_type)
        component = STORAGE_CLASSES[storage_class]
        try:
            document = self._graph.document(component, dataset_id)
        except errors.RefusedError:
            document = None
        content = None if document is None else _last(document)
        if content is None:
            raise self._absence(nodes.COMPONENTS[component], dataset_id, dataset_type)
        return content

    def _absence(self, member: str, dataset_id: str, dataset_type: str) -> errors.FormatError:
        problem = (
            f"dataset {dataset_id} of type {dataset_type} should be in it, and is not. Leave it out, or "
            "transfer the whole graph."
        )
        return errors.FormatError(self._graph.path, member, problem)


def _last(document: bytes) -> bytes | None:
    """Return the JSON of the last attempt; nothing if it has left none."""
    try:
        attempts = [bytes(each) for each in _decoder.decode(document).attempts]
    except msgspec.DecodeError:
        # There are numbers that are not JSON.
        attempts = [log_writer.dump(each) for each in json.loads(document)["attempts"]]
    return None if not attempts or attempts[-1] == b"null" else attempts[-1]
