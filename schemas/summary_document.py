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
    aggregation: Aggregation | None
    """What `run --aggregate` did besides; null without it, and if that had not begun."""


class Build(Details, frozen=True, kw_only=True):
    """What `build` did."""

    run: str
    """The output run."""
    pipeline: str
    """The pipeline."""
    repository: str
    """The configuration of the repository."""
    predicted_graph: str
    """Where the predicted graph is, or would be."""
    dry_run: bool
    """Whether no graph was to be written."""
    quanta: int
    """Quanta of the graph."""
    tasks: dict[str, int]
    """Quanta of each task, in pipeline order."""
    skipped: dict[str, int]
    """Quanta of each task that are left out because they have succeeded before."""
    without_work: dict[str, int]
    """Quanta of each task that are left out because they lack inputs."""
    datasets: int
    """Datasets of the graph."""
    edges: int
    """Pairs of quanta of which one reads what the other writes."""


class Pack(Details, frozen=True, kw_only=True):
    """What `pack` did."""

    run: str
    """The output run."""
    repository: str
    """The configuration of the repository."""
    predicted_graph: str
    """The predicted graph."""
    pack: str
    """The pack."""
    pack_size: int
    """Its size in bytes."""
    quanta: int
    """Quanta in the pack."""
    quanta_existing: int
    """Quanta that are left out because they have succeeded before."""
    quanta_blocked: int
    """Quanta that are left out because they need outputs of others that have not succeeded."""
    files: int
    """Files that the job needs."""
    bytes: int
    """Their size in bytes."""
    datasets_absent: int
    """Datasets that earlier quanta have succeeded without."""
    init_outputs: int
    """Files of init outputs among them."""
    payload: str
    """`files` if these are in the pack, or `none`."""


class Unpack(Details, frozen=True, kw_only=True):
    """What `unpack` did."""

    run: str
    """The output run."""
    directory: str
    """The repository of the node."""
    pack: str
    """The pack."""
    quanta: int
    """Quanta that are to be executed."""
    files: int
    """Files brought to their places."""
    files_present: int
    """Files that were there."""
    files_missing: int
    """Files that nobody has brought yet."""
    missing: list[str]
    """Names of the first of them."""
    registry: bool
    """Whether there is a database."""


class Collect(Details, frozen=True, kw_only=True):
    """What `collect` did."""

    run: str
    """The output run."""
    directory: str
    """The repository of the node."""
    pack: str
    """The pack."""
    pack_size: int
    """Its size in bytes."""
    statuses: dict[str, int]
    """Quanta by status: those of attempts, and `NOT_ATTEMPTED`."""
    files: int
    """Files in the pack."""
    bytes: int
    """Their size in bytes."""
    init_files: int
    """Files of init outputs among them."""
    quanta_held: int
    """Quanta that are not in the pack because files of theirs can't be used."""
    held: list[str]
    """The first of them, with the reason."""


class Deliver(Details, frozen=True, kw_only=True):
    """What `deliver` did."""

    run: str
    """The output run."""
    repository: str
    """The configuration of the repository."""
    predicted_graph: str
    """The predicted graph."""
    packs: int
    """Packs that were delivered."""
    quanta: int
    """Quanta whose files were brought."""
    quanta_present: int
    """Quanta whose files were there already."""
    quanta_not_attempted: int
    """Quanta that their jobs have not attempted."""
    quanta_withheld: int
    """Quanta that have failed, and of which nothing is in the packs."""
    quanta_outdone: int
    """Quanta of which the repository has a success, or a later attempt."""
    files: int
    """Files written."""
    bytes: int
    """Their size in bytes."""
    files_replaced: int
    """Files of earlier attempts that were replaced or removed."""
    replaced: list[str]
    """Some of them."""
    init_outputs_kept: list[str]
    """Some of the init outputs that differ from those of a pack, and stay as they are."""
    files_missing: int
    """Files that nobody has brought yet, whose quanta were not delivered."""
    missing: list[str]
    """Names of some of them."""
    files_conflicting: int
    """Files that are in the way, whose quanta were not delivered."""
    conflicts: list[str]
    """Some of them."""
    datasets_ingested: int
    """Datasets brought into the database."""
    datasets_skipped: int
    """Datasets that were in it."""


