"""What a job needs, written as the middleware imports it; and read from there (transfer.md section 7.9)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import yaml

from aggregator.butler.registry import registry
from aggregator.butler.transfers import (
    dataset_selection,
    export_target,
    loose_files,
    new_repository,
    workplace,
    zip_target,
)
from aggregator.console import interruption, progress
from aggregator.execution import graph_context
from aggregator.schemas import bundle, output_paths
from aggregator.schemas.graphs import predicted
from aggregator.storage import durable_files, errors, fault_points, local_files
from aggregator.transfer import (
    export_places,
    graph_slice,
    job_bundle,
    job_inputs,
    job_summaries,
    node_layout,
    repository_subset,
    transfer_config,
)

_EVERYTHING = dataset_selection.Selection(collections=("*",))


def write(
    path: str,
    pack_format: str,
    context: graph_context.GraphContext,
    inputs: job_inputs.JobInputs,
    part: graph_slice.GraphSlice,
    done: job_summaries.PackSummary,
    shown: progress.Progress,
    stopping: interruption.Interruption,
) -> None:
    """Write the inputs of a job: complete and durable, or not at all.

    Parameters
    ----------
    path
        Where they go; nothing is there.
    pack_format
        "butler-yaml" for a directory with an export, in which is the graph, too; or "butler-zip".
    context
        Graph and repository.
    inputs
        The inputs.
    part
        The part of the graph with the quanta of the job.
    done
        What was done.
    shown
        Shows progress.
    stopping
        Tells whether to stop.

    Raises
    ------
    RefusedError
        If the format can't hold a dataset.
    AggregatorError
        If something can't be read or written.
    """

    def tick() -> None:
        stopping.check()
        shown.beat(lambda: f"{target.n_datasets} datasets")

    with (
        workplace.Workplace() as place,
        registry.open_repository(context.config, writeable=False) as source,
    ):
        place.open_in(os.path.dirname(path))
        temporary = os.path.join(place.directory, "job")
        target: export_target.ExportTarget | zip_target.ZipTarget
        if pack_format == "butler-yaml":
            with durable_files.writing(temporary):
                os.mkdir(temporary)
            part.write(os.path.join(temporary, node_layout.GRAPH))
            seed = yaml.safe_dump(new_repository.settings(context.config), sort_keys=False).encode()
            dimensions = json.dumps(source.dimension_config, indent=1).encode()
            for name, content in ((export_places.SEED, seed), (export_places.DIMENSIONS, dimensions)):
                durable_files.write_atomically(os.path.join(temporary, name), [content])
            target = export_target.ExportTarget(temporary, tick)
        else:
            target = zip_target.ZipTarget(temporary, tick)
        job = job_bundle.JobBundle(context, inputs, source)
        bundle.transfer(loose_files.LooseFiles(job, place, frees_graphs=True), target)
        shown.advance("files", len(inputs.files))
        done.n_datasets = target.n_datasets
        done.pack_size = _size(temporary)
        fault_points.reached("exported")
        with durable_files.writing(path):
            if local_files.is_taken(path):
                raise errors.RefusedError(
                    f"{path}: something has come there meanwhile, and is not replaced. Choose another path."
                )
            os.rename(temporary, path)
            durable_files.sync_directory(os.path.dirname(path))


def _size(path: str) -> int:
    """Return the bytes of a file, or of all files below a directory, whose names are made durable."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    total = 0
    for directory, _, names in os.walk(path):
        total += sum(os.path.getsize(os.path.join(directory, name)) for name in names)
        with durable_files.writing(directory):
            durable_files.sync_directory(directory)
    return total


def unpack(
    path: str,
    directory: str,
    config: transfer_config.TransferConfig,
    *,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> job_summaries.UnpackSummary:
    """Make a repository of an export, or bring it into one that is there; parameters are those of `subset`.

    Raises
    ------
    AggregatorError
        As `subset` does.
    """
    report = repository_subset.subset(
        path, directory, _EVERYTHING, config, on_progress=on_progress, cancellation=cancellation,
        outputs=outputs,
    )  # fmt: skip
    done = job_summaries.UnpackSummary(
        "", directory, path, 0, n_files=report.done.datasets_added, n_present=report.done.datasets_present,
        has_registry=True, elapsed=report.elapsed, phases=report.phases,
    )  # fmt: skip
    graph = os.path.join(path, node_layout.GRAPH)
    if local_files.is_directory(path) and local_files.is_taken(graph):
        with errors.after_changes(), predicted.PredictedGraph(graph) as opened:
            done.run, done.n_quanta = opened.header.output_run, len(opened.address_table().ids)
        place = os.path.join(directory, node_layout.GRAPH)
        if not local_files.is_taken(place):
            durable_files.write_atomically(place, local_files.read_pieces(graph))
    return done
