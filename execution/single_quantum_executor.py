"""Executes one quantum: looks at what is there, runs the task, and leaves metadata and log.

What is left behind is that of the Rubin middleware (execution-files.md), so that either can go on where the
other has stopped.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from aggregator.butler import artifacts, quantum_backed_butler
from aggregator.butler import quantum as quantum_module
from aggregator.execution import (
    attempt_logs,
    foreign_metadata,
    leftover_files,
    log_capture,
    metadata_documents,
    quantum_attempts,
    quantum_context,
    stage_usage,
    surroundings,
    task_errors,
    tasks,
)
from aggregator.schemas.execution import caveats, log_records, log_writer, task_metadata
from aggregator.storage import durable_files, errors, locks

_log = logging.getLogger(__name__)

_N_BEFORE: Final = 10
"""Quanta before it in its process that a log tells of, at most; their logs tell of those before them.

With all of them, what the logs of a run take would grow with the square of its quanta.
"""


class ExistingOutputsError(errors.AggregatorError, RuntimeError):
    """Outputs of the quantum are there already, and were to be neither kept nor replaced."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How quanta are executed."""

    skip_existing: bool = True
    """Whether a quantum that has succeeded before is left as it is."""

    clobber_outputs: bool = True
    """Whether other outputs that are there are replaced."""

    assume_no_existing_outputs: bool = False
    """Whether not to look; what earlier attempts have left is lost."""

    raise_on_partial_outputs: bool = True
    """Whether a quantum fails that could not write all outputs."""

    resources: quantum_context.Resources = dataclasses.field(default_factory=quantum_context.Resources)
    """What each quantum may use."""

    provenance_directory: str | None = None
    """Directory for a file on what each quantum has read and written, in the form of the
    middleware's."""

    job_metadata: Mapping[str, int | str | float] = dataclasses.field(default_factory=dict)
    """What the metadata of each quantum tell of the job."""


