"""What the user asked for, checked: everything that is refused is refused here, before any work."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from aggregator import repository_files
from aggregator.aggregation import checkpoints, configuration, crew
from aggregator.butler import run_lock
from aggregator.butler.configuration import repository_config as butler_config
from aggregator.schemas import output_kinds, output_paths
from aggregator.schemas.graphs import container, predicted
from aggregator.storage import errors, machine_trouble, opening, uris

if TYPE_CHECKING:
    from aggregator.schemas.jobs import growing_logs

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A checked request; a context manager that closes what it opened."""

    config: configuration.AggregatorConfig
    """Options."""

    graph: predicted.PredictedGraph
    """The predicted graph, open."""

    butler_path: str
    """The repository, as it was given."""

    repository: butler_config.RepositoryConfig
    """Its configuration."""

    output: str | None
    """Where the provenance graph goes; nothing if none is written."""

    protection: output_paths.Protection
    """What must not be written."""

    checkpoint: checkpoints.Checkpoint
    """The checkpoint, locked; what it holds has not been looked at."""

    open_things: contextlib.ExitStack
    """Closes graph and checkpoint."""

    is_followed: bool = False
    """Whether somebody follows the campaign, who knows when it is over."""

    logs: growing_logs.GrowingLogs | None = None
    """What he knows of records of jobs."""

    def check_idle(self) -> None:
        """Make sure that nobody executes quanta of which all would be recorded now.

        Raises
        ------
        InUseError
            If a process does.
        """
        if not (self.config.incomplete or self.config.dry_run or self.is_followed):
            run_lock.check_idle(self.graph.header.output_run, self.repository.datastores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open_things.close()


def check(
    predicted_path: str,
    butler_path: str,
    config: configuration.AggregatorConfig,
    outputs: Sequence[output_paths.Output] = (),
) -> Request:
    """Return a request that can be carried out, together with what the caller is going to write.

    Raises
    ------
    RefusedError
        If it can't; the message says why.
    """
    configuration.check(config)
    with contextlib.ExitStack() as open_things:
        graph = open_things.enter_context(predicted.PredictedGraph(predicted_path))
        _check_graph(graph)
        repository = butler_config.load(butler_path)
        repository.check_writeable()
        output = _check_output(config)
        directory = None
        if config.checkpoint:
            directory = checkpoints.directory_for(
                graph.path, output, configuration.path_text(config.checkpoint_dir)
            )
        protection = _check_paths(config, graph, repository, output, directory)
        output_paths.check_all(outputs, _with_outputs(protection, config, output))
        held = open_things.enter_context(_open_checkpoint(directory))
        _make_directories(config, held)
        return Request(
            config, graph, butler_path, repository, output, protection, held, open_things.pop_all()
        )


def _open_checkpoint(directory: str | None) -> checkpoints.Checkpoint:
    if directory is None:
        return checkpoints.Checkpoint(checkpoints.temporary_directory(), temporary=True)
    return checkpoints.Checkpoint(directory)


def _check_paths(
    config: configuration.AggregatorConfig,
    graph: predicted.PredictedGraph,
    repository: butler_config.RepositoryConfig,
    output: str | None,
    directory: str | None,
) -> output_paths.Protection:
    """Return what must stay as it is; nothing that is going to be written may be of that."""
    log_directory = configuration.path_text(config.worker_log_dir)
    profile_directory = configuration.path_text(config.worker_profile_dir)
    logs = _worker_files(log_directory, "log", config)
    profiles = _worker_files(profile_directory, "profile", config) if config.n_processes > 1 else []
    outputs = [] if output is None else [output]
    owned = repository_files.protection(repository, graph.header.output_run, outputs)
    directories = dict(owned.directories)
    if directory is not None:
        # A graph may lie anywhere, and what is beside it with it.
        above = output_paths.Protection() if config.checkpoint_dir is None else owned
        output_paths.check_directory(os.path.dirname(directory), above)
        directories[directory] = "the checkpoint"
    protection = msgspec.structs.replace(
        owned,
        files={
            **owned.files,
            uris.absolute(graph.path): "the predicted graph",
            **{uris.absolute(os.fspath(path)): "a file with records of jobs" for path in config.job_records},
        },
        directories=directories,
    )
    for made in (log_directory if logs else None, profile_directory if profiles else None):
        if made is not None:
            output_paths.check_writeable(made)
            _check_apart(made, outputs)
    for paths, kind in (
        (outputs, output_kinds.Kind.GRAPH),
        (logs, output_kinds.Kind.LOG),
        (profiles, output_kinds.Kind.PROFILE),
    ):
        for path in paths:
            output_paths.check(path, kind, protection)
    repository_files.check_logs(protection)
    return protection


def _with_outputs(
    protection: output_paths.Protection, config: configuration.AggregatorConfig, output: str | None
) -> output_paths.Protection:
    """Return what must stay as it is, with what an aggregation writes itself."""
    written = [
        *_worker_files(config.worker_log_dir, "log", config),
        *_worker_files(config.worker_profile_dir, "profile", config),
        *([] if output is None else [output]),
    ]
    own = dict.fromkeys(written, "another output of this command")
    return msgspec.structs.replace(protection, files={**protection.files, **own})


def _check_apart(directory: str, outputs: list[str]) -> None:
    """Refuse a directory that would be made where a file goes."""
    place = os.path.realpath(directory)
    for output in outputs:
        real = os.path.realpath(output)
        if place == real or place.startswith(os.path.join(real, "")):
            raise errors.RefusedError(
                f"{directory}: is where the graph goes ({output}). Choose another path."
            )


def _worker_files(
    directory: str | os.PathLike[str] | None, ending: str, config: configuration.AggregatorConfig
) -> list[str]:
    if directory is None:
        return []
    return [os.path.join(directory, f"{name}.{ending}") for name in crew.names(config.n_processes)]


def _make_directories(config: configuration.AggregatorConfig, held: checkpoints.Checkpoint) -> None:
    """Make the directories for what workers write."""
    for name in ("worker_log_dir", "worker_profile_dir"):
        directory = getattr(config, name)
        try:
            if directory is not None:
                os.makedirs(directory, exist_ok=True)
        except OSError as exc:
            held.undo()
            text = f"{name} {directory}: can't make it ({exc.strerror})"
            raise machine_trouble.refusal(str(directory), exc, text) from exc


def _check_graph(graph: predicted.PredictedGraph) -> None:
    if not graph.header.output_run:
        raise errors.RefusedError(f"{graph.path}: names no output run")
    silent = [task.label for task in graph.pipeline.tasks if task.log_type is None]
    if silent:
        raise errors.RefusedError(
            f"{graph.path}: task {', '.join(silent)} has no log output, but what happened to a quantum is "
            "read from its log. Build the graph with saveLogOutput enabled for it."
        )


def _check_output(config: configuration.AggregatorConfig) -> str | None:
    """Return where the graph goes, an absolute path or a URI; nothing if none is written."""
    if config.output_path is None:
        return None
    if config.incomplete:
        _log.warning("No graph is written in incomplete mode; the output path has no effect")
        return None
    given = os.fspath(config.output_path)
    path = uris.absolute(given if uris.is_remote(given) else container.local_path(given))
    opening.locate(path)[0].check_writeable()
    return path
