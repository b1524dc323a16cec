"""Executes one quantum: looks at what is there, runs the task, and leaves metadata and log.

What is left behind is that of the Rubin middleware (execution-files.md), so that either can go on where the
other has stopped.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from aggregator.butler import artifacts, quantum_backed_butler
from aggregator.butler import quantum as quantum_module
from aggregator.execution import (
    attempt_logs,
    log_capture,
    quantum_attempts,
    quantum_context,
    stage_usage,
    task_errors,
    tasks,
)
from aggregator.schemas.execution import caveats, log_records, log_writer, task_metadata
from aggregator.storage import errors

_log = logging.getLogger(__name__)


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
        Where records of the log are written as they come; its files are removed by whoever made it.
    """

    def __init__(
        self,
        files: artifacts.Artifacts,
        options: Options,
        *,
        dataset_types: Mapping[str, str] | None = None,
        spool: attempt_logs.Spool | None = None,
    ) -> None:
        self.options = options
        self._files = files
        self._logs = attempt_logs.LogFiles(files)
        self._dataset_types = dataset_types
        self._spool = spool
        self._ids: list[str] = []

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
            stage_usage.note(attempt.section, stage_usage.PREPARATION)
            _log.info("Preparing execution of quantum for label=%s dataId=%s.", *_about(attempt))
            if self.check_existing(attempt):
                return quantum_attempts.Result(quantum_attempts.Fate.EXISTING, quantum)
            attempt.ids_before = list(self._ids)
            self._ids.append(str(quantum.id))
            try:
                self._run(attempt)
            except BaseException as exc:
                attempt.failure = exc
                _log.error("Execution of task %r on quantum %s failed. %s", *_about(attempt), _line(exc))
            finally:
                self.write_log(attempt)
                self.save_provenance(butler)
        return _result(attempt)

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
        self.write_metadata(attempt)

    @contextlib.contextmanager
    def setup_logging(self, quantum: quantum_module.Quantum) -> Iterator[log_capture.Capture]:
        """Keep what is logged from now on."""
        run = next((refs[0].run for refs in quantum.outputs.values() if refs), "")
        labels = {"LABEL": f"{quantum.task_label}:{quantum.dataId}", "RUN": run}
        if self._spool is None:
            with log_capture.capturing(labels) as capture:
                yield capture
            return
        with (
            open(self._spool.path(quantum.id), "wb") as stream,
            log_capture.capturing(labels, stream) as capture,
        ):
            yield capture

    def check_existing(self, attempt: quantum_attempts.Attempt) -> bool:
        """Look at outputs that are there already; return whether they are all that is needed.

        The log of an earlier attempt stays until that of this one takes its place: no story is lost.

        Raises
        ------
        ExistingOutputsError
            If they are not to be replaced.
        """
        if self.options.assume_no_existing_outputs:
            return False
        there = attempt.butler.stored_many(attempt.quantum.predicted_outputs())
        if self.options.skip_existing and there[attempt.metadata_ref]:
            return True
        log_ref = attempt.log_ref
        if log_ref is not None and there[log_ref] and (log := self._logs.find(log_ref)) is not None:
            attempt.earlier = log.earlier
        existing = [ref for ref, is_there in there.items() if is_there]
        if existing and not self.options.clobber_outputs:
            how_many = "All" if len(existing) == len(there) else "Some"
            raise ExistingOutputsError(
                f"{how_many} outputs of quantum {attempt.quantum.id} ({attempt.quantum.task_label} "
                f"{attempt.quantum.dataId}) exist already, for instance {existing[0]}."
            )
        # Metadata first: what is left after an interruption must not look like a success.
        old = sorted((ref for ref in existing if ref != log_ref), key=lambda ref: ref != attempt.metadata_ref)
        for ref in old:
            attempt.butler.pruneDatasets([ref], purge=True, unstore=True)
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
        document = self._metadata(attempt)
        task_metadata.convert(document)
        attempt.butler.put(document, attempt.metadata_ref)

    def _metadata(self, attempt: quantum_attempts.Attempt) -> dict[str, Any]:
        label = attempt.quantum.task_label
        document: dict[str, Any] = {"scalars": {}, "arrays": {}, "metadata": {label: _empty()}}
        if attempt.instance is not None:
            document = attempt.instance.metadata()
        nested = document["metadata"]
        if attempt.partial is not None:
            told = {
                "type": task_errors.type_name(attempt.partial),
                "message": task_errors.message(attempt.partial),
            }
            sections = nested.setdefault(label, _empty())["metadata"]
            sections.setdefault("failure", {**_empty(), "scalars": told})
        nested["quantum"] = attempt.section
        if self.options.job_metadata:
            nested["job"] = {**_empty(), "scalars": dict(self.options.job_metadata)}
        return document

    def _failed_metadata(self, attempt: quantum_attempts.Attempt) -> dict[str, Any]:
        """Return the metadata of a failed attempt, without what the task has noted if that can't be had."""
        attempt.section = copy.deepcopy(attempt.section)
        attempt.section["scalars"].pop("caveats", None)
        attempt.section["metadata"].pop("butler_metrics", None)
        try:
            document = self._metadata(attempt)
            task_metadata.convert(document)
        except Exception:
            attempt.instance = None
            document = self._metadata(attempt)
        return document

    def write_log(self, attempt: quantum_attempts.Attempt) -> None:
        """Write the log, whatever became of the quantum."""
        if (ref := attempt.log_ref) is None:
            return
        extra = log_records.Extra(previous_process_quanta=attempt.ids_before)
        if attempt.failure is not None:
            extra.exception = task_errors.information(attempt.failure)
            extra.metadata = msgspec.Raw(log_writer.dump(self._failed_metadata(attempt)))
        attempt.butler.put(log_writer.log_file(attempt.capture.records, extra, attempt.earlier), ref)

    def save_provenance(self, butler: quantum_backed_butler.QuantumBackedButler) -> None:
        """Keep what the quantum has read and written, in a subclass; called last, after a failure, too."""


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


def _empty() -> dict[str, Any]:
    return {"scalars": {}, "arrays": {}, "metadata": {}}


def _tuples(refs: Mapping[str, Any]) -> quantum_module.Refs:
    return {name: tuple(each) for name, each in refs.items()}
