"""Aggregation of executed quantum graphs: ingests their outputs and writes their provenance graph."""

from aggregator.aggregation import aggregate_graph
from aggregator.configuration import AggregatorConfig
from schemas.errors import AggregatorError, FatalWorkerError, FormatError, RefusedError

__all__ = [
    "AggregatorConfig",
    "AggregatorError",
    "FatalWorkerError",
    "FormatError",
    "RefusedError",
    "aggregate_graph",
]
