"""How far an aggregation is, as one JSON document (docs/outputs.md)."""

import msgspec

FORMAT = "aggregator-status"
VERSION = 1
"""Raised when a field changes its meaning or goes; new fields don't count."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far an aggregation is."""

    format: str = FORMAT
    """The format."""
    version: int = VERSION
    """Its version."""
    state: str
    """`starting`, `running`; `not begun`; how the last run ended: `killed`, `failed`, `dry run`, `incomplete`
    (of a run that goes on), `complete`; or `unknown` for a predicted graph without a checkpoint."""
    error: str | None = None
    """What was wrong in the end if it has failed."""
    process: str | None = None
    """Process that works on it."""
    checkpoint: str | None = None
    """Directory of the checkpoint; null if there is none."""
    run: str | None = None
    """The run; null while a run is starting."""
    predicted_graph: str | None = None
    """The predicted graph, as far as it is known."""
    provenance_graph: str | None = None
    """Where the provenance graph is, goes, or was to go."""
    quanta: int | None = None
    """Quanta of the graph."""
    quanta_scanned: int | None = None
    """Quanta that were scanned; null if the graph is not where it was."""
    shards: int | None = None
    """Shards of the graph."""
    shards_done: int | None = None
    """Shards that were scanned."""
    statuses: dict[str, int] | None = None
    """Quanta by status as the last run judges them: those of attempts, `BLOCKED` and `HELD`."""
    tasks: dict[str, dict[str, int]] | None = None
    """The same for each task, in pipeline order."""
    datasets_ingested: int | None = None
    """Datasets that a database took in."""
    damaged: list[str] = []
    """Why some shards will be scanned again."""
    last_activity: str | None = None
    """When something was last written: ISO 8601, UTC."""
