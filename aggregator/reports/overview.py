"""Makes a report, but for the quanta that it lists one by one."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.butler.dimensions import universe
from aggregator.reports import (
    blockers,
    caveat_codes,
    distributions,
    document,
    quanta,
    selection,
    timelines,
    waits,
)
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import pipeline, provenance_graph

Chosen = npt.NDArray[np.bool_]


def make(
    graph: provenance_graph.ProvenanceGraph,
    table: quanta.QuantumTable,
    blocked: blockers.Blockers,
    choice: selection.Selection,
) -> document.Report:
    """Return the report on a graph.

    Parameters
    ----------
    graph
        The graph.
    table
        All its quanta.
    blocked
        Which failures block which of them.
    choice
        Which quanta are listed.
    """
    counted = _Counter(graph, table)
    attempts = timelines.attempts(table)
    tasks = [(i, task) for i, task in enumerate(graph.pipeline.tasks) if counted.is_listed(i)]
    return document.Report(
        format=document.FORMAT,
        version=document.VERSION,
        generator=f"quantum-graph-aggregator {importlib.metadata.version('quantum-graph-aggregator')}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        graph=_describe(graph),
        selection=_select(table, choice),
        summary=_summarize(graph, table, attempts, blocked),
        tasks=[counted.task_row(i, task) for i, task in tasks],
        exceptions=[
            row for i, task in enumerate(graph.pipeline.tasks) for row in counted.exceptions(i, task)
        ],
        fix_first=[_failure_kind(graph, table, blocked, kind) for kind in blocked.kinds],
        legend=dict(caveat_codes.LEGEND),
        details=[counted.details(i, task) for i, task in tasks],
        timeline=timelines.make(attempts, [task.label for task in graph.pipeline.tasks]),
        pipeline=_edges(graph.pipeline),
    )


def _describe(graph: provenance_graph.ProvenanceGraph) -> document.Graph:
    header = graph.header
    return document.Graph(
        path=os.fsencode(graph.path).decode(errors="backslashreplace"),
        output_run=header.output_run,
        output=header.output,
        inputs=header.inputs,
        user=None if header.user is None else str(header.user),
        timestamp=None if header.timestamp is None else str(header.timestamp),
        n_datasets=header.n_datasets,
    )


def _select(table: quanta.QuantumTable, choice: selection.Selection) -> document.Selected:
    states = [name for status, name in statuses.NAMES.items() if status in choice.states]
    return document.Selected(states, caveat_codes.names(choice.caveats), len(choice.rows(table)))


def _summarize(
    graph: provenance_graph.ProvenanceGraph,
    table: quanta.QuantumTable,
    attempts: timelines.Attempts,
    blocked: blockers.Blockers,
) -> document.Summary:
    rows = table.rows
    first, last = _ends(attempts.start, attempts.end)
    return document.Summary(
        n_quanta=len(rows),
        n_expected=graph.header.n_quanta,
        statuses=_count_statuses(rows["status"]),
        n_with_caveats=int(_with_caveats(rows).sum()),
        n_retried=int((rows["n_attempts"] > 1).sum()),
        n_attempts=int(rows["n_attempts"].sum()),
        n_timed_attempts=len(attempts.start),
        start=None if first is None else timelines.iso(first),
        end=None if last is None else timelines.iso(last),
        wall_time=None if first is None or last is None else last - first,
        busy_time=float((attempts.end - attempts.start).sum()),
        cpu_time=float(np.nansum(rows["cpu_time"])),
        peak_concurrency=timelines.peak(attempts),
        peak_memory=_largest(rows["memory"]),
        cpu_efficiency=_cpu_efficiency(rows),
        n_unexplained=int(
            ((rows["status"] == statuses.BLOCKED) & (blocked.cause == blockers.NOT_COUNTED)).sum()
        ),
    )


def _failure_kind(
    graph: provenance_graph.ProvenanceGraph,
    table: quanta.QuantumTable,
    blocked: blockers.Blockers,
    kind: blockers.Kind,
) -> document.FailureKind:
    tasks = graph.pipeline.tasks
    return document.FailureKind(
        task=tasks[kind.task].label,
        status=statuses.NAMES[kind.status],
        exception=table.exception(kind.exception),
        n_quanta=kind.n_quanta,
        n_blocked=blockers.number(kind.n_blocked),
        n_blocked_alone=kind.n_alone,
        blocked={tasks[task].label: count for task, count in kind.by_task.items()},
        worst=table.failed_id(kind.worst),
        worst_n_blocked=blockers.number(blocked.n_blocked[kind.worst]),
    )


def _cpu_efficiency(rows: quanta.Rows) -> float | None:
    """Return CPU time by run time of those attempts of which both are on record."""
    rows_with_times = np.isfinite(rows["cpu_time"]) & np.isfinite(rows["run_time"])
    run_time = float(rows["run_time"][rows_with_times].sum())
    return float(rows["cpu_time"][rows_with_times].sum()) / run_time if run_time > 0 else None


def _ends(starts: timelines.Times, ends: timelines.Times) -> tuple[float | None, float | None]:
    if not len(starts):
        return None, None
    return float(starts.min()), float(ends.max())


def _largest(values: timelines.Times) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else None


def _with_caveats(rows: quanta.Rows) -> Chosen:
    chosen: Chosen = (rows["status"] == statuses.SUCCESSFUL) & (rows["caveats"] > 0)
    return chosen


def _count_statuses(codes: npt.NDArray[np.int8]) -> dict[str, int]:
    counts = np.bincount(codes.astype(np.int64) - statuses.ABORTED, minlength=len(statuses.NAMES)).tolist()
    return {name: counts[status - statuses.ABORTED] for status, name in statuses.NAMES.items()}


def _edges(described: pipeline.Pipeline) -> list[document.Edge]:
    """Return which tasks read what others write."""
    writers = {name: task.label for task in described.tasks for name in task.outputs.values()}
    edges: dict[tuple[str, str], set[str]] = {}
    for task in described.tasks:
        for name in task.inputs.values():
            if name in writers and writers[name] != task.label:
                edges.setdefault((writers[name], task.label), set()).add(name)
    return [document.Edge(source, target, sorted(names)) for (source, target), names in edges.items()]


class _Counter:
    """Numbers of each task."""

    def __init__(self, graph: provenance_graph.ProvenanceGraph, table: quanta.QuantumTable) -> None:
        self._expected = graph.header.n_task_quanta
        self._exceptions = table.exceptions
        self._waits = waits.find(table)
        self._ends = table.end
        self._universe = universe.Universe.from_config(graph.pipeline.universe)
        self._rows = table.rows
        order = np.argsort(table.rows["task"], kind="stable")
        bounds = np.searchsorted(table.rows["task"][order], np.arange(1, len(graph.pipeline.tasks)))
        self._places = np.split(order, bounds)
        self._n_expected = [self._expected.get(task.label, 0) for task in graph.pipeline.tasks]

    def _of_task(self, i: int) -> quanta.Rows:
        rows: quanta.Rows = self._rows[self._places[i]]
        return rows

    def is_listed(self, i: int) -> bool:
        """Return whether a task has quanta, or was expected to."""
        return bool(self._n_expected[i]) or bool(len(self._places[i]))

    def task_row(self, i: int, task: pipeline.Task) -> dict[str, Any]:
        """Return the row of a task in the table of quanta."""
        rows = self._of_task(i)
        counts = _count_statuses(rows["status"])
        caveats = [
            {"token": token, "code": letter, "count": str(count)}
            for bits, count in _caveats(rows)
            for token, letter in [caveat_codes.split(bits)]
        ]
        return {
            "Task": task.label,
            "Caveats": caveats or [None],
            **{statuses.TITLES[status]: counts[name] for status, name in statuses.NAMES.items()},
            "TOTAL": len(rows),
            "EXPECTED": self._n_expected[i],
        }

    def exceptions(self, i: int, task: pipeline.Task) -> list[dict[str, Any]]:
        """Return the rows of a task in the table of exceptions."""
        rows = self._of_task(i)
        rows = rows[rows["exception"] != quanta.NO_EXCEPTION]
        n = len(self._exceptions)
        successful = rows["status"] == statuses.SUCCESSFUL
        successes = np.bincount(rows["exception"][successful], minlength=n).tolist()
        failures = np.bincount(rows["exception"][~successful], minlength=n).tolist()
        return [
            {"Task": task.label, "Exception": name, "Successes": n_good, "Failures": n_bad}
            for name, n_good, n_bad in sorted(zip(self._exceptions, successes, failures, strict=True))
            if n_good or n_bad
        ]

    def details(self, i: int, task: pipeline.Task) -> document.TaskDetails:
        """Return what else is known of a task."""
        rows = self._of_task(i)
        places = self._places[i]
        ends = self._ends[places]
        has_end = np.isfinite(ends)
        first, last = _ends(rows["start"][has_end], ends[has_end])
        return document.TaskDetails(
            task=task.label,
            dimensions=list(self._universe.group(task.dimensions).required),
            statuses=_count_statuses(rows["status"]),
            n_with_caveats=int(_with_caveats(rows).sum()),
            caveats=[
                document.CaveatCount(caveat_codes.code(bits), caveat_codes.names(bits), count)
                for bits, count in _caveats(rows)
            ],
            n_retried=int((rows["n_attempts"] > 1).sum()),
            start=None if first is None else timelines.iso(first),
            end=None if last is None else timelines.iso(last),
            run_time=distributions.measure(rows["run_time"]),
            cpu_time=distributions.measure(rows["cpu_time"]),
            cpu_efficiency=_cpu_efficiency(rows),
            memory=distributions.measure(rows["memory"]),
            wait=distributions.measure(self._waits.after_inputs_or_start[places]),
            wait_after_inputs=distributions.measure(self._waits.after_inputs[places]),
        )


def _caveats(rows: quanta.Rows) -> list[tuple[int, int]]:
    """Return caveats and how many quanta have just these, most frequent first."""
    counts = np.bincount(rows["caveats"][rows["caveats"] > 0]).tolist()
    numbers = [(bits, count) for bits, count in enumerate(counts) if count]
    return sorted(numbers, key=lambda item: -item[1])
