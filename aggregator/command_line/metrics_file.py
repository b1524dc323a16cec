"""Progress of a command as a file of metrics, for node-exporter's textfile collector."""

import logging
import time
from typing import Any

import msgspec

from aggregator.console import progress
from aggregator.schemas import metrics_text, output_paths
from aggregator.storage import errors

_log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 5.0


class MetricsFile:
    """A file that is replaced every few seconds.

    Parameters
    ----------
    output
        The file.
    command
        Name of the command.
    """

    def __init__(self, output: output_paths.Output, command: str) -> None:
        self.output = output
        self._labels = {"command": command, "run": ""}
        self._started = time.time()
        self._written = 0.0
        self._is_told = False
        self._values: dict[str, Any] = {}

    def update(self, update: progress.ProgressUpdate) -> None:
        """Replace it with what is the case now, if it is time."""
        is_new = self._values.get("aggregator_stage") != {update.stage: 1}
        self._values |= {
            "aggregator_stage": {update.stage: 1},
            "aggregator_items": update.total,
            "aggregator_items_done": update.done,
            "aggregator_items_per_second": update.rates,
            "aggregator_memory_bytes": update.memory,
        }
        is_time = is_new or time.monotonic() - self._written >= _INTERVAL_SECONDS
        if is_time and update.stage != progress.ENDED:
            self._take(update.summary)
            self._write({"aggregator_running": 1})

    def finish(self, exit_code: int, summary: errors.Account | None) -> None:
        """Replace it for the last time."""
        self._take(summary)
        for name in ("aggregator_stage", "aggregator_memory_bytes"):
            self._values.pop(name, None)
        self._write({"aggregator_running": 0, "aggregator_exit_code": exit_code})

    def _take(self, summary: errors.Account | None) -> None:
        """Take the numbers of what was done so far."""
        if summary is None:
            return
        document = msgspec.structs.asdict(summary.document())
        self._labels["run"] = document["run"]
        for name in ("datasets", "files", "shards"):
            numbers = {key: n for key, n in document.items() if key == name or key.startswith(f"{name}_")}
            states = {key.removeprefix(name).removeprefix("_") or "all": n for key, n in numbers.items()}
            self._values[f"aggregator_{name}"] = states
        self._values["aggregator_quanta"] = document.get("statuses", {})

    def _write(self, values: dict[str, float]) -> None:
        """Write the file; that it can't be written is told, and changes nothing else."""
        self._written = time.monotonic()
        times = {
            "aggregator_start_time_seconds": self._started,
            "aggregator_last_update_time_seconds": time.time(),
        }
        try:
            self.output.write(
                metrics_text.write({**self._values, **times, **values}, self._labels), sync=False
            )
        except errors.AggregatorError as exc:
            if not self._is_told:
                _log.warning("The metrics could not be written: %s", exc)
            self._is_told = True
