"""What a command did, as one JSON document (docs/outputs.md)."""

import msgspec

FORMAT = "aggregator-summary"
VERSION = 1
"""Raised when a field changes its meaning or goes; new fields don't count."""


class Details(msgspec.Struct, frozen=True):
    """What every command tells of what it did."""

    phases: dict[str, float]
    """Seconds that each phase took, in order."""
    peaks: dict[str, int]
    """Largest memory of each process in bytes: `all` if there is one; `workers` is the largest of many."""


class Command(msgspec.Struct, frozen=True):
    """A command that may come next."""

    command: str
    """The command, quoted for a shell."""
    purpose: str
    """What it is for."""


class Unreadable(msgspec.Struct, frozen=True):
    """A file that can't be read."""

    path: str
    """The file."""
    reason: str
    """What is wrong with it."""


class Aggregation(Details, frozen=True, kw_only=True):
    """What an aggregation did."""

    run: str
    """The run."""
    predicted_graph: str
    """The predicted graph."""
    repository: str
    """The configuration of the repository."""
    dry_run: bool
    """Whether the database was to be left as it was."""
    incomplete: bool
    """Whether execution goes on."""
    shards: int
    """Shards into which the graph is divided."""
    shards_judged: int
    """Shards that the run came to."""
    quanta: int
    """Quanta of the graph."""
    quanta_judged: int
    """Quanta that the run came to."""
    quanta_reused: int
    """Quanta known from an earlier run."""
    quanta_held: int
    """Quanta that are left for another run."""
    quanta_unreadable: int
    """Quanta with files that can't be read."""
    statuses: dict[str, int]
    """Quanta by status: those of attempts, `BLOCKED` and `HELD`."""
    tasks: dict[str, dict[str, int]]
    """The same for each task, in pipeline order."""
    datasets_ingested: int
    """Datasets brought into the database; after a dry run, those that would have been."""
    datasets_skipped: int
    """Datasets that were there already."""
    datasets_again: int
    """Datasets that had gone from the database after they were committed, and are in it again."""
    datasets_stale: int
    """Datasets in the database that are judged not to belong there any more."""
    stale: list[str]
    """Ids of some of them."""
    datasets_conflicting: int
    """Datasets that the database refused."""
    conflicts: list[str]
    """Why it did, for the first ones."""
    unreadable: list[Unreadable]
    """The first ones of the files that can't be read."""
    unreadable_list: str | None
    """File that lists all of them."""
    warnings: list[str]
    """What looks as if files were not where they should be."""
    provenance_graph: str | None
    """Where the provenance graph is; null if none was written."""
    provenance_graph_size: int
    """Its size in bytes."""
    checkpoint: str | None
    """Where the checkpoint is; null if it was removed, as it is after a complete run."""


class GraphIngestion(Details, frozen=True, kw_only=True):
    """What an ingestion of a graph did."""

    run: str
    """The run."""
    repository: str
    """The configuration of the repository."""
    provenance_graph: str
    """Where its graph is."""
    datasets_forgotten: int
    """Datasets backed by files of their own that were taken out of the database."""
    datasets_ingested: int
    """Datasets that the graph backs now."""
    datasets_present: int
    """Datasets that it backed before."""
    datasets_conflicting: int
    """Datasets that the database refused; their files stay."""
    conflicts: list[str]
    """Some of them, with the reason."""
    files_deleted: int
    """Original files deleted."""
    files_missing: int
    """Original files that were not there."""
    files_failed: int
    """Original files that could not be deleted."""
    failures: list[str]
    """Some of them, with the reason."""
    files_changed: int
    """Original files that stay because they are not what the graph was made from."""
    changed: list[str]
    """Some of them."""
    directories_removed: int
    """Directories removed."""
    directories_left: list[str]
    """Directories that stay, with the reason."""


class Synthesis(Details, frozen=True, kw_only=True):
    """What was made of a synthetic run."""

    repository: str
    """The repository."""
    predicted_graph: str
    """The predicted graph."""
    quanta: int
    """Number of quanta."""
    tasks: dict[str, int]
    """Quanta of each task."""
    outcomes: dict[str, int]
    """Quanta by what became of them."""
    datasets: int
    """Number of datasets."""
    edges: int
    """Inputs and outputs of quanta."""


class Execution(Details, frozen=True, kw_only=True):
    """What `init-run`, `run` and `run-quanta` did."""

    run: str
    """The run."""
    predicted_graph: str
    """The predicted graph."""
    repository: str
    """The configuration of the repository."""
    quanta: int
    """Quanta that were to be executed."""
    fates: dict[str, dict[str, int]]
    """Quanta of each task by what became of them: `success`, `existing`, `failure`, `timeout`, `skipped`."""
    init_outputs_written: int
    """Init outputs written."""
    init_outputs_kept: int
    """Init outputs that were there."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended, and what it did."""

    format: str = FORMAT
    """The format."""
    version: int = VERSION
    """Its version."""
    command: str
    """Name of the command."""
    outcome: str
    """`complete`; `incomplete` (of a run that goes on, as was asked for); `dry run`; `held`; `failed`;
    `interrupted`; or `refused`."""
    exit_code: int
    """Exit code of the command."""
    error: str | None
    """What went wrong; null if nothing did."""
    started: str
    """When the command began: ISO 8601, UTC."""
    ended: str
    """When it ended."""
    elapsed: float
    """Seconds in between."""
    cpu: float
    """CPU seconds of all processes."""
    done: Details | None
    """What was done until the end; null if nothing was begun. Its fields depend on the command."""
    next: list[Command]
    """Commands that may come next."""
