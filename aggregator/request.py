"""What the user asked for, checked: everything that is refused is refused here, before any work."""

import contextlib
import dataclasses
import logging
import os
from typing import Self

from aggregator import checkpoints, configuration
from butler import config as butler_config
from schemas import container, errors, predicted

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

    checkpoint: checkpoints.Checkpoint
    """The checkpoint, locked; what it holds has not been looked at."""

    open_things: contextlib.ExitStack
    """Closes graph and checkpoint."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open_things.close()


def check(predicted_path: str, butler_path: str, config: configuration.AggregatorConfig) -> Request:
    """Return a request that can be carried out.

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
        output = _check_output(config)
        held = open_things.enter_context(_open_checkpoint(graph, config, output))
        return Request(config, graph, butler_path, repository, output, held, open_things.pop_all())


def _open_checkpoint(
    graph: predicted.PredictedGraph, config: configuration.AggregatorConfig, output: str | None
) -> checkpoints.Checkpoint:
    if not config.checkpoint:
        return checkpoints.Checkpoint(checkpoints.temporary_directory(), temporary=True)
    return checkpoints.Checkpoint(checkpoints.directory_for(graph.path, output, config.checkpoint_dir))


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
    """Return where the graph goes, absolute; nothing if none is written."""
    if config.output_path is None:
        return None
    if config.incomplete:
        _log.warning("No graph is written in incomplete mode; the output path has no effect")
        return None
    path = os.path.abspath(container.local_path(config.output_path))
    directory = os.path.dirname(path)
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
        raise errors.RefusedError(f"{directory}: can't write there; the output's directory must exist")
    if os.path.isdir(path):
        raise errors.RefusedError(f"{path}: is a directory, the output must be a file")
    return path
