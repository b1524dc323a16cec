"""Options of an execution."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from aggregator.execution.workflows import clusters as clusters_module
from aggregator.storage import errors
from aggregator.workers.engines import job_engines


@dataclasses.dataclass(frozen=True, slots=True)
class RunConfig:
    """Options of an execution."""

    n_processes: int = 1
    """Number of worker processes; on an engine, of each job."""

    in_process: bool = False
    """Whether to execute in the calling process, without any workers."""

    engine: Any = None
    """Where jobs run that execute quanta; see `job_engines.opened`. By default there are none."""

    clusters: tuple[str, ...] = ()
    """Which quanta share a job of an engine; see `clusters.definition`. By default each has its own."""

    timeout: float | None = None
    """Seconds that a quantum may take."""

    fail_fast: bool = False
    """Whether to end with the first failure."""

    existing_outputs: bool = True
    """Whether to look at what earlier attempts have left; else that is lost, and its story too."""

    raise_on_partial_outputs: bool = True
    """Whether a quantum fails that could not write all outputs."""

    interactive_status: bool | None = None
    """Whether to show progress bars; by default if standard error is a terminal."""

    log_status_interval: float | None = None
    """Seconds between progress messages where no bars are shown; 60 by default."""

    provenance_directory: str | os.PathLike[str] | None = None
    """Directory for a file on each quantum: which datasets it has read and written."""

    report_path: str | os.PathLike[str] | None = None
    """File for a report on all quanta, in the form of the middleware's."""

    def check(self) -> None:
        """Refuse options that do not fit together.

        Raises
        ------
        RefusedError
            If there are some.
        """
        if self.in_process and self.timeout:
            raise errors.RefusedError(
                "A quantum can be ended after a time in a worker process only: leave one out."
            )
        if self.engine is None:
            if self.clusters:
                raise errors.RefusedError("Only the jobs of an engine execute clusters: give one, too.")
            return
        job_engines.check(self.engine)
        for text in self.clusters:
            clusters_module.definition(text)
        if self.in_process:
            raise errors.RefusedError("Quanta run in this process, or on an engine: leave one out.")
        if not self.existing_outputs:
            # A job may be done twice.
            raise errors.RefusedError("On an engine, what earlier attempts have left has to be looked at.")
