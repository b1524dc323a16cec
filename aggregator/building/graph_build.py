"""Builds predicted graphs: the main function."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Sequence

from aggregator import repository_files
from aggregator.building import build_summary, graph_file, overlap_tables
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import paths
from aggregator.butler.registry import registry
from aggregator.execution.graph_building import graph_builder
from aggregator.execution.pipelines import configured_pipeline
from aggregator.schemas import argument_types, output_kinds, output_paths
from aggregator.storage import errors, local_files, uris

_log = logging.getLogger(__name__)


def build(
    pipeline: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    graph_path: str | os.PathLike[str],
    *,
    inputs: Sequence[str],
    output_run: str,
    output_chain: str | None = None,
    data_query: str = "",
    skip_existing_in: Sequence[str] = (),
    clobber_outputs: bool = False,
    overlaps: str | os.PathLike[str] | None = None,
    allow_python_config: bool = False,
    dry_run: bool = False,
    command: str = "aggregator.build",
    outputs: Collection[output_paths.Output] = (),
) -> build_summary.BuildSummary:
    """Build the predicted graph of a pipeline: quanta, and the datasets that they read and write.

    The repository is only read. The graph appears complete, or not at all.

    Parameters
    ----------
    pipeline
        Its YAML file; ``file.yaml#label,...`` for a part of it.
    repository
        The repository.
    graph_path
        Where the graph goes; nothing may be there.
    inputs
        Input collections, in the order in which they are searched.
    output_run
        RUN collection of all outputs.
    output_chain
        CHAINED collection that is to begin with it, once the run is aggregated.
    data_query
        Expression that data IDs have to fulfil, like ``instrument = 'Cam' AND visit IN (1..9)``.
    skip_existing_in
        Collections with outputs of quanta that need not run again.
    clobber_outputs
        Whether outputs that are in the run are to be replaced.
    overlaps
        Table of what overlaps on the sky: a CSV or ECSV file with a column for each dimension.
    allow_python_config
        Whether Python code in configurations is run.
    dry_run
        Whether to find everything out, and to write nothing.
    command
        What the header of the graph tells of how it was made.
    outputs
        Files that are written afterwards; looked at before anything is done.

    Returns
    -------
    summary
        How many quanta there are, and why not more.

    Raises
    ------
    RefusedError
        If pipeline, repository and the rest do not fit together, need what this version can't do, or
        something is in the place of the graph.
    AggregatorError
        If the repository can't be read, or the graph not be written.
    """
    argument_types.check(build, locals())
    began = time.monotonic()
    path, config = _place(os.fspath(graph_path)), repository_config.load(os.fspath(repository))
    _check_names(inputs, output_run, output_chain)
    protection = repository_files.protection(config, output_run)
    output_paths.check(path, output_kinds.Kind.PREDICTED_GRAPH, protection)
    output_paths.check_writeable(os.path.dirname(path))
    output_paths.check_all(outputs, _with(protection, path))
    ready = configured_pipeline.load(os.fspath(pipeline), allow_python=allow_python_config)
    pairs = None
    if overlaps is not None:
        with registry.open_repository(config, writeable=False) as source:
            pairs = overlap_tables.read(os.fspath(overlaps), source.universe)
    request = graph_builder.BuildRequest(
        tuple(inputs), output_run, data_query, tuple(skip_existing_in), clobber_outputs, pairs
    )
    parts, counts = graph_builder.build(ready, config, request)
    _warn_of_files(config, output_run)
    edges = parts.edges()
    if not dry_run:
        output_paths.check_again(path, output_kinds.Kind.PREDICTED_GRAPH, protection)
        origin = graph_file.Origin(request, output_chain, command)
        with errors.explained():
            try:
                graph_file.write(path, parts, edges, origin)
            except FileExistsError:
                # Another build was faster.
                output_paths.check_again(path, output_kinds.Kind.PREDICTED_GRAPH, protection)
                raise
    return build_summary.BuildSummary(
        output_run,
        os.fspath(pipeline),
        config.path,
        path,
        dry_run,
        {label: len(quanta) for label, quanta in parts.skeleton.quanta.items()},
        dict(counts.n_skipped),
        dict(counts.n_without_work),
        counts.n_kept,
        len(parts.datasets()) + 1,
        len(edges),
        time.monotonic() - began,
    )


def _warn_of_files(config: repository_config.RepositoryConfig, run: str) -> None:
    """Warn of files of the run that the database does not know: those of a graph that is not aggregated."""
    with registry.open_repository(config, writeable=False) as source:
        if source.collections.find(run) is not None:
            return
    for store in config.datastores:
        place = store.files.location(paths.directory_of_run(run))
        if not uris.is_remote(place) and local_files.is_directory(place):
            _log.warning(
                "%s: there are files of run %s, which the database does not know. If they are of another "
                "graph, "
                "aggregate that, or choose another output run",
                place,
                run,
            )


def _place(path: str) -> str:
    if uris.is_remote(path):
        raise errors.RefusedError(f"{path}: a graph is built as a local file; give a path, and copy it then.")
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise errors.RefusedError(f"{path}: its directory does not exist. Choose another path.")
    return os.path.abspath(path)


def _with(protection: output_paths.Protection, path: str) -> output_paths.Protection:
    files = {**protection.files, path: "the graph"}
    return output_paths.Protection(files, protection.directories, protection.roots)


def _check_names(inputs: Sequence[str], output_run: str, output_chain: str | None) -> None:
    if isinstance(inputs, str) or not inputs:
        raise errors.RefusedError("inputs must be names of input collections, at least one.")
    if not output_run.strip():
        raise errors.RefusedError("output_run must be the name of a RUN collection.")
    if not {"", ".", ".."}.isdisjoint(output_run.split("/")):
        raise errors.RefusedError(
            f"{output_run!r} can't be an output run: its files would not lie under that path. Leave out "
            "empty parts, '.' and '..'."
        )
    paths.directory_of_run(output_run)
    if output_chain == output_run:
        raise errors.RefusedError(f"{output_run!r} can't be both the output run and the chain of outputs.")
