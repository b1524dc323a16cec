"""What `pack` and `unpack` did, for their last words and for callers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from aggregator.schemas import summary_document
from aggregator.transfer import named_lines

_MANY: Final = 100_000
"""Datasets of an export above which the middleware has trouble."""


@dataclasses.dataclass(slots=True)
class PackSummary:
    """What is in the pack of a job.

    Attributes
    ----------
    run
        The output run.
    repository
        Configuration of the repository.
    predicted_graph
        The predicted graph.
    pack
        The pack.
    n_quanta
        Quanta in the pack.
    n_existing
        Quanta that are left out because they have succeeded before.
    n_blocked
        Quanta that are left out because they need outputs of others that have not succeeded.
    n_files, n_bytes
        Files that the job needs, and their bytes.
    n_absent
        Datasets that earlier quanta have succeeded without.
    n_init_outputs
        Files of init outputs among them.
    payload
        Whether the files are in the pack.
    n_datasets
        Datasets in it, if it is an export for the middleware.
    pack_size
        Bytes of the pack.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    """

    run: str
    repository: str
    predicted_graph: str
    pack: str
    n_quanta: int
    n_existing: int
    n_blocked: int
    n_files: int
    n_bytes: int
    n_absent: int
    n_init_outputs: int
    payload: str
    n_datasets: int = 0
    pack_size: int = 0
    elapsed: float = 0.0
    phases: Mapping[str, float] = dataclasses.field(default_factory=dict)

    outcome = "complete"

    def lines(self) -> list[str]:
        """Return it as text."""
        inside = "with" if self.payload == "files" else "without"
        lines = [
            f"Wrote {self.pack} ({named_lines.size(self.pack_size)}): {self.n_quanta} quanta of run "
            f"{self.run}, {inside} the {self.n_files} files that they need "
            f"({named_lines.size(self.n_bytes)}, {self.elapsed:.1f} s)"
        ]
        if self.n_datasets > _MANY:
            lines.append(
                f"It has {self.n_datasets} datasets: the middleware holds all of them in memory, and imports "
                "them slowly. Pack fewer quanta at a time, or make a pack of the usual format."
            )
        if self.n_existing:
            lines.append(f"Left out since they have succeeded before: {self.n_existing} quanta")
        if self.n_blocked:
            lines.append(f"Left out since quanta before them have not succeeded: {self.n_blocked} quanta")
        if not self.n_init_outputs:
            lines.append("The run has no init outputs yet: the job has to write them (init-run)")
        return lines

    def document(self) -> summary_document.Pack:
        """Return it as programs read it."""
        return summary_document.Pack(
            phases=dict(self.phases), peaks={}, run=self.run, repository=self.repository,
            predicted_graph=self.predicted_graph, pack=self.pack, pack_size=self.pack_size,
            quanta=self.n_quanta, quanta_existing=self.n_existing, quanta_blocked=self.n_blocked,
            files=self.n_files, bytes=self.n_bytes, datasets_absent=self.n_absent,
            init_outputs=self.n_init_outputs, payload=self.payload,
        )  # fmt: skip


@dataclasses.dataclass(slots=True)
class UnpackSummary:
    """What was made of the pack of a job.

    Attributes
    ----------
    run
        The output run; empty if no graph has come along.
    directory
        The repository of the node.
    pack
        The pack.
    n_quanta
        Quanta that are to be executed.
    n_files, n_present
        Files brought to their places, and files that were there.
    missing
        Names of files that have not been brought.
    has_init_outputs
        Whether init outputs of the run are there.
    has_registry
        Whether there is a database.
    elapsed
        Seconds.
    phases
        Seconds that each phase took, in order.
    """

    run: str
    directory: str
    pack: str
    n_quanta: int
    n_files: int = 0
    n_present: int = 0
    missing: list[str] = dataclasses.field(default_factory=list)
    has_init_outputs: bool = False
    has_registry: bool = False
    elapsed: float = 0.0
    phases: Mapping[str, float] = dataclasses.field(default_factory=dict)

    outcome = "complete"

    def lines(self) -> list[str]:
        """Return it as text."""
        if not self.run:
            return [
                f"{self.directory} is a repository of {self.n_files + self.n_present} datasets "
                f"({self.elapsed:.1f} s)"
            ]
        done = "is ready" if not self.missing else "is not ready"
        there = f", {self.n_present} were there" if self.n_present else ""
        return [
            f"{self.directory} {done} for {self.n_quanta} quanta of run {self.run}: {self.n_files} files "
            f"brought to their places{there} ({self.elapsed:.1f} s)",
            *named_lines.of("Missing", self.missing),
        ]

    def document(self) -> summary_document.Unpack:
        """Return it as programs read it."""
        return summary_document.Unpack(
            phases=dict(self.phases), peaks={}, run=self.run, directory=self.directory, pack=self.pack,
            quanta=self.n_quanta, files=self.n_files, files_present=self.n_present,
            files_missing=len(self.missing), missing=self.missing[:named_lines.N_NAMED],
            registry=self.has_registry,
        )  # fmt: skip
