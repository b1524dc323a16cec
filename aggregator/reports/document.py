"""A report as it is written in JSON (docs/report.md), but for the quanta that it lists one by one."""

from __future__ import annotations

from typing import Any

import msgspec

FORMAT = "aggregator-provenance-report"
VERSION = 1
"""Raised when a field changes its meaning or goes; new fields don't count."""


class Graph(msgspec.Struct, frozen=True):
    """The graph that the report is about."""

    path: str
    """Where it was read."""
    output_run: str
    """RUN collection of the outputs."""
    output: str | None
    """CHAINED output collection."""
    inputs: list[str]
    """Input collections."""
    user: str | None
    """Who built the predicted graph."""
    timestamp: str | None
    """When it was built, local time."""
    n_datasets: int
    """Number of its datasets."""


class Selected(msgspec.Struct, frozen=True):
    """Which quanta are listed one by one."""

    states: list[str]
    """Their statuses."""
    caveats: list[str]
    """Successes among them have one of these caveats, if there are any here."""
    n_quanta: int
    """How many they are."""


class Summary(msgspec.Struct, frozen=True):
    """The run in numbers; times come from the attempts that are on record with theirs."""

    n_quanta: int
    """Quanta in the graph."""
    n_expected: int
    """Quanta as its header says."""
    statuses: dict[str, int]
    """Quanta by status."""
    n_with_caveats: int
    """Successes with caveats."""
    n_retried: int
    """Quanta with more than one attempt."""
    n_attempts: int
    """Attempts."""
    n_timed_attempts: int
    """Attempts that are on record with their times."""
    start: str | None
    """When the first attempt began, ISO 8601 UTC."""
    end: str | None
    """When the last attempt ended."""
    wall_time: float | None
    """Seconds between them."""
    busy_time: float
    """Seconds of all attempts together."""
    cpu_time: float
    """CPU seconds of the last attempts' runs together."""
    cpu_efficiency: float | None
    """CPU time by run time of the last attempts; threads can make it more than 1."""
    peak_concurrency: int
    """Most attempts at the same time."""
    peak_memory: float | None
    """Most memory of an attempt, bytes."""
    n_unexplained: int
    """Blocked quanta without a failed one above them on record."""


class Histogram(msgspec.Struct, frozen=True):
    """Positive values by size, in bins of equal ratio."""

    n_zero: int
    """Values that are 0 and in no bin."""
    edges: list[float]
    """Ends of the bins, one more than counts."""
    counts: list[int]
    """Values in each bin."""


class Distribution(msgspec.Struct, frozen=True):
    """How the values of a quantity are distributed."""

    count: int
    """Number of values."""
    total: float
    """Their sum."""
    mean: float
    """Their mean."""
    min: float
    """The smallest."""
    p05: float
    """5 % are smaller."""
    p25: float
    """25 % are smaller."""
    median: float
    """Half of them are smaller."""
    p75: float
    """75 % are smaller."""
    p95: float
    """95 % are smaller."""
    max: float
    """The largest."""
    histogram: Histogram
    """All of them."""


class CaveatCount(msgspec.Struct, frozen=True):
    """Quanta of a task with the same caveats."""

    code: str
    """Short code, see the legend."""
    caveats: list[str]
    """Names of all these caveats."""
    count: int
    """Number of quanta."""


class TaskDetails(msgspec.Struct, frozen=True):
    """What else is known of a task."""

    task: str
    """Task label."""
    dimensions: list[str]
    """Required dimensions of its data IDs."""
    statuses: dict[str, int]
    """Quanta by status."""
    n_with_caveats: int
    """Successes with caveats."""
    caveats: list[CaveatCount]
    """Caveats, most frequent first; those of aborted successes, too."""
    n_retried: int
    """Quanta with more than one attempt."""
    start: str | None
    """When its first attempt began, ISO 8601 UTC."""
    end: str | None
    """When its last attempt ended."""
    run_time: Distribution | None
    """Seconds that the task ran, in the last attempts."""
    cpu_time: Distribution | None
    """CPU seconds of that."""
    cpu_efficiency: float | None
    """CPU time by run time; threads can make it more than 1."""
    memory: Distribution | None
    """Largest resident set of the process, bytes."""
    wait: Distribution | None
    """Seconds from when all inputs were there, or the run began, until the first attempt began."""
    wait_after_inputs: Distribution | None
    """The same for those quanta that read something which the run wrote."""


class FailureKind(msgspec.Struct, frozen=True):
    """Failed quanta of a task with the same status and exception, and what they block."""

    task: str
    """Task label."""
    status: str
    """Name of the status."""
    exception: str | None
    """Full name of the exception's class; nothing if none is on record."""
    n_quanta: int
    """How many failed."""
    n_blocked: int | None
    """Quanta that any of them blocks; nothing if there are too many kinds to count for each."""
    n_blocked_alone: int
    """Those among them that nothing else blocks."""
    blocked: dict[str, int]
    """Blocked quanta by task label."""
    worst: str
    """Id of the quantum that blocks most."""
    worst_n_blocked: int | None
    """How many it blocks."""


class TaskTimeline(msgspec.Struct, frozen=True):
    """A task over time, in bins of the whole timeline from the first in which it ran to the last."""

    task: str
    """Task label."""
    first_bin: int
    """Position of its first bin in the whole timeline."""
    concurrency: list[float]
    """Mean number of its attempts under way in each bin."""
    succeeded: list[int]
    """Its attempts that ended successfully in each bin."""
    failed: list[int]
    """Its other attempts that ended in each bin."""


class Timeline(msgspec.Struct, frozen=True):
    """The run over time, in bins of equal length."""

    start: str
    """Begin of the first bin, ISO 8601 UTC."""
    bin_seconds: float
    """Length of a bin."""
    concurrency: list[float]
    """Mean number of attempts under way in each bin."""
    succeeded: list[int]
    """Attempts that ended successfully in each bin."""
    failed: list[int]
    """Other attempts that ended in each bin."""
    tasks: list[TaskTimeline]
    """The same for each task that has attempts with times on record."""


class Edge(msgspec.Struct, frozen=True):
    """A task that reads what another one writes."""

    source: str
    """Task that writes."""
    target: str
    """Task that reads."""
    dataset_types: list[str]
    """What."""


class Report(msgspec.Struct, frozen=True):
    """All of a report but the quanta that are listed one by one."""

    format: str
    """`FORMAT`."""
    version: int
    """`VERSION`."""
    generator: str
    """Name and version of this program."""
    created: str
    """When the report was made, ISO 8601 UTC."""
    graph: Graph
    """What it is about."""
    selection: Selected
    """Which quanta are listed."""
    summary: Summary
    """The run in numbers."""
    tasks: list[dict[str, Any]]
    """Quanta of each task by status, with the reference's names."""
    exceptions: list[dict[str, Any]]
    """Exceptions of each task, with the reference's names."""
    fix_first: list[FailureKind]
    """Kinds of failures: first what blocks most."""
    legend: dict[str, str]
    """What the characters of caveat codes mean."""
    details: list[TaskDetails]
    """What else is known of these tasks, in the same order."""
    timeline: Timeline | None
    """The run over time; nothing if no times are on record."""
    pipeline: list[Edge]
    """How the tasks depend on each other."""
