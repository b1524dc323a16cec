"""Options of an aggregation, with the names and meanings of the reference (aggregate-and-ingest.md 1)."""

import dataclasses

from aggregator import ranges
from aggregator.storage import errors, local_files
from aggregator.workers import log_levels
from aggregator.workers.engines import descriptors

UNREADABLE_CHOICES = ("hold", "failed")
"""What can become of quanta whose files can't be read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorConfig:
    """Options of an aggregation."""

    output_path: str | None = None
    """Where the provenance graph goes; nothing to write none."""

    worker_log_dir: str | None = None
    """Directory for a log file of each worker."""

    worker_log_level: str = "VERBOSE"
    """Level of these logs; DEBUG tells of every quantum."""

    worker_profile_dir: str | None = None
    """Directory for a profile of each worker process; without effect with one process."""

    n_processes: int = 1
    """Number of scanners; with 1, everything happens in the calling process."""

    incomplete: bool = False
    """Execution goes on: ingest what certainly succeeded, and write no graph."""

    defensive_ingest: bool = False
    """Look for datasets that are in the repository already from the start, not at the first conflict."""

    ingest_batch_size: int = 10000
    """Datasets to gather before they are written."""

    register_dataset_types: bool = True
    """Register the dataset types of outputs."""

    update_output_chain: bool = True
    """Put the output run in front of the output chain."""

    dry_run: bool = False
    """Leave the database as it is."""

    interactive_status: bool | None = None
    """Show progress bars; by default if the terminal is one."""

    log_status_interval: float | None = None
    """Seconds between progress messages where no bars are shown; 60 by default."""

    worker_sleep: float = 0.01
    """Accepted for compatibility; workers sleep until there is work."""

    worker_check_timeout: float = 5.0
    """Accepted for compatibility; the death of a worker is seen at once."""

    zstd_level: int = 3
    """Compression level of the graph."""

    zstd_dict_size: int = 32768
    """Size of the compression dictionary in bytes; 0 for none."""

    zstd_dict_n_inputs: int = 512
    """Quanta to train the dictionary with; smaller graphs get none."""

    zstd_dict_input_max_bytes: int = 1048576
    """Bytes to train the dictionary with, at most."""

    mock_storage_classes: bool = False
    """Know the storage classes of mock tasks."""

    promise_ingest_graph: bool = False
    """Leave logs, metadata and configs to a later ingestion of the graph."""

    checkpoint_dir: str | None = None
    """Where the checkpoint lies; by default beside the predicted graph."""

    checkpoint: bool = True
    """Keep what was found out for a later run; otherwise it goes to a temporary directory."""

    fresh: bool = False
    """Start over, whatever the checkpoint holds."""

    keep_checkpoint: bool = False
    """Keep the checkpoint of a run that is complete."""

    verify_checkpoint: bool = False
    """Look at the files of settled quanta again, too."""

    scan_timeout: float | None = None
    """Seconds that a scanner may work on one shard before the run is stopped; unlimited by default.
    Without effect with one process, which can't watch itself."""

    allow_empty_run: bool = False
    """Go on if not one file of the run exists, init outputs included."""

    unreadable: str = "hold"
    """What becomes of a quantum whose files can't be read: "hold" leaves it and those after it for another
    run, "failed" records it as failed."""

    @property
    def is_writing_provenance(self) -> bool:
        """Whether a provenance graph is written."""
        return self.output_path is not None and not self.incomplete


_RANGES = {
    "n_processes": ranges.COUNT,
    "ingest_batch_size": ranges.COUNT,
    "log_status_interval": ranges.SECONDS,
    "scan_timeout": ranges.SECONDS,
    "worker_sleep": ranges.Range(0, 1e9, is_whole=False),
    "worker_check_timeout": ranges.Range(0, 1e9, is_whole=False),
    "zstd_level": ranges.Range(-(1 << 17), 22),
    "zstd_dict_size": ranges.Range(0, 1 << 26),
    "zstd_dict_n_inputs": ranges.COUNT_OR_NONE,
    "zstd_dict_input_max_bytes": ranges.Range(0, 1 << 30),
}
"""Values of options that are numbers."""

_OPTIONAL = ("log_status_interval", "scan_timeout")

_OTHER_WORKERS = 2
"""Ingester and writer."""


def check(config: AggregatorConfig) -> None:
    """Refuse values that can't work.

    Raises
    ------
    RefusedError
        If there are some; the message names the option.
    """
    for name, allowed in _RANGES.items():
        value = getattr(config, name)
        if value is not None or name not in _OPTIONAL:
            allowed.check(name, value)
    log_levels.number(config.worker_log_level)
    if config.n_processes > 1:
        descriptors.check(config.n_processes + _OTHER_WORKERS)
    for path in (config.checkpoint_dir, config.worker_log_dir, config.worker_profile_dir):
        if path is not None:
            local_files.named(path)
    if config.unreadable not in UNREADABLE_CHOICES:
        raise errors.RefusedError(f"unreadable must be one of {', '.join(UNREADABLE_CHOICES)}")
