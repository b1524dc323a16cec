"""What a checkpoint holds, told without changing it."""

import dataclasses
import datetime
import glob
import os

import numpy as np

from aggregator import shards, summary, verdicts
from schemas import checkpoint, digest, errors, ledger, local_files, locks, manifest, predicted


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

    counts: summary.Summary | None
    """Quanta by task, status and verdict; nothing if the graph is not where it was."""

    n_ingested: int
    """Datasets that a database took in, according to the ledger."""

    last_activity: datetime.datetime
    """When something was last written."""

    process: str
    """Process that works on it; empty if none does."""

    def lines(self) -> list[str]:
        """Return it as text."""
        n_shards = 1 - (-self.found.n_quanta // self.found.shard_size)
        result = [
            f"Checkpoint of {self.found.predicted_graph}, run {self.found.output_run}",
            f"Shards done: {self.n_done} of {n_shards} ({self.found.shard_size} quanta each)",
            f"Datasets ingested: {self.n_ingested}",
            f"Last activity: {self.last_activity:%Y-%m-%d %H:%M:%S}",
            f"In use by {self.process}" if self.process else "Not in use",
            *(f"Will be scanned again: {reason}" for reason in self.damaged),
            "",
        ]
        if self.counts is None:
            return [*result, "The graph can't be read there any more: no verdicts"]
        return result + self.counts.task_lines()


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
    paths = glob.glob(os.path.join(glob.escape(directory), "*"))
    newest = max(os.path.getmtime(path) for path in paths)
    return Status(
        directory=directory,
        found=found,
        n_done=len(statuses),
        damaged=damaged,
        counts=_judge(found, statuses),
        n_ingested=sum(line.n_datasets for line in ledger.read_all(layout.ledger)),
        last_activity=datetime.datetime.fromtimestamp(newest),
        process=locks.holder(layout.lock),
    )


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


def _judge(found: manifest.Manifest, columns: dict[int, _Columns]) -> summary.Summary | None:
    """Return quanta by verdict, as a complete run would judge the shards up to the first that is missing."""
    try:
        with predicted.PredictedGraph(found.predicted_graph) as graph:
            table = graph.address_table()
            if graph.identity(table) != found.identity.graph:
                return None
            division = shards.divide(table, graph.edges(table), found.shard_size)
            tasks = tuple(task.label for task in graph.pipeline.tasks)
    except errors.AggregatorError:
        return None
    judge = verdicts.Judge(division.edges, len(division.ids), incomplete=False)
    result = summary.empty(tasks)
    for shard in range(1, division.n_shards):
        if shard not in columns:
            break
        statuses, kinds = columns[shard]
        result.add(kinds, statuses, judge.judge(division.begin(shard), statuses))
    return result
