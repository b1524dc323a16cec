"""What a checkpoint holds, told without changing it."""

import contextlib
import dataclasses
import datetime
import glob
import os

import numpy as np

from aggregator.aggregation import aggregation_summary, checkpoints, judgement, shards
from aggregator.schemas.checkpoints import checkpoint, digest, last_run, ledger, manifest
from aggregator.schemas.graphs import container, predicted, provenance_graph
from aggregator.storage import errors, local_files, locks


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What a checkpoint holds."""

    directory: str
    """Where it is."""

    found: manifest.Manifest
    """What it belongs to."""

    n_done: int
    """Shards that have a digest."""

    damaged: list[str]
    """Why some digests can't be used."""

    counts: aggregation_summary.Summary | None
    """Quanta by task, status and verdict; nothing if the graph is not where it was."""

    n_ingested: int
    """Datasets that a database took in, according to the ledger."""

    last_activity: datetime.datetime
    """When something was last written."""

    process: str
    """Process that works on it; empty if none does."""

    last_run: last_run.LastRun | None
    """How it was used last; nothing if no run has come as far as scanning."""

    def lines(self) -> list[str]:
        """Return it as text."""
        n_shards = 1 - (-self.found.n_quanta // self.found.shard_size)
        result = [
            f"Checkpoint of {self.found.predicted_graph}, run {self.found.output_run}",
            f"State: {self._state()}",
            f"Shards done: {self.n_done} of {n_shards} ({self.found.shard_size} quanta each)",
            f"Datasets ingested: {self.n_ingested}",
            f"Last activity: {self.last_activity:%Y-%m-%d %H:%M:%S}",
            *(f"Will be scanned again: {reason}" for reason in self.damaged),
            "",
        ]
        if self.counts is None:
            return [*result, "The graph is not there any more, or is another one: no verdicts"]
        left = self.found.n_quanta - self.counts.n_counted
        return result + self.counts.task_lines() + [f"Quanta not scanned yet: {left}"] * (left > 0)

    def _state(self) -> str:
        """Return how far the last run came."""
        last = self.last_run
        if self.process:
            return f"running, in use by {self.process}"
        if last is None:
            return "not in use; no run has come as far as scanning. The same command goes on"
        if not last.end:
            return "not in use; the last run was killed. The same command goes on"
        if last.end != last_run.COMPLETE:
            return f"not in use; the last run did not finish: {last.end}"
        if last.dry_run:
            return "not in use; the last run was a dry run and did all it was asked for"
        if last.incomplete:
            return "not in use; the last run ingested what had succeeded, for a run that goes on"
        return f"complete; provenance graph: {last.output or 'none was asked for'}"


def describe(path: str) -> list[str]:
    """Return how far an aggregation is, as text.

    Parameters
    ----------
    path
        A checkpoint; or a predicted or provenance graph, which has its checkpoint beside it.

    Raises
    ------
    RefusedError
        If nothing is known.
    """
    if not os.path.isdir(path):
        path = container.local_path(path)
        beside = checkpoints.directory_beside(path)
        if not os.path.isdir(beside):
            return _describe_graph(path, beside)
        path = beside
    layout = checkpoint.Layout(path)
    process = locks.holder(layout.lock)
    if process and not local_files.exists(layout.manifest):
        return [f"{path}: a run is starting, in use by {process}"]
    return read(path).lines()


def _describe_graph(path: str, beside: str) -> list[str]:
    """Return what a graph tells that has no checkpoint beside it."""
    try:
        with provenance_graph.ProvenanceGraph(path) as graph:
            return [
                f"Provenance graph of run {graph.header.output_run}: {path}",
                f"State: complete; {graph.header.n_quanta} quanta, {graph.header.n_datasets} datasets",
            ]
    except errors.RefusedError:
        with predicted.PredictedGraph(path) as other:
            run = other.header.output_run
    return [
        f"Predicted graph of run {run}: {path}",
        f"State: there is no checkpoint ({beside}). No aggregation has begun, or one was complete and "
        "removed it, or it is elsewhere (--checkpoint-dir, --no-checkpoint, or beside the output, if "
        "nothing could be written here): give that, or the provenance graph.",
    ]


def read(directory: str) -> Status:
    """Return what a checkpoint holds.

    Raises
    ------
    RefusedError
        If there is none.
    """
    layout = checkpoint.Layout(directory)
    try:
        found = manifest.read(layout.manifest)
    except errors.FormatError as exc:
        raise errors.RefusedError(f"{directory}: not a checkpoint, or not a complete one ({exc})") from exc
    statuses, damaged = _read_digests(layout, found)
    last = last_run.read(layout.last_run)
    return Status(
        directory=directory,
        found=found,
        n_done=len(statuses),
        damaged=damaged,
        counts=_judge(found, statuses, last),
        n_ingested=sum(line.n_datasets for line in ledger.read_all(layout.ledger)),
        last_activity=datetime.datetime.fromtimestamp(_last_activity(directory)),
        process=locks.holder(layout.lock),
        last_run=last,
    )


def _last_activity(directory: str) -> float:
    """Return when something was last written; a run may remove everything meanwhile."""
    newest = 0.0
    for path in [directory, *glob.glob(os.path.join(glob.escape(directory), "*"))]:
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, os.path.getmtime(path))
    if not newest:
        raise errors.RefusedError(f"{directory}: was just removed, as at the end of a complete run.")
    return newest


_Columns = tuple[np.ndarray, np.ndarray]


def _read_digests(
    layout: checkpoint.Layout, found: manifest.Manifest
) -> tuple[dict[int, _Columns], list[str]]:
    """Return status and task of each quantum by shard, and what can't be used."""
    columns: dict[int, _Columns] = {}
    damaged = []
    for shard in range(1 - (-found.n_quanta // found.shard_size)):
        path = layout.digest(shard)
        if local_files.exists(path):
            try:
                with digest.Digest(path, found.identity, shard) as opened:
                    columns[shard] = opened.column("quantum.status"), opened.column("quantum.task")
            except errors.FormatError as exc:
                damaged.append(str(exc))
    return columns, damaged


def _judge(
    found: manifest.Manifest, columns: dict[int, _Columns], last: last_run.LastRun | None
) -> aggregation_summary.Summary | None:
    """Return quanta by verdict, as the last run judged the shards up to the first that is missing."""
    try:
        with predicted.PredictedGraph(found.predicted_graph) as graph:
            table = graph.address_table()
            if graph.identity(table) != found.identity.graph:
                return None
            division = shards.divide(table, graph.edges(table), found.shard_size)
            tasks = tuple(task.label for task in graph.pipeline.tasks)
    except errors.AggregatorError:
        return None
    incomplete, fails = (last.incomplete, last.unreadable_fails) if last else (False, False)
    judge = judgement.Judge(division.edges, len(division.ids), incomplete, fails)
    result = aggregation_summary.empty(tasks)
    for shard in range(1, division.n_shards):
        if shard not in columns:
            break
        statuses, kinds = columns[shard]
        result.add(kinds, statuses, judge.judge(division.begin(shard), statuses))
    return result
