"""The function `confirm`: files that another system has brought are recorded (transfer.md section 7.6)."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Sequence
from typing import Final

from aggregator import repository_files
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.butler.transfers import confirmation
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, output_kinds, output_paths, summary_document, transfer_manifest
from aggregator.storage import errors
from aggregator.workers.engines import memory

_AT_ONCE: Final = 10_000
"""Files that are looked for, and recorded, together."""

_SHOWN: Final = 10
"""Problems that are printed."""


@dataclasses.dataclass(slots=True)
class ConfirmReport:
    """What a confirmation did.

    Attributes
    ----------
    repository
        Configuration of the repository.
    manifest
        The manifest.
    n_files
        Files of the manifest that were looked at.
    n_recorded
        Datasets whose files are recorded now.
    n_present
        Datasets whose files were recorded before.
    n_waiting
        Files that are not there, or not right.
    problems
        Some of these, with the reason.
    rest
        Manifest of these; nothing if there are none.
    elapsed
        Seconds.
    """

    repository: str
    manifest: str
    n_files: int = 0
    n_recorded: int = 0
    n_present: int = 0
    n_waiting: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)
    rest: str | None = None
    elapsed: float = 0.0

    @property
    def outcome(self) -> str:
        """Whether all files are there."""
        return "incomplete" if self.n_waiting else "complete"

    def document(self) -> summary_document.Confirm:
        """Return it as programs read it."""
        return summary_document.Confirm(
            repository=self.repository,
            manifest=self.manifest,
            files=self.n_files,
            datasets_recorded=self.n_recorded,
            datasets_present=self.n_present,
            files_waiting=self.n_waiting,
            problems=self.problems,
            rest=self.rest,
            phases={"all": self.elapsed},
            peaks={"all": memory.peak(os.getpid())},
        )

    def lines(self) -> list[str]:
        """Return it as text."""
        lines = [
            f"{self.manifest}: {self.n_files} files, {self.n_waiting} of them not there or not right",
            f"Datasets whose files are recorded: {self.n_recorded} now, {self.n_present} before "
            f"({self.elapsed:.1f} s)",
            *self.problems,
        ]
        return [*lines, f"What is left: {self.rest}"] if self.rest else lines


def confirm(
    repository: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    *,
    verify: str = confirmation.VERIFICATIONS[0],
    interactive_status: bool | None = None,
    log_status_interval: float | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> ConfirmReport:
    """Record the files of a manifest that another system has brought to a repository.

    Parameters
    ----------
    repository
        Repository that they go to: its directory, its configuration file, or its alias.
    manifest
        The manifest that `subset` has written.
    verify
        What has to be right: "size" or "checksum", as far as they are known, or "none".
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
    report
        What was done.

    Raises
    ------
    RefusedError
        If it can't be carried out; nothing has been changed.
    Interrupted
        If a signal or the cancellation asked to stop; calling again goes on.
    AggregatorError
        If some files are not there yet, or something fails; calling again goes on. It has `summary`, the
        `ConfirmReport` of what was done until then.
    """
    argument_types.check(confirm, locals())
    if verify not in confirmation.VERIFICATIONS:
        raise errors.RefusedError(
            f"verify must be one of {', '.join(confirmation.VERIFICATIONS)}, not {verify!r}."
        )
    began = time.monotonic()
    config, path = repository_config.load(os.fspath(repository)), os.path.abspath(os.fspath(manifest))
    config.check_writeable()
    given = transfer_manifest.Manifest(path)
    stem = path.removesuffix(transfer_manifest.COMPRESSED).removesuffix(f".{given.form}")
    rest = f"{stem}.rest.{given.form}"
    protection = repository_files.protection(config)
    output_paths.check(rest, output_kinds.Kind.TRANSFER_MANIFEST, protection)
    output_paths.check_all(outputs, protection)
    report = ConfirmReport(config.path, path)
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(interruption.Interruption(cancellation))
        target = stack.enter_context(registry.open_repository(config, writeable=True))
        shown = stack.enter_context(
            progress.Progress(
                {"files": 0}, began, log_status_interval, interactive_status, on_progress, report,
                lambda: {"all": memory.resident(os.getpid())},
            )
        )  # fmt: skip

        def tick() -> None:
            stopping.check()
            shown.beat(lambda: f"{report.n_files} files")

        taking = confirmation.Confirmation(config, target, verify, tick)
        try:
            with errors.explained():
                _take(given, taking, rest, report)
        except errors.AggregatorError as exc:
            exc.summary = _summed(report, taking, began)
            if isinstance(exc, errors.RefusedError) and taking.n_recorded:
                raise exc.as_failure() from exc
            raise
    _summed(report, taking, began)
    if report.n_waiting:
        error = errors.AggregatorError(
            f"{path}: {report.n_waiting} of {report.n_files} files are not there, or not right, such as "
            f"{report.problems[0]}. Bring them, and run the same command again, with {rest} or all of it."
        )
        error.summary = report
        raise error
    return report


def _take(
    given: transfer_manifest.Manifest,
    taking: confirmation.Confirmation,
    rest: str,
    report: ConfirmReport,
) -> None:
    """Record what is there, and write a manifest of what is not."""
    with transfer_manifest.Writer(rest, given.head, given.form) as writer:
        entries = given.entries()
        while some := list(itertools.islice(entries, _AT_ONCE)):
            for entry, problem in taking.take(some):
                writer.add(entry)
                report.n_waiting += 1
                if len(report.problems) < _SHOWN:
                    report.problems.append(f"{entry.target}: {problem}")
            report.n_files += len(some)
        if report.n_waiting:
            writer.publish()
            report.rest = rest
    if not report.n_waiting and os.path.lexists(rest) and rest != given.path:
        os.unlink(rest)


def _summed(report: ConfirmReport, taking: confirmation.Confirmation, began: float) -> ConfirmReport:
    report.n_recorded, report.n_present = taking.n_recorded, taking.n_present
    report.elapsed = time.monotonic() - began
    return report
