"""The function `deliver`: what jobs have left, brought to their repository (transfer.md 9, step 7)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from aggregator import repository_files
from aggregator.butler import run_lock
from aggregator.butler.configuration import repository_config
from aggregator.butler.transfers import renaming
from aggregator.console import interruption, progress
from aggregator.execution import graph_context, ingested_quanta
from aggregator.schemas import argument_types, output_paths, pack_reader, packs
from aggregator.storage import errors, opening, uris
from aggregator.transfer import delivered_quanta, delivered_rows, payloads, result_summaries, scanned_run

INTO: Final = ("files", "registry")
"""What becomes of what is brought."""


def deliver(
    pack_paths: Sequence[str | os.PathLike[str]],
    repository: str | os.PathLike[str],
    *,
    staged: str | os.PathLike[str] | None = None,
    graph_path: str | os.PathLike[str] | None = None,
    into: str = "files",
    register_dataset_types: bool = False,
    rename: Sequence[str] = (),
    overwrite_orphans: bool = False,
    other_repository: bool = False,
    interactive_status: bool | None = None,
    log_status_interval: float | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> result_summaries.DeliverSummary:
    """Bring what jobs have left to the places where their quanta would have left it; aggregation comes after
    that.

    Of two attempts at a quantum the one that has succeeded stays, and of two failures the later one. What is
    there already is skipped, so the same can be done again.

    Parameters
    ----------
    pack_paths
        The packs, in any order.
    repository
        The repository: its directory, its configuration file, or its alias.
    staged
        Directory to which another system has brought files that are not in the packs.
    graph_path
        The predicted graph; by default where it was when the jobs were packed.
    into
        Whether what is brought is left for an aggregation ("files"), or ingested at once ("registry").
    register_dataset_types
        Whether dataset types are registered that the repository does not know.
    rename
        New names of the run, with ``into="registry"``: a regular expression for the whole name, ``=``, and
        the new name.
    overwrite_orphans
        Whether to replace outputs of quanta of which there is neither metadata nor log.
    other_repository
        Whether the repository may be another one than that which the jobs were packed from, or that at
        another place.
    interactive_status
        Whether to show progress bars; by default if the terminal is one.
    log_status_interval
        Seconds between progress messages where no bars are shown; 60 by default.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it from another thread, or from `on_progress`.
    outputs
        Files that the caller is going to write: refused if they would replace what must stay.

    Returns
    -------
    summary
        What was done.

    Raises
    ------
    RefusedError
        If a pack is of another graph or repository or damaged at its end, or the repository can't be written;
        nothing was changed.
    Interrupted
        If a signal or the cancellation asked to stop; calling again goes on.
    InUseError
        If the run is being executed, or its graph ingested.
    AggregatorError
        If files are in the way, or something can't be read or written; calling again goes on.
    """
    argument_types.check(deliver, locals())
    payloads.check_choice("into", into, INTO)
    names = renaming.Renaming(rename)
    if names and into != "registry":
        raise errors.RefusedError(
            "A run gets another name in the database only, not in the places of files: give --rename "
            "together with --into registry."
        )
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(interruption.Interruption(cancellation))
        opened = [
            stack.enter_context(pack_reader.Pack(uris.absolute(os.fspath(path)))) for path in pack_paths
        ]
        origin = _origin(opened)
        # What is wrong with the repository is not the graph's fault.
        repository_config.load(repository)
        place = origin.location if graph_path is None else os.fspath(graph_path)
        run, context = stack.enter_context(_run(place, os.fspath(repository), origin, opened[0].path))
        if not other_repository:
            _check_repository(opened, run.config)
        protection = repository_files.protection(run.config, run.graph.header.output_run)
        repository_files.check_logs(protection)
        output_paths.check_all(outputs, protection)
        for store in run.config.datastores:
            if uris.is_remote(store.root):
                store.files.check_writeable()
            else:
                # It need not have been written to yet.
                output_paths.check_writeable(store.root)
        done = result_summaries.DeliverSummary(origin.run, run.config.path, run.graph.path)
        totals = {"quanta": sum(pack.manifest.n_quanta for pack in opened)}
        shown = progress.Progress(totals, began, log_status_interval, interactive_status, on_progress, done)
        stack.enter_context(errors.explained())
        rows = None
        if into == "registry":
            run.config.check_writeable()
            rows = stack.enter_context(
                delivered_rows.DeliveredRows(context, done, register_dataset_types, names)
            )
        stack.enter_context(run_lock.held_alone(origin.run, run.config.datastores))
        # Its graph may have been ingested until it was locked; what that holds is no longer in files.
        ingested_quanta.refuse(context, is_whole=True)
        with shown, _accounted(done, shown, began):
            shown.phase("delivering")
            stage = None if staged is None else os.path.abspath(os.fspath(staged))
            with delivered_quanta.DeliveredQuanta(run, done, overwrite_orphans) as delivery:
                for pack in opened:
                    _deliver(payloads.Source(pack, stage), delivery, shown, stopping)
                    if rows is not None:
                        rows.add((row, delivery.block(row)) for row in delivery.there)
                    delivery.there.clear()
                    done.n_packs += 1
            _check_conflicts(done)
    return done


def _deliver(
    source: payloads.Source,
    delivery: delivered_quanta.DeliveredQuanta,
    shown: progress.Progress,
    stopping: interruption.Interruption,
) -> None:
    """Deliver the quanta of a pack."""
    seen: set[str] = set()
    for row in source.pack.table(packs.QUANTA, packs.PackedQuantum):
        stopping.check()
        if row.id in seen:
            # What is there decides.
            delivery.complete()
        seen.add(row.id)
        delivery.deliver(source, row)
        shown.advance("quanta", 1)
        shown.beat(lambda: source.pack.path)
    # Another pack may have the same quanta.
    delivery.complete()


def _origin(opened: Sequence[pack_reader.Pack]) -> packs.Origin:
    """Return the graph that all packs are of."""
    if not opened:
        raise errors.RefusedError("Give the packs that are to be delivered, at least one.")
    first = opened[0]
    for pack in opened:
        if pack.manifest.kind != "results":
            raise errors.RefusedError(
                f"{pack.path}: is what a job needs, not what it has left. Unpack it, execute its quanta, "
                "and collect."
            )
        if pack.manifest.origin.identity != first.manifest.origin.identity:
            raise errors.RefusedError(
                f"{pack.path}: is of another graph ({pack.manifest.origin.location}) than {first.path}. "
                "Deliver them one after the other."
            )
    return first.manifest.origin


def _check_repository(opened: Sequence[pack_reader.Pack], config: repository_config.RepositoryConfig) -> None:
    """Refuse a repository that a job was not packed from."""
    for pack in opened:
        source = pack.manifest.origin.repository
        if not _are_same(source, uris.absolute(config.path)):
            raise errors.RefusedError(
                f"{pack.path}: its job was packed from {source}, not from {config.path}. Nothing was "
                "delivered. Give that repository; or say with --other-repository that this one is meant, "
                "because it was moved, or is to get what belongs to the other."
            )


def _are_same(path: str, other: str) -> bool:
    try:
        return path == other or opening.is_same(path, other)
    except OSError:
        # One of them is not there.
        return False


@contextlib.contextmanager
def _run(
    place: str, repository: str, origin: packs.Origin, pack_path: str
) -> Iterator[tuple[scanned_run.ScannedRun, graph_context.GraphContext]]:
    """Open the run that packs are of, and make sure that it is that."""
    try:
        run = scanned_run.ScannedRun(place, repository)
    except errors.RefusedError as exc:
        if place != origin.location:
            raise
        raise errors.RefusedError(f"{exc} If the graph is elsewhere now, say so with --graph.") from exc
    with run:
        if run.graph.identity(run.table) != origin.identity:
            raise errors.RefusedError(
                f"{pack_path}: is of another graph than {run.graph.path}: that was {origin.location}, of "
                f"run {origin.run!r}. Nothing was delivered. Give the graph that the job was packed from "
                "(--graph)."
            )
        if origin.run != run.graph.header.output_run:
            # That is what is locked.
            raise errors.RefusedError(
                f"{pack_path}: says that it is of run {origin.run!r}, and {run.graph.path} is of run "
                f"{run.graph.header.output_run!r}. Nothing was delivered. Find out who has made this pack."
            )
        # What an ingested graph holds is no longer in files.
        with graph_context.GraphContext(place, repository) as context:
            ingested_quanta.refuse(context, is_whole=True)
            yield run, context


@contextlib.contextmanager
def _accounted(
    done: result_summaries.DeliverSummary, shown: progress.Progress, began: float
) -> Iterator[None]:
    """Let errors tell what was done until then."""
    try:
        yield
    except errors.AggregatorError as exc:
        exc.summary = done
        if isinstance(exc, errors.RefusedError) and (done.n_files or done.n_ingested):
            raise exc.as_failure() from exc
        raise
    finally:
        done.phases, done.elapsed = shown.seconds, time.monotonic() - began


def _check_conflicts(done: result_summaries.DeliverSummary) -> None:
    if done.missing:
        raise errors.AggregatorError(
            f"{len(done.missing)} files are neither in the packs nor where --staged says, the first is "
            f"{done.missing[0]}. All other quanta were delivered. Bring them, and run the same command "
            "again."
        )
    if done.conflicts:
        raise errors.AggregatorError(
            f"{len(done.conflicts)} files are in the way, the first is {done.conflicts[0]}: outputs of "
            "quanta of which there is neither metadata nor log. Another process may be executing these, "
            "or was killed. All other quanta were delivered. Wait for that process, or give "
            "--overwrite-orphans if there is none."
        )
