"""Looks whether a run has any files, before anything is concluded from those that it does not have."""

from collections.abc import Iterator

from aggregator.aggregation import crew, preparation
from aggregator.console import interruption, progress
from aggregator.schemas import messages
from aggregator.storage import errors


def check(
    prepared: preparation.Preparation,
    workers: crew.Crew,
    stopping: interruption.Interruption,
    report: progress.Progress,
) -> None:
    """Make sure that something exists of what the graph was to write: usually the first init output does.

    Others than scanners may still be getting ready; whoever refuses the run has the better reason.
    A checkpoint that was made for nothing goes; its dictionary was trained on nothing as well.

    Raises
    ------
    AggregatorError
        If nothing does. Then it is the file system that is missing, or the repository is another one.
    """
    n_expected, trouble = 0, ""
    # A single look is enough, as a rule; all others are only made if nothing is found.
    for shards in (iter([0]), iter(range(1, prepared.division.n_shards))):
        for reply in _replies(shards, prepared, workers, stopping, report):
            n_expected += reply.n_expected
            trouble = trouble or reply.trouble
            if reply.path:
                return
    if n_expected:
        while workers.is_busy:
            stopping.check()
            list(workers.receive())
        prepared.checkpoint.undo()
        run, reason = prepared.graph.header.output_run, f" ({trouble})" if trouble else ""
        raise errors.AggregatorError(
            f"{prepared.setup.butler_path}: not one file of run {run!r} is there, init outputs included"
            f"{reason}. Look whether the file system is mounted and the repository is the right one, and run "
            "again. If execution has not begun yet, give --incomplete; if it has really left nothing, "
            "--allow-empty-run records all quanta as failed."
        )


def _replies(
    shards: Iterator[int],
    prepared: preparation.Preparation,
    workers: crew.Crew,
    stopping: interruption.Interruption,
    report: progress.Progress,
) -> list[messages.FileFound]:
    """Return what scanners find in some shards, as far as these are needed."""
    replies: list[messages.FileFound] = []
    while True:
        stopping.check()
        if not any(reply.path for reply in replies):
            for scanner in workers.scanners:
                if not scanner.outstanding and (shard := next(shards, None)) is not None:
                    workers.send(scanner, messages.FindFile(prepared.division.request(shard)))
        if not any(scanner.outstanding for scanner in workers.scanners):
            return replies
        replies += [reply for _, reply in workers.receive() if isinstance(reply, messages.FileFound)]
        report.beat(workers.describe)
