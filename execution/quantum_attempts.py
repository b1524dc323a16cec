"""One attempt at a quantum: what is known of it while it goes on, and what comes of it."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from typing import Any

from aggregator.butler import dataset_refs, quantum_backed_butler
from aggregator.butler import quantum as quantum_module
from aggregator.execution import connected_refs, log_capture, readiness, stage_usage, tasks
from aggregator.schemas.execution import task_metadata
from aggregator.schemas.graphs import pipeline


class Fate(enum.Enum):
    """What became of a quantum."""

    SUCCEEDED = "success"
    """It has run, or had nothing to do."""

    EXISTING = "existing"
    """An earlier attempt has succeeded; nothing was done."""

    FAILED = "failure"
    """It has failed."""

    TIMED_OUT = "timeout"
    """It took too long."""

    BLOCKED = "skipped"
    """A quantum before it has failed; nothing was done."""


@dataclasses.dataclass(slots=True)
class Attempt:
    """An attempt that is under way."""

    task: tasks.TaskMaker
    """Its task."""

    quantum: quantum_module.Quantum
    """The quantum."""

    butler: quantum_backed_butler.QuantumBackedButler
    """Its butler."""

    capture: log_capture.Capture
    """What is logged."""

    section: dict[str, Any] = dataclasses.field(default_factory=stage_usage.section)
    """Section ``quantum`` of its metadata."""

    inputs: connected_refs.Refs = dataclasses.field(default_factory=dict)
    """Inputs that are there, by connection."""

    outputs: connected_refs.Refs = dataclasses.field(default_factory=dict)
    """Outputs that are expected, by connection; metadata and log are none of these."""

    has_earlier_log: bool = False
    """Whether an earlier attempt has left a log, which its own has to tell of."""

    ids_before: list[str] = dataclasses.field(default_factory=list)
    """Quanta that ran right before it in this process, the last one last."""

    has_work: bool = True
    """Whether it has anything to do."""

    instance: tasks.Task | None = None
    """The task, once it is made."""

    ids_put: list[uuid.UUID] = dataclasses.field(default_factory=list)
    """Outputs that were written."""

    caveats: int = 0
    """What there is to say of its success."""

    partial: BaseException | None = None
    """An error that left some outputs unwritten, and was accepted."""

    failure: BaseException | None = None
    """Why it has failed."""

    lacks_log: bool = False
    """Whether an earlier attempt has succeeded and left no log."""

    def __post_init__(self) -> None:
        """Expect what the graph predicts."""
        executors = (pipeline.METADATA_CONNECTION, pipeline.LOG_CONNECTION)
        self.inputs = dict(self.quantum.inputs)
        self.outputs = {k: refs for k, refs in self.quantum.outputs.items() if k not in executors}

    @property
    def metadata_ref(self) -> dataset_refs.DatasetRef:
        """Where its metadata go."""
        return self.quantum.outputs[pipeline.METADATA_CONNECTION][0]

    @property
    def log_ref(self) -> dataset_refs.DatasetRef | None:
        """Where its log goes; nothing if its task has none."""
        return log_ref(self.quantum)


def log_ref(quantum: quantum_module.Quantum) -> dataset_refs.DatasetRef | None:
    """Return where the log of a quantum goes; nothing if its task has none."""
    return next(iter(quantum.outputs.get(pipeline.LOG_CONNECTION, ())), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of an attempt."""

    fate: Fate
    """`Fate.SUCCEEDED`, `Fate.EXISTING` or `Fate.FAILED`."""

    quantum: quantum_module.Quantum
    """The quantum, with the inputs and outputs that were left."""

    adjusted_no_work: bool = False
    """Whether there was nothing to do for want of inputs."""

    caveats: int | None = None
    """What there is to say of it, if it has succeeded now."""

    failure: BaseException | None = None
    """Why it has failed."""

    lacks_log: bool = False
    """Whether an earlier attempt has succeeded, but ended before it wrote its log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What became of a quantum, for whoever runs many."""

    quantum_id: uuid.UUID
    """Its id."""

    task_label: str
    """Label of its task."""

    data_id: dict[str, Any]
    """Values of its required dimensions."""

    fate: Fate
    """What became of it."""

    exception: task_metadata.ExceptionInfo | None = None
    """Why it has failed."""

    exit_code: int = 0
    """Exit code that this asks for; negative if a signal has ended its process."""


def blocked(data: readiness.QuantumData) -> Report:
    """Return that a quantum is blocked."""
    return Report(data.id, data.task, dict(data.data_id), Fate.BLOCKED)
