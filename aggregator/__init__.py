"""Aggregation of executed quantum graphs: ingests their outputs and writes their provenance graph."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aggregator.aggregation.aggregate import aggregate_graph
    from aggregator.aggregation.configuration import AggregatorConfig
    from aggregator.graph_ingestion.ingest import ingest_graph
    from aggregator.reading.provenance import Provenance
    from aggregator.storage.errors import (
        AggregatorError,
        FatalWorkerError,
        FormatError,
        InUseError,
        RefusedError,
    )

_PLACES = {
    "AggregatorConfig": "aggregator.aggregation.configuration",
    "AggregatorError": "aggregator.storage.errors",
    "FatalWorkerError": "aggregator.storage.errors",
    "FormatError": "aggregator.storage.errors",
    "InUseError": "aggregator.storage.errors",
    "Provenance": "aggregator.reading.provenance",
    "RefusedError": "aggregator.storage.errors",
    "aggregate_graph": "aggregator.aggregation.aggregate",
    "ingest_graph": "aggregator.graph_ingestion.ingest",
}

__all__ = [
    "AggregatorConfig",
    "AggregatorError",
    "FatalWorkerError",
    "FormatError",
    "InUseError",
    "Provenance",
    "RefusedError",
    "aggregate_graph",
    "ingest_graph",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for; `aggregator --help` should not have to import everything."""
    if name not in _PLACES:
        raise AttributeError(f"module 'aggregator' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
