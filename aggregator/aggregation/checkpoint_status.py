"""What a checkpoint holds, told without changing it."""

import contextlib
import dataclasses
import datetime
import glob
import os

import numpy as np

from aggregator.aggregation import aggregation_summary, checkpoints, judgement, shards
from aggregator.schemas import status_document
from aggregator.schemas.checkpoints import checkpoint, digest, last_run, ledger, manifest
from aggregator.schemas.graphs import container, predicted, provenance_graph
from aggregator.storage import errors, local_files, locks, uris

_NOT_BEGUN = "no run has come as far as scanning. The same command goes on"


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What a checkpoint holds."""

    directory: str
    """Where it is."""

    description: manifest.Manifest
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

    has_graph: bool
    """Whether there is something where the graph was to go."""

    def lines(self) -> list[str]:
        """Return it as text."""
        shards_done = f"{self.n_done} of {self.description.n_shards}"
        result = [
            f"Checkpoint of {self.description.predicted_graph}, run {self.description.output_run}",
            f"State: {self._state()}",
            f"Shards done: {shards_done} (up to {self.description.shard_size} quanta each)",
            f"Datasets ingested: {self.n_ingested}",
            f"Last activity: {self.last_activity:%Y-%m-%d %H:%M:%S}",
            *(f"Will be scanned again: {reason}" for reason in self.damaged),
            "",
        ]
        if self.counts is None:
            return [*result, "The graph is not there any more, or is another one: no verdicts"]
        left = self.description.n_quanta - self.counts.n_counted
        return result + self.counts.task_lines() + [f"Quanta not scanned yet: {left}"] * (left > 0)

    def document(self) -> status_document.Status:
        """Return it as programs read it."""
        last, counts = self.last_run, self.counts
        state = self._state_name()
        return status_document.Status(
            state=state,
            error=last.end if last is not None and state == "failed" else None,
            process=self.process or None,
            checkpoint=self.directory,
            run=self.description.output_run,
            predicted_graph=self.description.predicted_graph,
            provenance_graph=last.output if last is not None else None,
            quanta=self.description.n_quanta,
            quanta_scanned=None if counts is None else counts.n_counted,
            shards=self.description.n_shards,
            shards_done=self.n_done,
            statuses=None if counts is None else counts.status_counts(),
            tasks=None if counts is None else counts.task_counts(),
            datasets_ingested=self.n_ingested,
            damaged=self.damaged,
            last_activity=self.last_activity.astimezone(datetime.UTC).isoformat(timespec="milliseconds"),
        )

    def _state_name(self) -> str:
        """Return how far the last run came, in one word."""
        last = self.last_run
        if self.process:
            return "running"
        if last is None:
            return "not begun"
        if last.end != last_run.COMPLETE:
            return "failed" if last.end else "killed"
        return "dry run" if last.dry_run else "incomplete" if last.incomplete else "complete"

    def _state(self) -> str:
        """Return how far the last run came."""
        last = self.last_run
        return {
            "running": f"running, in use by {self.process}",
            "not begun": f"not in use; {_NOT_BEGUN}",
            "killed": "not in use; the last run was killed. The same command goes on",
            "failed": f"not in use; the last run did not finish: {last and last.end}",
            "dry run": "not in use; the last run was a dry run and did all it was asked for",
            "incomplete": "not in use; the last run ingested what had succeeded, for a run that goes on",
            "complete": f"complete; provenance graph: {self._graph()}",
        }[self._state_name()]

    def _graph(self) -> str:
        """Return where the last run has put the graph."""
        if self.last_run is None or self.last_run.output is None:
            return "none was asked for"
        return self.last_run.output + (", which is not there any more" if not self.has_graph else "")


@dataclasses.dataclass(frozen=True, slots=True)
class Starting:
    """A run that has not written yet what its checkpoint belongs to."""

    directory: str
    """Where the checkpoint is."""

    process: str
    """Process that works on it; empty if it has gone."""

    def lines(self) -> list[str]:
        """Return it as text."""
        if self.process:
            return [f"{self.directory}: a run is starting, in use by {self.process}"]
        return [f"{self.directory}: not in use; {_NOT_BEGUN}"]

    def document(self) -> status_document.Status:
        """Return it as programs read it."""
        state = "starting" if self.process else "not begun"
        return status_document.Status(state=state, process=self.process or None, checkpoint=self.directory)


@dataclasses.dataclass(frozen=True, slots=True)
class WithoutCheckpoint:
    """A graph that has no checkpoint beside it."""

    path: str
    """The graph."""

    run: str
    """Its run."""

    quanta: int
    """Number of its quanta."""

    n_datasets: int | None
    """Number of its datasets, of a provenance graph."""

    def lines(self) -> list[str]:
        """Return it as text."""
        if self.n_datasets is not None:
            return [
                f"Provenance graph of run {self.run}: {self.path}",
                f"State: complete; {self.quanta} quanta, {self.n_datasets} datasets",
            ]
        return [
            f"Predicted graph of run {self.run}: {self.path}",
            f"State: there is no checkpoint ({checkpoints.directory_beside(self.path)}). No aggregation has "
            "begun, or one was complete and removed it, or it is elsewhere (--checkpoint-dir, "
            "--no-checkpoint, or beside the output, if nothing could be written here): give that, or the "
            "provenance graph.",
        ]

    def document(self) -> status_document.Status:
        """Return it as programs read it."""
        is_complete, path = self.n_datasets is not None, uris.absolute(self.path)
        return status_document.Status(
            state="complete" if is_complete else "unknown",
            run=self.run,
            quanta=self.quanta,
            predicted_graph=None if is_complete else path,
            provenance_graph=path if is_complete else None,
        )


def find(path: str) -> Status | Starting | WithoutCheckpoint:
    """Return how far an aggregation is.

    Parameters
    ----------
    path
        A checkpoint; or a predicted or provenance graph, which has its checkpoint beside it.

    Raises
    ------
    RefusedError
        If nothing is known.
    """
    if not local_files.is_directory(path):
        path = uris.normal(path) if uris.is_remote(path) else container.local_path(path)
        beside = checkpoints.directory_beside(path)
        if not local_files.is_directory(beside) or not _is_of(beside, path):
            if not uris.is_remote(path) and not local_files.is_taken(path):
                raise errors.RefusedError(
                    f"{path}: is not there. A run that is complete has removed its checkpoint: give the "
                    "provenance graph."
                )
            return _read_graph(path)
        path = beside
    layout = checkpoint.Layout(path)
    process = locks.holder(layout.lock)
    if (process or local_files.exists(layout.lock)) and not local_files.exists(layout.manifest):
        return Starting(path, process)
    return read(path)


def _is_of(directory: str, graph_path: str) -> bool:
    """Return whether a checkpoint may be that of a graph: graphs on other hosts can have equal names."""
    layout = checkpoint.Layout(directory)
    if not uris.is_remote(graph_path) or not local_files.exists(layout.manifest):
        return True
    last = last_run.read(layout.last_run)
    return graph_path in (manifest.read(layout.manifest).predicted_graph, last and last.output)


def _read_graph(path: str) -> WithoutCheckpoint:
    try:
        with provenance_graph.ProvenanceGraph(path) as graph:
            header = graph.header
            return WithoutCheckpoint(path, header.output_run, header.n_quanta, header.n_datasets)
    except errors.RefusedError:
        with predicted.PredictedGraph(path) as other:
            return WithoutCheckpoint(path, other.header.output_run, other.header.n_quanta, None)


def read(directory: str) -> Status:
    """Return what a checkpoint holds.

    Raises
    ------
    RefusedError
        If there is none.
    """
    layout = checkpoint.Layout(directory)
    try:
        checkpoint.check_files(directory)
        description = manifest.read(layout.manifest)
    except (errors.FormatError, OSError) as exc:
        raise errors.RefusedError(f"{directory}: not a checkpoint, or not a complete one ({exc})") from exc
    statuses, damaged = _read_digests(layout, description)
    last = last_run.read(layout.last_run)
    return Status(
        directory=directory,
        description=description,
        n_done=len(statuses),
        damaged=damaged,
        counts=_judge(_graph_path(layout, description), description, statuses, last),
        n_ingested=sum(line.n_datasets for line in ledger.read_all(layout.ledger)),
        last_activity=datetime.datetime.fromtimestamp(_last_activity(directory)),
        process=locks.holder(layout.lock),
        last_run=last,
        has_graph=last is not None and last.output is not None and local_files.is_taken(last.output),
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
    layout: checkpoint.Layout, description: manifest.Manifest
) -> tuple[dict[int, _Columns], list[str]]:
    """Return status and task of each quantum by shard, and what can't be used."""
    columns: dict[int, _Columns] = {}
    damaged = []
    for shard in range(description.n_shards):
        path = layout.digest(shard)
        if local_files.exists(path):
            try:
                with digest.Digest(path, description.identity, shard) as opened:
                    columns[shard] = opened.column("quantum.status"), opened.column("quantum.task")
            except errors.FormatError as exc:
                damaged.append(str(exc))
    return columns, damaged