class Transfer(Details, frozen=True, kw_only=True):
    """What `subset` did."""

    source: str
    """The configuration of the repository that things come from."""
    destination: str
    """The configuration of the repository that they go to."""
    files: str
    """What becomes of files, as `--files` says."""
    dry_run: bool
    """Whether nothing was to be written; then all numbers are those that a transfer would have."""
    datasets_selected: int
    """Datasets that were selected."""
    datasets_added: int
    """Datasets that are new in the destination."""
    datasets_present: int
    """Datasets that were there already."""
    datasets_repaired: int
    """Those of them that had no file, and have one now."""
    datasets_replaced: int
    """Datasets of the destination that were deleted, as newer ones have taken their places."""
    datasets_skipped: int
    """Datasets that were left out, as a policy says."""
    datasets_without_file: int
    """Datasets that have no file in the source."""
    datasets_staying: int
    """Datasets that were to be moved and keep their files, as the destination has none of its own."""
    runs: dict[str, dict[str, int]]
    """Datasets added, by RUN collection and dataset type."""
    fates: dict[str, dict[str, dict[str, int]]]
    """After a dry run, or if something stands in the way: datasets by RUN collection, dataset type and what
    would become of them: `added`, `present`, `left out`, `conflicting`; and those `without record` or
    `without file`."""
    bytes_free: int | None
    """After a dry run: bytes that are free where files go, if that is known."""
    dataset_types_added: int
    """Dataset types registered."""
    collections_added: int
    """Collections registered."""
    chains_changed: int
    """Chains that were given their children."""
    records_added: int
    """Dimension records inserted."""
    records_present: int
    """Dimension records that were there already."""
    records_differing: int
    """Those of them with other values, which stay as they are."""
    associations_added: int
    """Tags and certifications added."""
    associations_present: int
    """Tags and certifications that were there already."""
    associations_skipped: int
    """Tags and certifications left out, as a policy says."""
    files_brought: int
    """Files linked or copied; one that datasets share counts once."""
    files_present: int
    """Files that were in their places already."""
    bytes_brought: int
    """Bytes of those that were brought, as far as their sizes are recorded."""
    replaced_ids: dict[str, str]
    """For each dataset that was left out since another one has its data ID: the id of that."""
    old_ids: dict[str, int]
    """Datasets with new ids whose files may tell of the old ones, by formatter."""
    notes: list[str]
    """What should be known besides."""
    conflicts: dict[str, int]
    """What stands in the way, by kind."""


class Staging(Details, frozen=True, kw_only=True):
    """What `stage` did."""

    policy: str
    """The policy."""
    repository: str
    """The configuration of the repository."""
    dry_run: bool
    """Whether nothing was to be done."""
    jobs: int
    """Data IDs, with one job each."""
    fates: dict[str, int]
    """Jobs by what became of them: `done`, `lacking` (done, but not all items were there to be written),
    `existing`, `failed`; `pending` in a dry run."""
    failures: list[str]
    """Why jobs have failed, for the first ones."""


class Confirm(Details, frozen=True, kw_only=True):
    """What `confirm` did."""

    repository: str
    """The configuration of the repository."""
    manifest: str
    """The manifest."""
    files: int
    """Files of the manifest that were looked at."""
    datasets_recorded: int
    """Datasets whose files are recorded now."""
    datasets_present: int
    """Datasets whose files were recorded before."""
    files_waiting: int
    """Files that are not there, or not right."""
    problems: list[str]
    """Some of these, with the reason."""
    rest: str | None
    """Manifest of these; null if there are none."""


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
