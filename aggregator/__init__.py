"""Aggregation of executed quantum graphs: ingests their outputs and writes their provenance graph."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aggregator.aggregation import aggregate_graph
    from aggregator.configuration import AggregatorConfig
    from aggregator.graph_ingestion.ingestion import ingest_graph
    from aggregator.reading.provenance import Provenance
    from schemas.errors import AggregatorError, FatalWorkerError, FormatError, InUseError, RefusedError

_PLACES = {
    "AggregatorConfig": "aggregator.configuration",
    "AggregatorError": "schemas.errors",
    "FatalWorkerError": "schemas.errors",
    "FormatError": "schemas.errors",
    "InUseError": "schemas.errors",
    "Provenance": "aggregator.reading.provenance",
    "RefusedError": "schemas.errors",
    "aggregate_graph": "aggregator.aggregation",
    "ingest_graph": "aggregator.graph_ingestion.ingestion",
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
