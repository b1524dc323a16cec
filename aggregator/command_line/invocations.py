"""One call of a command: what it says, and how it ends."""

import datetime
import io
import logging
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence

import click
import msgspec

from aggregator.command_line import metrics_file, next_commands
from aggregator.console import interruption, progress, terminal
from aggregator.schemas import output_kinds, output_paths
from aggregator.storage import errors
from aggregator.workers.engines import processor_time

_log = logging.getLogger(__name__)

_SIGNALLED = 128
"""Exit codes above this tell which signal has ended a command."""


class Invocation:
    """One call of a command.

    Parameters
    ----------
    command
        The command that was given.
    """

    def __init__(self, command: next_commands.Command) -> None:
        self.command = command
        self.formatter: logging.Formatter | None = None
        """Makes records of what is said on standard error, if that is read by a program."""
        self._started, self._began = _now(), time.monotonic()
        self._cpu = processor_time.seconds()
        self._file: output_paths.Output | None = None
        self._metrics: metrics_file.MetricsFile | None = None
        self._prints_summary = False
        self._account: errors.Account | None = None
        self._following: Sequence[next_commands.Next] = ()

    def summarize_to(self, path: str) -> None:
        """Write a summary to a file when the command ends, or to standard output if its path is "-".

        Raises
        ------
        RefusedError
            If it can't be written there.
        """
        self._prints_summary = path == "-"
        if not self._prints_summary:
            self._file = output_paths.Output(path, output_kinds.Kind.SUMMARY)

    def measure_to(self, path: str) -> None:
        """Write metrics to a file while the command runs.

        Raises
        ------
        RefusedError
            If it can't be written there.
        """
        output = output_paths.Output(path, output_kinds.Kind.METRICS)
        self._metrics = metrics_file.MetricsFile(output, self.command.name or "")

    def outputs(self) -> list[output_paths.Output]:
        """Return the files for programs that are to be written; those of an earlier command are removed."""
        outputs = [] if self._file is None else [self._file]
        if self._metrics is not None:
            outputs.append(self._metrics.output)
        for output in outputs:
            output.remove()
        return outputs

    @property
    def on_progress(self) -> progress.Callback | None:
        """What is to be told of progress, if anything is."""
        return None if self._metrics is None else self._metrics.update

    def last_words(self, account: errors.Account, following: Sequence[next_commands.Next] = ()) -> None:
        """Print what was done by a command that has done it, whether or not that can be printed.

        Parameters
        ----------
        account
            What was done.
        following
            Commands that may come next.
        """
        self._account, self._following = account, following
        self._tell([*account.lines(), *next_commands.lines(following)])

    def _tell(self, lines: Iterable[str]) -> None:
        if self._prints_summary:
            for line in lines:
                self._complain(line, logging.INFO)
            return
        try:
            terminal.tell(lines)
        except terminal.OutputError as exc:
            _log.warning("Everything is done, but the summary could not be printed: %s", exc)

    def _complain(self, text: str, level: int = logging.ERROR) -> None:
        """Print a text to standard error."""
        if self.formatter is not None:
            record = logging.makeLogRecord(
                {
                    "name": "aggregator",
                    "levelno": level,
                    "levelname": logging.getLevelName(level),
                    "msg": text,
                }
            )
            text = self.formatter.format(record)
        terminal.complain(text)

    def hint(self, following: Sequence[next_commands.Next]) -> None:
        """Tell people which commands may come next, where the output itself is for whoever reads it."""
        if self.formatter is None and terminal.is_terminal(sys.stderr) and terminal.is_terminal(sys.stdout):
            for line in next_commands.lines(following):
                terminal.complain(line)

    def end(self, error: BaseException | None, number: int = 0) -> int:
        """Tell what went wrong, if anything did; write the summary; return the exit code.

        Parameters
        ----------
        error
            What went wrong.
        number
            The signal that has ended the command outside of its work; 0 if none has.
        """
        code, text = 0, None
        if error is not None:
            code, text = self._explain(error, number)
        if error is not None or self._account is not None:
            self._summarize(error, code, text)
            if self._metrics is not None:
                self._metrics.finish(code, self._account)
        return code

    def _explain(self, error: BaseException, number: int) -> tuple[int, str | None]:
        """Tell what went wrong; return the exit code and a text."""
        code, text = errors.AggregatorError.exit_code, str(error)
        match error:
            case terminal.OutputError(is_quiet=True):
                return error.exit_code, text
            case errors.AggregatorError():
                self._recount(error)
                code = error.exit_code
            case click.Abort() | interruption.Stop():
                code = interruption.exit_code(number)
                text = f"interrupted by {signal.Signals(number).name}." if number else "interrupted."
            case click.ClickException():
                shown = io.StringIO()
                error.show(shown)
                self._complain(shown.getvalue().rstrip("\n"))
                return error.exit_code, error.format_message()
            case OSError(strerror=str()):
                _log.debug("%s", "".join(traceback.format_exception(error)))
                explained = errors.of_system(error)
                self._recount(explained)
                text = str(explained)
            case MemoryError():
                text = "there is not enough memory."
            case _:
                self._complain("".join(traceback.format_exception(error)).rstrip("\n"))
                self._complain(
                    "Error: this is a fault of the program; please report it with the lines above."
                )
                return code, "".join(traceback.format_exception_only(error)).strip()
        self._complain(f"Error: {text}")
        for line in next_commands.lines(self._following):
            self._complain(line, logging.INFO)
        return code, text

    def _recount(self, error: errors.AggregatorError) -> None:
        """Tell what was done before something went wrong."""
        for note in getattr(error, "__notes__", ()):
            logging.getLogger("aggregator").debug("%s", note)
        self._account, self._following = error.summary, self.command.after(error)
        if self._account is not None:
            self._tell(self._account.lines())

    def _summarize(self, error: BaseException | None, code: int, text: str | None) -> None:
        """Write the summary, if one was asked for; that it can't be written changes nothing else."""
        if self._file is None and not self._prints_summary:
            return
        from aggregator.schemas import summary_document as documents

        summary = documents.Summary(
            command=self.command.name or "",
            outcome=self._outcome(error, code),
            exit_code=code,
            error=text,
            started=self._started,
            ended=_now(),
            elapsed=time.monotonic() - self._began,
            cpu=processor_time.seconds() - self._cpu,
            done=None if self._account is None else self._account.document(),
            next=[documents.Command(each.text, each.purpose) for each in self._following],
        )
        content = msgspec.json.encode(summary) + b"\n"
        try:
            if self._file is not None:
                self._file.write(content)
            else:
                output = terminal.Output()
                output.write(content.decode())
                output.flush()
        except errors.AggregatorError as exc:
            self._complain(f"Error: the summary could not be written: {exc}")

    def _outcome(self, error: BaseException | None, code: int) -> str:
        """Return in one word how the command ended."""
        if error is None and self._account is not None:
            return self._account.outcome
        if isinstance(error, errors.HeldError):
            return "held"
        if code == errors.RefusedError.exit_code:
            return "refused"
        return "interrupted" if code > _SIGNALLED else "failed"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
