"""The report on an execution that the Rubin middleware writes and reads (``--summary``)."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from aggregator.execution import quantum_attempts
from aggregator.schemas import output_kinds, output_paths
from aggregator.schemas.execution import task_metadata
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors

_STATUSES = {
    quantum_attempts.Fate.SUCCEEDED: "success",
    quantum_attempts.Fate.EXISTING: "success",
    quantum_attempts.Fate.FAILED: "failure",
    quantum_attempts.Fate.TIMED_OUT: "timeout",
    quantum_attempts.Fate.BLOCKED: "skipped",
}

_FATES = {status: fate for fate, status in _STATUSES.items() if fate is not quantum_attempts.Fate.EXISTING}
_EXISTED = "hadSucceededBefore"
"""Ours: says of a success that it is from before this execution. Other readers pass over it."""


class ExecutionReport:
    """Gathers what became of quanta, and writes it to a file.

    Parameters
    ----------
    path
        The file.
    in_process
        Whether quanta are executed in this process, so that none has an exit code of its own.
    """

    def __init__(self, path: str, *, in_process: bool) -> None:
        self.output = output_paths.Output(path, output_kinds.Kind.EXECUTION_REPORT)
        self._in_process = in_process
        self._quanta: list[dict[str, Any]] = []

    def add(self, report: quantum_attempts.Report) -> None:
        """Add what became of a quantum."""
        quantum: dict[str, Any] = {
            "status": _STATUSES[report.fate],
            "dataId": dict(report.data_id),
            "taskLabel": report.task_label,
        }
        if report.fate is quantum_attempts.Fate.EXISTING:
            quantum[_EXISTED] = True
        if not self._in_process and report.fate is not quantum_attempts.Fate.BLOCKED:
            quantum["exitCode"] = report.exit_code
        if (exception := report.exception) is not None:
            quantum["exceptionInfo"] = {"className": exception.type_name, "message": exception.message}
        self._quanta.append(quantum | {"quantumId": str(report.quantum_id)})

    def write(
        self,
        header: pipeline.Header,
        blocks: Iterable[predicted.Quantum],
        error: errors.AggregatorError | None,
    ) -> None:
        """Write the file.

        Parameters
        ----------
        header
            Header of the graph.
        blocks
            The quanta that were to be executed.
        error
            What has ended the execution, if it was no success.

        Raises
        ------
        AggregatorError
            If it can't be written.
        """
        document: dict[str, Any] = {
            "qgraphSummary": _graph(header, blocks),
            "status": self._status(error),
            "cmdLine": sys.argv,
        }
        if error is not None:
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            document["exceptionInfo"] = {"className": kind, "message": str(error)}
        document["quantaReports"] = self._quanta
        self.output.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")

    def _status(self, error: errors.AggregatorError | None) -> str:
        if error is None:
            return "success"
        statuses = {quantum["status"] for quantum in self._quanta}
        return "timeout" if "timeout" in statuses and "failure" not in statuses else "failure"


def _graph(header: pipeline.Header, blocks: Iterable[predicted.Quantum]) -> dict[str, Any]:
    """Return what is told of the graph; what it does not say itself is left out."""
    tasks: dict[str, tuple[Counter[str], Counter[str]]] = {}
    quanta: Counter[str] = Counter()
    for block in blocks:
        quanta[block.task_label] += 1
        counts = tasks.setdefault(block.task_label, (Counter(), Counter()))
        for count, connections in zip(counts, (block.inputs, block.outputs), strict=True):
            for datasets in connections.values():
                for dataset in datasets:
                    count[dataset.dataset_type_name] += 1
    about = {
        "cmdLine": header.command or None,
        # As Python writes times; the graph has them as ISO 8601 does.
        "creationUTC": None if header.timestamp is None else str(header.timestamp).replace("T", " "),
        "inputCollection": header.inputs or None,
        "outputCollection": header.output,
        "outputRun": header.output_run,
    }
    return {name: value for name, value in about.items() if value is not None} | {
        "qgraphTaskSummaries": {
            label: {
                "taskLabel": label,
                "numQuanta": quanta[label],
                "numInputs": dict(inputs),
                "numOutputs": dict(outputs),
            }
            for label, (inputs, outputs) in tasks.items()
        }
    }


def read(content: bytes) -> list[quantum_attempts.Report]:
    """Return what a report tells of quanta.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    document = msgspec.json.decode(content)
    return [_quantum(each) for each in document["quantaReports"]]


def _quantum(document: dict[str, Any]) -> quantum_attempts.Report:
    exception = document.get("exceptionInfo")
    return quantum_attempts.Report(
        uuid.UUID(document["quantumId"]),
        document["taskLabel"],
        document["dataId"],
        quantum_attempts.Fate.EXISTING if document.get(_EXISTED) else _FATES[document["status"]],
        exception and task_metadata.ExceptionInfo(exception["className"], exception["message"], {}),
        document.get("exitCode", 0),
    )
