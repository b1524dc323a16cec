"""Aggregation of executed quantum graphs: ingests their outputs and writes their provenance graph.

`aggregate_graph` is the main job, with options in an `AggregatorConfig`; `follow` does it while a graph is
executed elsewhere. `ingest_graph` lets the provenance graph take the place of the files whose content it
holds. `Provenance` reads a provenance graph back. `build` makes the predicted graph of a pipeline. `execute`
runs the quanta of a predicted graph, after `init_run` has prepared the run. `run_stage` carries a policy out
for each of many data IDs. `subset` brings a part of a repository into another one, `merge` several under
other names and ids if need be, and `confirm` records files that others have brought. `pack`, `unpack`,
`collect` and `deliver` bring quanta to hosts that share nothing with the repository, and home what they have
left. `create_repository` and `synthesize` make repositories and runs to try things in. All errors that
explain themselves are `AggregatorError`; see docs/python.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aggregator.aggregation.aggregate import aggregate_graph
    from aggregator.aggregation.aggregation_summary import Summary
    from aggregator.aggregation.configuration import AggregatorConfig
    from aggregator.building.build_summary import BuildSummary
    from aggregator.building.graph_build import build
    from aggregator.butler.creation import create_repository
    from aggregator.butler.transfers.dataset_selection import Selection
    from aggregator.console.interruption import Cancellation, Interrupted
    from aggregator.console.progress import ProgressUpdate
    from aggregator.following.followed_campaign import follow
    from aggregator.graph_ingestion.ingest import ingest_graph
    from aggregator.graph_ingestion.ingestion_summary import IngestionSummary
    from aggregator.reading.provenance import Provenance
    from aggregator.running.execution_summary import ExecutionSummary
    from aggregator.running.graph_run import ExecutionError, execute, init_run
    from aggregator.running.run_config import RunConfig
    from aggregator.schemas.execution.statuses import Status
    from aggregator.staging.stage_run import StageConfig, StagingError, run_stage
    from aggregator.staging.stage_summary import StageSummary
    from aggregator.storage.errors import (
        AggregatorError,
        ConflictError,
        FatalWorkerError,
        FormatError,
        HeldError,
        InUseError,
        MachineError,
        RefusedError,
    )
    from aggregator.synthesis.campaign import Campaign, synthesize
    from aggregator.synthesis.parameters import SynthesisParameters
    from aggregator.transfer.delivery import deliver
    from aggregator.transfer.job_summaries import PackSummary, UnpackSummary
    from aggregator.transfer.manifest_confirmation import ConfirmReport, confirm
    from aggregator.transfer.merge_config import MergeConfig
    from aggregator.transfer.packing import pack
    from aggregator.transfer.repository_merge import merge
    from aggregator.transfer.repository_subset import subset
    from aggregator.transfer.result_collection import collect
    from aggregator.transfer.result_summaries import CollectSummary, DeliverSummary
    from aggregator.transfer.transfer_config import TransferConfig
    from aggregator.transfer.transfer_report import TransferReport
    from aggregator.transfer.unpacking import unpack

    __version__: str

__all__ = [
    "AggregatorConfig",
    "AggregatorError",
    "BuildSummary",
    "Campaign",
    "Cancellation",
    "CollectSummary",
    "ConfirmReport",
    "ConflictError",
    "DeliverSummary",
    "ExecutionError",
    "ExecutionSummary",
    "FatalWorkerError",
    "FormatError",
    "HeldError",
    "InUseError",
    "IngestionSummary",
    "Interrupted",
    "MachineError",
    "MergeConfig",
    "PackSummary",
    "ProgressUpdate",
    "Provenance",
    "RefusedError",
    "RunConfig",
    "Selection",
    "StageConfig",
    "StageSummary",
    "StagingError",
    "Status",
    "Summary",
    "SynthesisParameters",
    "TransferConfig",
    "TransferReport",
    "UnpackSummary",
    "aggregate_graph",
    "build",
    "collect",
    "confirm",
    "create_repository",
    "deliver",
    "execute",
    "follow",
    "ingest_graph",
    "init_run",
    "merge",
    "pack",
    "run_stage",
    "subset",
    "synthesize",
    "unpack",
]

_MODULES = {
    "aggregator.aggregation.aggregate": ("aggregate_graph",),
    "aggregator.aggregation.aggregation_summary": ("Summary",),
    "aggregator.aggregation.configuration": ("AggregatorConfig",),
    "aggregator.building.build_summary": ("BuildSummary",),
    "aggregator.building.graph_build": ("build",),
    "aggregator.butler.creation": ("create_repository",),
    "aggregator.butler.transfers.dataset_selection": ("Selection",),
    "aggregator.console.interruption": ("Cancellation", "Interrupted"),
    "aggregator.console.progress": ("ProgressUpdate",),
    "aggregator.following.followed_campaign": ("follow",),
    "aggregator.graph_ingestion.ingest": ("ingest_graph",),
    "aggregator.graph_ingestion.ingestion_summary": ("IngestionSummary",),
    "aggregator.reading.provenance": ("Provenance",),
    "aggregator.running.execution_summary": ("ExecutionSummary",),
    "aggregator.running.graph_run": ("ExecutionError", "execute", "init_run"),
    "aggregator.running.run_config": ("RunConfig",),
    "aggregator.schemas.execution.statuses": ("Status",),
    "aggregator.staging.stage_run": ("StageConfig", "StagingError", "run_stage"),
    "aggregator.staging.stage_summary": ("StageSummary",),
    "aggregator.storage.errors": (
        "AggregatorError",
        "ConflictError",
        "FatalWorkerError",
        "FormatError",
        "HeldError",
        "InUseError",
        "MachineError",
        "RefusedError",
    ),
    "aggregator.synthesis.campaign": ("Campaign", "synthesize"),
    "aggregator.synthesis.parameters": ("SynthesisParameters",),
    "aggregator.transfer.delivery": ("deliver",),
    "aggregator.transfer.packing": ("pack",),
    "aggregator.transfer.result_collection": ("collect",),
    "aggregator.transfer.job_summaries": ("PackSummary", "UnpackSummary"),
    "aggregator.transfer.result_summaries": ("CollectSummary", "DeliverSummary"),
    "aggregator.transfer.unpacking": ("unpack",),
    "aggregator.transfer.merge_config": ("MergeConfig",),
    "aggregator.transfer.repository_merge": ("merge",),
    "aggregator.transfer.manifest_confirmation": ("ConfirmReport", "confirm"),
    "aggregator.transfer.repository_subset": ("subset",),
    "aggregator.transfer.transfer_config": ("TransferConfig",),
    "aggregator.transfer.transfer_report": ("TransferReport",),
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
