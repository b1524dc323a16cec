"""The log of the command line (options of the reference's `butler` command)."""

import json
import logging
from collections.abc import Mapping, Sequence

from aggregator.schemas import output_kinds, output_paths
from aggregator.schemas.execution import log_writer
from aggregator.storage import errors, machine_trouble
from aggregator.workers import log_handlers, log_levels

_BRIEF = "{levelname} {message}"


def set_up(
    levels: Sequence[str],
    paths: Sequence[str],
    labels: Mapping[str, str],
    *,
    long: bool,
    terminal: bool,
    json_lines: bool = False,
) -> None:
    """Let messages go where they shall; this replaces what an earlier call has set up.

    Parameters
    ----------
    levels
        Levels, "LEVEL" of all or "LOGGER=LEVEL" of one logger.
    paths
        Files to append messages to; those that end with ".json" get JSON, one record a line.
    labels
        What every record in JSON, and long messages, tell as well.
    long
        Whether messages on the terminal tell time, process and logger.
    terminal
        Whether there are any.
    json_lines
        Whether they are JSON, one record a line.

    Raises
    ------
    RefusedError
        If a level is unknown, or a file can't be written.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, log_handlers.LogFile | log_handlers.Terminal):
            root.removeHandler(handler)
            handler.close()
    logging.captureWarnings(True)
    root.setLevel(logging.INFO)
    for text in levels:
        logger, _, level = text.rpartition("=")
        try:
            logging.getLogger("" if logger == "." else logger).setLevel(log_levels.number(level))
        except errors.RefusedError as exc:
            raise errors.RefusedError(f"--log-level {text}: {exc}") from exc
    full = _full(labels)
    if terminal:
        shown = log_handlers.Terminal()
        plain = log_handlers.Formatter(full if long else _BRIEF, style="{")
        shown.setFormatter(JsonFormatter(labels) if json_lines else plain)
        root.addHandler(shown)
    else:
        # Otherwise Python would print warnings on its own.
        root.addHandler(logging.NullHandler())
    for path in paths:
        root.addHandler(_file(path, labels, full))


def _full(labels: Mapping[str, str]) -> str:
    told = "".join(f" {name}={value}" for name, value in labels.items()).replace("{", "{{").replace("}", "}}")
    return f"{{levelname}} {{asctime}} {{processName}} {{name}}{told}: {{message}}"


def _file(path: str, labels: Mapping[str, str], full: str) -> log_handlers.LogFile:
    output_paths.check(path, output_kinds.Kind.LOG, output_paths.Protection())
    try:
        handler = log_handlers.LogFile(path)
    except OSError as exc:
        text = f"--log-file {path}: can't write it ({exc.strerror})"
        raise machine_trouble.refusal(path, exc, text) from exc
    if path.endswith(".json"):
        handler.setFormatter(JsonFormatter(labels))
    else:
        handler.setFormatter(log_handlers.Formatter(full, style="{"))
    return handler


class JsonFormatter(logging.Formatter):
    """Records as JSON, in the form in which the reference writes and reads them (execution-files.md 2).

    Parameters
    ----------
    labels
        Values for `MDC`, by name.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__()
        self._labels = dict(labels)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        trace = self.formatException(record.exc_info) if record.exc_info else None
        return json.dumps(log_writer.record_document(record, self._labels, trace))