class SingleQuantumExecutor:
    """Executes quanta one after the other, in this process.

    `execute` calls the public methods below it in the order in which they are written; all may be overridden.

    Parameters
    ----------
    files
        Files of datasets.
    options
        How quanta are executed.
    dataset_types
        Storage classes in the repository by name of the dataset type.
    spool
        Where records of the log are written as they come.
    ownerships
        What tells that the directories of the run are where they were: if a file system is gone, that is no
        failure of a quantum, and nothing is to be put in its place.
    """

    def __init__(
        self,
        files: artifacts.Artifacts,
        options: Options,
        *,
        dataset_types: Mapping[str, str] | None = None,
        spool: attempt_logs.Spool | None = None,
        ownerships: Sequence[locks.Ownership] = (),
    ) -> None:
        self.options = options
        self._files = files
        self._logs = attempt_logs.LogFiles(files)
        self._dataset_types = dataset_types
        self._spool = spool
        self._ownerships = ownerships
        self._knows_graph = False
        self._leftovers = leftover_files.LeftoverFiles()
        self._ids: collections.deque[str] = collections.deque(maxlen=_N_BEFORE)

    def execute(self, task: tasks.TaskMaker, quantum: quantum_module.Quantum) -> quantum_attempts.Result:
        """Execute a quantum.

        Parameters
        ----------
        task
            Its task.
        quantum
            The quantum.

        Raises
        ------
        BaseException
            Whatever the task raises, after the log was written.
        AggregatorError
            If that can't be written, or the machine is in trouble.
        """
        result = self.attempt(task, quantum)
        if result.failure is not None:
            raise result.failure
        return result

    def attempt(self, task: tasks.TaskMaker, quantum: quantum_module.Quantum) -> quantum_attempts.Result:
        """Execute a quantum as `execute` does; return a failure that is on record, and raise any other."""
        with (
            quantum_backed_butler.QuantumBackedButler.initialize(
                self._files, quantum, dataset_types=self._dataset_types
            ) as butler,
            self.setup_logging(quantum) as capture,
        ):
            attempt = quantum_attempts.Attempt(task, quantum, butler, capture)
            # Whatever is there, once what is old is removed, another process has written at the same time.
            butler.replaces = self.options.assume_no_existing_outputs
            stage_usage.note(attempt.section, stage_usage.PREPARATION)
            _log.info("Preparing execution of quantum for label=%s dataId=%s.", *_about(attempt))
            self._check_place()
            if self.check_existing(attempt):
                return quantum_attempts.Result(
                    quantum_attempts.Fate.EXISTING, quantum, lacks_log=attempt.lacks_log
                )
            attempt.ids_before = list(self._ids)
            self._ids.append(str(quantum.id))
            try:
                self._run(attempt)
            except BaseException as exc:
                attempt.failure = exc
                _log.error("Execution of task %r on quantum %s failed. %s", *_about(attempt), _line(exc))
            finally:
                self._check_place()
                if not self._is_overtaken(attempt):
                    self.write_log(attempt)
                self.save_provenance(attempt)
            return self._give_way(attempt) if self._is_overtaken(attempt) else _result(attempt)

    def _check_place(self) -> None:
        """Raise an error if the run is not where it was when it was locked."""
        for ownership in self._ownerships:
            locks.check(ownership)

    def _is_overtaken(self, attempt: quantum_attempts.Attempt) -> bool:
        """Return whether another process executes the quantum, too, and has come first."""
        has_failed = attempt.failure is not None and not self.options.assume_no_existing_outputs
        return bool(attempt.butler.taken) or (has_failed and attempt.butler.stored(attempt.metadata_ref))

    def _give_way(self, attempt: quantum_attempts.Attempt) -> quantum_attempts.Result:
        """Leave a quantum to another process: what is there is complete, whosever it is."""
        if attempt.butler.stored(attempt.metadata_ref):
            return quantum_attempts.Result(quantum_attempts.Fate.EXISTING, attempt.quantum)
        failure = errors.InUseError(
            f"Quantum {attempt.quantum.id}: another process executes it, too, and has written "
            f"{attempt.butler.taken[0]}. Nothing is put on record here: run the same command again when that "
            "one has ended."
        )
        return quantum_attempts.Result(quantum_attempts.Fate.FAILED, attempt.quantum, failure=failure)

    def _run(self, attempt: quantum_attempts.Attempt) -> None:
        """Do all that can fail and be told in the log."""
        began = time.monotonic()
        try:
            self.update_inputs(attempt)
            if attempt.has_work:
                stage_usage.note(attempt.section, stage_usage.INITIALISATION)
                _log.info("Constructing task and executing quantum for %s %s.", *_about(attempt))
                self.make_task(attempt)
                stage_usage.note(attempt.section, stage_usage.RUN)
                self.run_task(attempt)
        finally:
            stage_usage.note(attempt.section, stage_usage.END)
            attempt.section["arrays"]["outputs"] = [str(each) for each in attempt.ids_put]
        took = time.monotonic() - began
        _log.info("Execution of task %r on quantum %s took %.3f seconds", *_about(attempt), took)
        # What was put in another place is no success.
        self._check_place()
        self.write_metadata(attempt)

    @contextlib.contextmanager
    def setup_logging(self, quantum: quantum_module.Quantum) -> Iterator[log_capture.Capture]:
        """Keep what is logged from now on."""
        run = next((refs[0].run for refs in quantum.outputs.values() if refs), "")
        labels = {"LABEL": f"{quantum.task_label}:{quantum.dataId}", "RUN": run}
        stream = None if self._spool is None else self._spool.begin(quantum.id)
        with log_capture.capturing(labels, stream) as capture:
            yield capture

    def check_existing(self, attempt: quantum_attempts.Attempt) -> bool:
        """Look at outputs that are there already; return whether they are all that is needed.

        The log of an earlier attempt stays until that of this one takes its place: no story is lost.

        Raises
        ------
        ExistingOutputsError
            If they are not to be replaced.
        RefusedError
            If they are of a quantum of another graph.
        """
        if self.options.assume_no_existing_outputs:
            return False
        there = attempt.butler.stored_many(attempt.quantum.predicted_outputs())
        log_ref = attempt.log_ref
        if self.options.skip_existing and there[attempt.metadata_ref]:
            # A run has one graph: if the first is its own, so are the others.
            self._knows_graph = self._knows_graph or foreign_metadata.check(self._files, attempt.quantum)
            # A retry that ended between its metadata and its log has left that of the failure before.
            attempt.lacks_log = log_ref is not None and (
                not there[log_ref] or self._logs.tells_of_failure(log_ref)
            )
            return True
        self.remove_leftovers(attempt.quantum)
        attempt.has_earlier_log = log_ref is not None and there[log_ref]
        existing = [ref for ref, is_there in there.items() if is_there]
        if existing and not self.options.clobber_outputs:
            how_many = "All" if len(existing) == len(there) else "Some"
            raise ExistingOutputsError(
                f"{how_many} outputs of quantum {attempt.quantum.id} ({attempt.quantum.task_label} "
                f"{attempt.quantum.dataId}) exist already, for instance {existing[0]}."
            )
        if existing:
            _log.info("Removing what an earlier attempt has left: %s", ", ".join(map(str, existing)))
        attempt.butler.remove_parts(ref for ref, is_there in there.items() if not is_there)
        # Metadata first: what is left after an interruption must not look like a success.
        old = sorted((ref for ref in existing if ref != log_ref), key=lambda ref: ref != attempt.metadata_ref)
        for ref in old:
            attempt.butler.pruneDatasets([ref], purge=True, unstore=True)
        if old and attempt.butler.stored(attempt.metadata_ref):
            # Of another process, which has ended meanwhile; what was removed just now may be its.
            attempt.butler.pruneDatasets([attempt.metadata_ref], purge=True, unstore=True)
        if existing:
            _log.info("Removed %d datasets; the log stays until that of this attempt is written", len(old))
        return False

    def update_inputs(self, attempt: quantum_attempts.Attempt) -> None:
        """Find out which inputs are there; let the task adjust the quantum if some are not."""
        trusted = {row.dataset_id for rows in attempt.quantum.datastore_records.values() for row in rows}
        refs = {ref for each in attempt.inputs.values() for ref in each if ref.id not in trusted}
        missing = {ref for ref, is_there in attempt.butler.stored_many(refs).items() if not is_there}
        if not missing:
            return
        for ref in sorted(missing, key=str):
            _log.info("No dataset artifact found for %s", ref)
        left = {name: [r for r in refs if r not in missing] for name, refs in attempt.inputs.items()}
        try:
            with surroundings.kept():
                attempt.inputs, attempt.outputs = attempt.task.adjust(
                    left, attempt.outputs, attempt.quantum.dataId
                )
        except BaseException as exc:
            flags = task_errors.no_work_caveats(exc)
            if flags is None:
                raise
            _log.info("There is nothing to do: %s", task_errors.message(exc))
            attempt.inputs, attempt.has_work = left, False
            attempt.caveats = flags | caveats.ADJUST_QUANTUM_RAISED
            attempt.caveats |= caveats.ALL_OUTPUTS_MISSING | caveats.ANY_OUTPUTS_MISSING

    def make_task(self, attempt: quantum_attempts.Attempt) -> None:
        """Make the task, with the inputs of its initialisation."""
        init_inputs = {
            name: attempt.butler.get(refs[0]) for name, refs in attempt.quantum.init_inputs.items()
        }
        with surroundings.kept():
            attempt.instance = attempt.task.make(init_inputs)

    def run_task(self, attempt: quantum_attempts.Attempt) -> None:
        """Run the task, and note what there is to say of it."""
        quantum = dataclasses.replace(
            attempt.quantum, inputs=_tuples(attempt.inputs), outputs=_tuples(attempt.outputs)
        )
        context = quantum_context.QuantumContext(attempt.butler, quantum, self.options.resources)
        assert attempt.instance is not None
        inputs = attempt.task.connect_inputs(attempt.inputs)
        outputs = attempt.task.connect_outputs(attempt.outputs)
        attempt.ids_put = context.ids_put
        with attempt.butler.record_metrics() as metrics:
            try:
                with surroundings.kept():
                    attempt.instance.run(context, inputs, outputs)
            except BaseException as exc:
                attempt.caveats |= self._accept(attempt, exc)
        expected = {ref.id for ref in quantum_context.puttable(attempt.outputs)}
        if not context.ids_put:
            attempt.caveats |= caveats.ALL_OUTPUTS_MISSING
        if set(context.ids_put) != expected:
            attempt.caveats |= caveats.ANY_OUTPUTS_MISSING
        counts = {**dataclasses.asdict(metrics), "n_ingest": 0, "time_in_ingest": 0.0}
        attempt.section["metadata"]["butler_metrics"] = {"scalars": counts, "arrays": {}, "metadata": {}}

    def _accept(self, attempt: quantum_attempts.Attempt, exc: BaseException) -> int:
        """Return the caveats of a success that ended with an exception; raise it, or its cause, otherwise."""
        flags = task_errors.no_work_caveats(exc)
        if flags is not None:
            _log.info("There is nothing to do: %s", task_errors.message(exc))
            return flags
        if not task_errors.is_partial(exc):
            raise exc
        cause = exc.__cause__ or exc
        if self.options.raise_on_partial_outputs:
            raise cause
        _log.error("Outputs are partial. This is taken for a success. %s", _line(cause), exc_info=cause)
        attempt.partial = cause
        return caveats.PARTIAL_OUTPUTS_ERROR

    def write_metadata(self, attempt: quantum_attempts.Attempt) -> None:
        """Write the metadata, which make the quantum a success.

        Raises
        ------
        ValueError
            If the task has noted what no metadata can hold.
        """
        attempt.section["scalars"]["caveats"] = attempt.caveats
        document = metadata_documents.document(attempt, self.options.job_metadata)
        task_metadata.convert(document)
        attempt.butler.put(document, attempt.metadata_ref)

    def write_log(self, attempt: quantum_attempts.Attempt) -> None:
        """Write the log, whatever became of the quantum."""
        if (ref := attempt.log_ref) is None:
            return
        extra = log_records.Extra(previous_process_quanta=attempt.ids_before)
        if attempt.failure is not None:
            extra.exception = task_errors.information(attempt.failure)
            document = metadata_documents.of_failure(attempt, self.options.job_metadata)
            extra.metadata = msgspec.Raw(log_writer.dump(document))
        earlier: Sequence[log_records.Extra] = ()
        # As it is now: another process may have failed at the same quantum meanwhile.
        if attempt.has_earlier_log and (log := self._logs.find(ref)) is not None:
            earlier, attempt.butler.replaces = log.earlier, True
        try:
            attempt.butler.put(log_writer.log_file(attempt.capture.records, extra, earlier), ref)
        except artifacts.TakenError:
            if attempt.has_earlier_log:
                raise
            attempt.has_earlier_log = True
            attempt.butler.taken.clear()
            if not self._is_overtaken(attempt):
                self.write_log(attempt)

    def save_provenance(self, attempt: quantum_attempts.Attempt) -> None:
        """Keep what the quantum has read and written, if asked to; called last, after a failure, too.

        Raises
        ------
        AggregatorError
            If it can't be written.
        """
        if self.options.provenance_directory is None:
            return
        path = os.path.join(self.options.provenance_directory, f"{attempt.quantum.id}.json")
        text = attempt.butler.extract_provenance_data().to_json()
        durable_files.write_atomically(path, [text.encode()])

    def remove_leftovers(self, quantum: quantum_module.Quantum) -> None:
        """Remove temporary files of attempts that were killed while they wrote an output."""
        for ref in quantum.predicted_outputs():
            stored = (self._dataset_types or {}).get(ref.datasetType.name, ref.datasetType.storage_class)
            for files in self._files.predicted(ref, stored):
                self._leftovers.remove(files)


def _result(attempt: quantum_attempts.Attempt) -> quantum_attempts.Result:
    if attempt.failure is not None:
        return quantum_attempts.Result(quantum_attempts.Fate.FAILED, attempt.quantum, failure=attempt.failure)
    outputs = {**attempt.quantum.outputs, **_tuples(attempt.outputs)}
    left = dataclasses.replace(attempt.quantum, inputs=_tuples(attempt.inputs), outputs=outputs)
    return quantum_attempts.Result(
        quantum_attempts.Fate.SUCCEEDED, left, not attempt.has_work, attempt.caveats
    )


def _about(attempt: quantum_attempts.Attempt) -> tuple[str, str]:
    return attempt.quantum.task_label, str(attempt.quantum.dataId)


def _line(exc: BaseException) -> str:
    return f"Exception {type(exc).__name__}: {task_errors.message(exc)}"


def _tuples(refs: Mapping[str, Any]) -> quantum_module.Refs:
    return {name: tuple(each) for name, each in refs.items()}
