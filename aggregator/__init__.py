"""Aggregation of executed quantum graphs: ingests their outputs and writes their provenance graph.

`aggregate_graph` is the main job, with options in an `AggregatorConfig`. `ingest_graph` lets the provenance
graph take the place of the files whose content it holds. `Provenance` reads a provenance graph back.
`execute` runs the quanta of a predicted graph, after `init_run` has prepared the run. `create_repository` and
`synthesize` make repositories and runs to try things in. All errors that explain themselves are
`AggregatorError`; see docs/python.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aggregator.aggregation.aggregate import aggregate_graph
    from aggregator.aggregation.aggregation_summary import Summary
    from aggregator.aggregation.configuration import AggregatorConfig
    from aggregator.butler.creation import create_repository
    from aggregator.console.interruption import Cancellation, Interrupted
    from aggregator.console.progress import ProgressUpdate
    from aggregator.graph_ingestion.ingest import ingest_graph
    from aggregator.graph_ingestion.ingestion_summary import IngestionSummary
    from aggregator.reading.provenance import Provenance
    from aggregator.running.execution_summary import ExecutionSummary
    from aggregator.running.graph_run import ExecutionError, RunConfig, execute, init_run
    from aggregator.schemas.execution.statuses import Status
    from aggregator.storage.errors import (
        AggregatorError,
        FatalWorkerError,
        FormatError,
        HeldError,
        InUseError,
        MachineError,
        RefusedError,
    )
    from aggregator.synthesis.campaign import Campaign, synthesize
    from aggregator.synthesis.parameters import SynthesisParameters

    __version__: str

__all__ = [
    "AggregatorConfig",
    "AggregatorError",
    "Campaign",
    "Cancellation",
    "ExecutionError",
    "ExecutionSummary",
    "FatalWorkerError",
    "FormatError",
    "HeldError",
    "InUseError",
    "IngestionSummary",
    "Interrupted",
    "MachineError",
    "ProgressUpdate",
    "Provenance",
    "RefusedError",
    "RunConfig",
    "Status",
    "Summary",
    "SynthesisParameters",
    "aggregate_graph",
    "create_repository",
    "execute",
    "ingest_graph",
    "init_run",
    "synthesize",
]

_MODULES = {
    "aggregator.aggregation.aggregate": ("aggregate_graph",),
    "aggregator.aggregation.aggregation_summary": ("Summary",),
    "aggregator.aggregation.configuration": ("AggregatorConfig",),
    "aggregator.butler.creation": ("create_repository",),
    "aggregator.console.interruption": ("Cancellation", "Interrupted"),
    "aggregator.console.progress": ("ProgressUpdate",),
    "aggregator.graph_ingestion.ingest": ("ingest_graph",),
    "aggregator.graph_ingestion.ingestion_summary": ("IngestionSummary",),
    "aggregator.reading.provenance": ("Provenance",),
    "aggregator.running.execution_summary": ("ExecutionSummary",),
    "aggregator.running.graph_run": ("ExecutionError", "RunConfig", "execute", "init_run"),
    "aggregator.schemas.execution.statuses": ("Status",),
    "aggregator.storage.errors": (
        "AggregatorError",
        "FatalWorkerError",
        "FormatError",
        "HeldError",
        "InUseError",
        "MachineError",
        "RefusedError",
    ),
    "aggregator.synthesis.campaign": ("Campaign", "synthesize"),
    "aggregator.synthesis.parameters": ("SynthesisParameters",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __dir__() -> list[str]:
    # Not the names that are imported here to be used here.
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__, "__version__"})


if not TYPE_CHECKING:
    # Type checkers would believe that there is every name.
    def __getattr__(name: str) -> Any:
        """Import what is asked for; `aggregator --help` should not have to import everything."""
        if name == "__version__":
            from importlib import metadata

            return metadata.version("quantum-graph-aggregator")
        if name not in _PLACES:
            raise AttributeError(f"module 'aggregator' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value