def _graph_path(layout: checkpoint.Layout, description: manifest.Manifest) -> str:
    """Return where the graph is best read from: a copy in the checkpoint, if there is one."""
    copy = layout.graph_copy(description.graph_copy) if description.graph_copy else ""
    return copy if copy and os.path.exists(copy) else description.predicted_graph


def _judge(
    graph_path: str,
    description: manifest.Manifest,
    columns: dict[int, _Columns],
    last: last_run.LastRun | None,
) -> aggregation_summary.Summary | None:
    """Return quanta by verdict, as the last run judged the shards up to the first that is missing."""
    try:
        with predicted.PredictedGraph(graph_path) as graph:
            table = graph.address_table()
            if graph.identity(table) != description.identity.graph:
                return None
            division = shards.divide(table, graph.edge_pieces(table), description.shard_size)
            tasks = tuple(task.label for task in graph.pipeline.tasks)
    except errors.AggregatorError:
        return None
    incomplete, fails = (last.incomplete, last.unreadable_fails) if last else (False, False)
    judge = judgement.Judge(division.producers, division.starts, incomplete, fails)
    result = aggregation_summary.empty(tasks)
    for shard in range(1, division.n_shards):
        if shard not in columns:
            break
        statuses, kinds = columns[shard]
        result.add(kinds, statuses, judge.judge(division.begin(shard), statuses))
    return result
