"""The function `collect`: what the quanta of a job have left, in one file (transfer.md section 9, step 5)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from aggregator import repository_files
from aggregator.butler import run_lock
from aggregator.console import interruption, progress
from aggregator.schemas import (
    argument_types,
    output_kinds,
    output_paths,
    pack_writer,
    packs,
    transfer_manifest,
)
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import predicted
from aggregator.storage import errors
from aggregator.transfer import (
    earlier_pack,
    node_job,
    node_layout,
    payloads,
    result_summaries,
    scanned_run,
)
from aggregator.workers.roles.scanning import outcome, quantum_reader

FAILED: Final = ("logs", "all", "none")
"""What can be packed of quanta that have failed."""

_SUCCESSES: Final = (statuses.SUCCESSFUL, statuses.ABORTED_SUCCESS)


def collect(
    directory: str | os.PathLike[str],
    pack_path: str | os.PathLike[str],
    *,
    failed: str = "logs",
    payload: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    interactive_status: bool | None = None,
    log_status_interval: float | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> result_summaries.CollectSummary:
    """Put all that the quanta of a job have left into one file; nothing that came with the job is in it.

    Parameters
    ----------
    directory
        The repository of the node, as `unpack` has made it.
    pack_path
        Where the pack goes; an earlier one is replaced, unless it holds results that this one has not.
    failed
        What of quanta that have failed is in the pack: their logs, all that they have written, or nothing.
    payload
        Whether files are in the pack ("files", the default without a manifest), or are brought by another
        system ("none").
    manifest
        Where a list of the files goes, for that system.
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
        What is in the pack.

    Raises
    ------
    RefusedError
        If the directory is none of a job, or the pack can't be written there.
    Interrupted
        If a signal or the cancellation asked to stop; nothing is left behind.
    InUseError
        If the run is being executed.
    HeldError
        If quanta have files that can't be used; the others are in the pack.
    AggregatorError
        If something can't be read or written.
    """
    argument_types.check(collect, locals())
    payloads.check_choice("failed", failed, FAILED)
    listing, where = payloads.manifest_output(manifest, payload)
    began = time.monotonic()
    root, path = payloads.local(directory, "a node"), payloads.local(pack_path, "a pack")
    job = node_job.read(root)
    with (
        interruption.Interruption(cancellation) as stopping,
        scanned_run.ScannedRun(os.path.join(root, node_layout.GRAPH), root) as run,
        errors.explained(),
    ):
        if job.origin.run != run.graph.header.output_run:
            raise errors.RefusedError(
                f"{root}: its job is said to be of run {job.origin.run!r}, and its graph is of run "
                f"{run.graph.header.output_run!r}. Find out who has made its pack."
            )
        protection = _protection(run, root)
        payloads.check_pack(path, protection)
        output_paths.check_all([*outputs, *([listing] if listing else [])], protection)
        done = result_summaries.CollectSummary(job.origin.run, root, path)
        shown = progress.Progress(
            {"quanta": len(run.table.ids)}, began, log_status_interval, interactive_status, on_progress, done
        )
        with shown, run_lock.held_alone(job.origin.run, run.config.datastores):
            shown.phase("collecting")
            rows: list[packs.PackedQuantum] = []

            def look() -> None:
                output_paths.check_again(path, output_kinds.Kind.PACK, protection)
                earlier_pack.check_results(path, job.origin, rows)

            with pack_writer.Writer(path, look) as out:
                collection = _Collection(run, job, out, failed, where, done)
                rows += [*collection.init_rows(), *collection.rows(shown, stopping)]
                earlier_pack.check_results(path, job.origin, rows)
                out.add_table(packs.QUANTA, rows)
                if listing is not None:
                    payloads.write_manifest(listing, run.config.path, collection.listed)
                out.finish(_manifest(job, len(rows), where))
        done.pack_size = os.path.getsize(path)
        done.phases, done.elapsed = shown.seconds, time.monotonic() - began
    _check_held(done)
    return done


def _protection(run: scanned_run.ScannedRun, root: str) -> output_paths.Protection:
    protection = repository_files.protection(run.config, run.graph.header.output_run)
    repository_files.check_logs(protection)
    files = {
        os.path.join(root, node_layout.GRAPH): "the graph of the job",
        os.path.join(root, node_layout.JOB): "what tells of the job",
    }
    return output_paths.Protection({**protection.files, **files}, protection.directories, protection.roots)


def _manifest(job: node_job.Job, n_quanta: int, payload: str) -> packs.Manifest:
    return packs.Manifest(
        kind="results",
        origin=job.origin,
        made_by=payloads.program(),
        created=payloads.now(),
        n_quanta=n_quanta,
        payload=payload,
    )


def _check_held(done: result_summaries.CollectSummary) -> None:
    if not done.held:
        return
    error = errors.HeldError(
        f"{done.directory}: {len(done.held)} quanta have files that can't be used, and are not in the "
        "pack. It has all others. Repair the files, or execute these quanta again, and run the same "
        "command again."
    )
    error.summary = done
    raise error


class _UnusableOutputsError(Exception):
    """Outputs of a quantum are not what its metadata say; the message is for people."""


class _Collection:
    """Adds what quanta have left to a pack.

    Parameters
    ----------
    run
        The run on the node.
    job
        The job.
    out
        The pack.
    failed
        What to take of failed quanta.
    payload
        Whether files are in the pack.
    done
        What was done.
    """

    def __init__(
        self,
        run: scanned_run.ScannedRun,
        job: node_job.Job,
        out: pack_writer.Writer,
        failed: str,
        payload: str,
        done: result_summaries.CollectSummary,
    ) -> None:
        self._run = run
        self._job = job
        self._out = out
        self._failed = failed
        self._payload = payload
        self.listed: list[transfer_manifest.Entry] = []
        """What a manifest tells of the files."""
        self._done = done

    def init_rows(self) -> Iterator[packs.PackedQuantum]:
        """Yield init quanta whose outputs are not those that the pack has brought."""
        for quantum in self._run.graph.init_quanta():
            files: list[packs.OutputFile] = []
            for dataset in scanned_run.outputs(quantum):
                places = self._present(dataset)
                if any(self._is_new(dataset, place) for place in places):
                    files += self._add(dataset, places)
            self._done.n_init_files += len(files)
            if files:
                yield packs.PackedQuantum(quantum.quantum_id, packs.INIT, tuple(files))

    def _is_new(self, dataset: predicted.Dataset, place: scanned_run.OutputPlace) -> bool:
        name = packs.flat_name(dataset.dataset_id, place.component, place.key)
        brought = self._job.init_files.get(name)
        return brought is None or payloads.checksum(payloads.pieces(place.store, place.key)) != brought

    def rows(
        self, shown: progress.Progress, stopping: interruption.Interruption
    ) -> Iterator[packs.PackedQuantum]:
        """Yield what became of each quantum, after its files were added."""
        for reading in self._run.readings():
            stopping.check()
            try:
                row = self._row(reading)
            except _UnusableOutputsError as exc:
                self._done.held.append(f"{reading.quantum.quantum_id}: {exc}")
            else:
                name = statuses.NAMES[row.status] if row.status != packs.NOT_ATTEMPTED else "NOT_ATTEMPTED"
                self._done.statuses[name] = self._done.statuses.get(name, 0) + 1
                yield row
            shown.advance("quanta", 1)
            shown.beat(lambda: f"{self._out.size / 1e6:.0f} MB")

    def _row(self, reading: quantum_reader.Reading) -> packs.PackedQuantum:
        quantum = reading.quantum
        if reading.problem is not None:
            raise _UnusableOutputsError(f"{reading.problem.path}: {reading.problem.reason}")
        special = [each.dataset_id for each in outcome.special_outputs(quantum)]
        if reading.produced.isdisjoint(special):
            return packs.PackedQuantum(quantum.quantum_id, packs.NOT_ATTEMPTED, ())
        wanted = reading.produced
        if reading.status not in _SUCCESSES and self._failed != "all":
            wanted = wanted & set(special) if self._failed == "logs" else set()
        # Who is told of a success may rely on everything before it.
        datasets = [each for each in scanned_run.in_order(quantum) if each.dataset_id in wanted]
        present = [(each, self._present(each)) for each in datasets]
        if lost := [each for each, places in present if not places]:
            raise _UnusableOutputsError(
                f"output {lost[0].dataset_id} ({lost[0].dataset_type_name}) is listed in its metadata, and "
                "missing"
            )
        files = [file for each, places in present for file in self._add(each, places)]
        return packs.PackedQuantum(quantum.quantum_id, reading.status, tuple(files))

    def _present(self, dataset: predicted.Dataset) -> list[scanned_run.OutputPlace]:
        """Return the files of a dataset in the first datastore that has all of them; none if none has."""
        for places in self._run.places(dataset):
            if all(place.store.is_there(place.key) for place in places):
                return places
        return []

    def _add(
        self, dataset: predicted.Dataset, places: Sequence[scanned_run.OutputPlace]
    ) -> Iterator[packs.OutputFile]:
        for place in places:
            name = packs.flat_name(dataset.dataset_id, place.component, place.key)
            content = payloads.pieces(place.store, place.key)
            is_packed = self._payload == "files"
            member = self._out.add_file(name, content) if is_packed else packs.member(content)
            self.listed.append(
                transfer_manifest.Entry(
                    ids=(dataset.dataset_id.replace("-", ""),), run=dataset.run, origin=place.location,
                    target="", path=name, size=member.size, checksum=member.checksum,
                    datastore=place.datastore, formatter=place.formatter, storage_class=place.storage_class,
                    component=place.component,
                )
            )  # fmt: skip
            self._done.n_files += 1
            self._done.n_bytes += member.size
            yield packs.OutputFile(
                name, dataset.dataset_id, place.component, place.formatter, member.size, member.checksum
            )
