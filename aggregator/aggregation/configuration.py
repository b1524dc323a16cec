"""Options of an aggregation, with the names and meanings of the reference (aggregate-and-ingest.md 1)."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from aggregator import ranges
from aggregator.schemas import argument_types
from aggregator.storage import errors, local_files, uris
from aggregator.workers import log_levels
from aggregator.workers.engines import descriptors

UNREADABLE_CHOICES = ("hold", "failed")
"""What can become of quanta whose files can't be read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorConfig:
    """Options of an aggregation.

    Parameters
    ----------
    output_path
        Where the provenance graph goes; nothing to write none.
    worker_log_dir
        Directory for a log file of each worker.
    worker_log_level
        Level of these logs; DEBUG tells of every quantum.
    worker_profile_dir
        Directory for a profile of each worker process; without effect with one process.
    n_processes
        Number of scanners; with 1, everything happens in the calling process.
    n_requests
        Files that each scanner has under way at a time, by threads if it is more than one; chosen from what
        the first files took by default, which is one for a local disk.
    engine
        What scans shards on other hosts, or in other processes: "dask:tcp://HOST:PORT", "parsl:CONFIG.py", a
        `distributed.Client`, or a `concurrent.futures.Executor`. All else stays on this host, where
        `n_processes` look again at what is known, and build the graph.
    exchange
        URI of a place in an object store where these scanners leave what they found out; by default they
        leave it in the checkpoint, which all hosts then have to see at the same path, as the predicted graph.
    incomplete
        Execution goes on: ingest what certainly succeeded, and write no graph.
    defensive_ingest
        Look for datasets that are in the repository already from the start, not at the first conflict.
    ingest_batch_size
        Datasets to gather before they are written.
    register_dataset_types
        Register the dataset types of outputs.
    update_output_chain
        Put the output run in front of the output chain.
    dry_run
        Leave the database as it is.
    interactive_status
        Show progress bars; by default if the terminal is one.
    log_status_interval
        Seconds between progress messages where no bars are shown; 60 by default.
    worker_sleep
        Accepted for compatibility; workers sleep until there is work.
    worker_check_timeout
        Accepted for compatibility; the death of a worker is seen at once.
    zstd_level
        Compression level of the graph.
    zstd_dict_size
        Size of the compression dictionary in bytes; 0 for none.
    zstd_dict_n_inputs
        Quanta to train the dictionary with; smaller graphs get none.
    zstd_dict_input_max_bytes
        Bytes to train the dictionary with, at most.
    mock_storage_classes
        Know the storage classes of mock tasks.
    promise_ingest_graph
        Leave logs, metadata and configs to a later ingestion of the graph.
    checkpoint_dir
        Where the checkpoint lies; by default beside the predicted graph.
    checkpoint
        Keep what was found out for a later run; otherwise it goes to a temporary directory.
    fresh
        Start over, whatever the checkpoint holds.
    keep_checkpoint
        Keep the checkpoint of a run that is complete.
    verify_checkpoint
        Look at the files of settled quanta again, too.
    scan_timeout
        Seconds that a scanner may work on one shard before the run is stopped; unlimited by default. Without
        effect with one process, which can't watch itself.
    job_records
        Files with records of a batch system: what they say of the job of a quantum becomes the story of the
        quantum, if that has left neither log nor metadata.
    allow_empty_run
        Go on if not one file of the run exists, init outputs included.
    unreadable
        What becomes of a quantum whose files can't be read: "hold" leaves it and those after it for another
        run, "failed" records it as failed.

    Raises
    ------
    RefusedError
        If a value is of another type; the message names the option.
    """

    output_path: str | os.PathLike[str] | None = None
    worker_log_dir: str | os.PathLike[str] | None = None
    worker_log_level: str = "VERBOSE"
    worker_profile_dir: str | os.PathLike[str] | None = None
    n_processes: int = 1
    n_requests: int | None = None
    engine: Any = None
    exchange: str | None = None
    incomplete: bool = False
    defensive_ingest: bool = False
    ingest_batch_size: int = 10000
    register_dataset_types: bool = True
    update_output_chain: bool = True
    dry_run: bool = False
    interactive_status: bool | None = None
    log_status_interval: float | None = None
    worker_sleep: float = 0.01
    worker_check_timeout: float = 5.0
    zstd_level: int = 3
    zstd_dict_size: int = 32768
    zstd_dict_n_inputs: int = 512
    zstd_dict_input_max_bytes: int = 1048576
    mock_storage_classes: bool = False
    promise_ingest_graph: bool = False
    checkpoint_dir: str | os.PathLike[str] | None = None
    checkpoint: bool = True
    fresh: bool = False
    keep_checkpoint: bool = False
    verify_checkpoint: bool = False
    scan_timeout: float | None = None
    job_records: Sequence[str | os.PathLike[str]] = ()
    allow_empty_run: bool = False
    unreadable: str = "hold"

    def __post_init__(self) -> None:
        argument_types.check(
            AggregatorConfig, {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        )

    @property
    def is_writing_provenance(self) -> bool:
        """Whether a provenance graph is written."""
        return self.output_path is not None and not self.incomplete


def path_text(path: str | os.PathLike[str] | None) -> str | None:
    """Return the text of an option that is a path, if it is given."""
    return None if path is None else os.fspath(path)


_RANGES = {
    "n_processes": ranges.COUNT,
    "n_requests": ranges.Range(1, 512),
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

_OPTIONAL = ("n_requests", "log_status_interval", "scan_timeout")

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
    _check_engine(config)
    if config.n_processes > 1:
        descriptors.check(config.n_processes + _OTHER_WORKERS)
    for path in (config.checkpoint_dir, config.worker_log_dir, config.worker_profile_dir):
        if path is not None:
            local_files.named(os.fspath(path))
    # A path by itself would be taken for a list of letters.
    paths = () if isinstance(config.job_records, str) else config.job_records
    if len(paths) < len(config.job_records) or not all(isinstance(p, str | os.PathLike) for p in paths):
        raise errors.RefusedError("job_records must be a list of paths")
    if config.unreadable not in UNREADABLE_CHOICES:
        raise errors.RefusedError(f"unreadable must be one of {', '.join(UNREADABLE_CHOICES)}")


def _check_engine(config: AggregatorConfig) -> None:
    if config.engine is None:
        if config.exchange is not None:
            raise errors.RefusedError("exchange is of use with an engine only; give one, or leave it out.")
        return
    # Most have none.
    from aggregator.workers.engines import job_engines

    job_engines.check(config.engine)
    if config.exchange is None:
        if not config.checkpoint:
            raise errors.RefusedError(
                "an engine's scanners leave digests in the checkpoint: keep one, or give an exchange."
            )
    elif not uris.is_remote(config.exchange):
        raise errors.RefusedError(
            f"exchange {config.exchange}: give the URI of an object store; for a directory that all hosts "
            "see, give it as checkpoint_dir."
        )
