"""The function `pack`: what a job needs of a repository, in one file (transfer.md section 9, step 1)."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Sequence

import msgspec

from aggregator import repository_files
from aggregator.butler.configuration import repository_config
from aggregator.console import interruption, progress
from aggregator.execution import graph_context, ingested_quanta
from aggregator.schemas import argument_types, output_kinds, output_paths, pack_writer, packs
from aggregator.storage import errors, local_files, uris
from aggregator.transfer import (
    earlier_pack,
    graph_slice,
    job_inputs,
    job_selection,
    job_summaries,
    node_layout,
    payloads,
)


def pack(
    repository: str | os.PathLike[str],
    graph_path: str | os.PathLike[str],
    pack_path: str | os.PathLike[str],
    *,
    quanta: Collection[uuid.UUID] | None = None,
    payload: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    registry: bool = False,
    pack_format: str = packs.FORMATS[0],
    interactive_status: bool | None = None,
    log_status_interval: float | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> job_summaries.PackSummary:
    """Put all that some quanta need into one file, for a host that sees nothing of the repository.

    Quanta that have succeeded before are left out, and so are those that need outputs of quanta which have
    not, and which are not packed themselves. The repository is only read.

    Parameters
    ----------
    repository
        The repository: its directory, its configuration file, or its alias.
    graph_path
        The predicted graph.
    pack_path
        Where the pack goes; an earlier one of a job is replaced.
    quanta
        Ids of the quanta; all by default.
    payload
        Whether input files are in the pack ("files", the default without a manifest), or are brought by
        another system ("none").
    manifest
        Where a list of the input files goes, for that system.
    registry
        Whether the node gets a database, too, with what the repository's knows of the datasets of the job; no
        execution of quanta needs it.
    pack_format
        How it is written: a pack of ours ("pack"), or what the middleware imports, a directory with an export
        ("butler-yaml") or an archive ("butler-zip").
    interactive_status
        Whether to show progress bars; by default if the terminal is one.
    log_status_interval
        Seconds between progress messages where no bars are shown; 60 by default.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it from another thread, or from `on_progress`.
    outputs
        Files that the caller is going to write: refused if they would replace what must stay.

    Returns
    -------
    summary
        What is in the pack.

    Raises
    ------
    RefusedError
        If graph, repository and quanta do not fit together, a file is missing that the graph has a record of,
        or the pack can't be written there.
    Interrupted
        If a signal or the cancellation asked to stop; nothing is left behind.
    AggregatorError
        If none of the quanta can be executed, or something can't be read or written.
    """
    argument_types.check(pack, locals())
    payloads.check_choice("pack_format", pack_format, packs.FORMATS)
    listing, where = payloads.manifest_output(manifest, payload)
    is_pack = pack_format == packs.FORMATS[0]
    if not is_pack and (registry or where != "files"):
        raise errors.RefusedError(
            f"What the middleware imports ({pack_format}) has all files in it, and tells what the database "
            "knows: leave out registry, manifest and payload."
        )
    began = time.monotonic()
    path = payloads.local(pack_path, "a pack")
    with (
        interruption.Interruption(cancellation) as stopping,
        graph_context.GraphContext(os.fspath(graph_path), os.fspath(repository)) as context,
        errors.explained(),
    ):
        protection = _protection(context, path)
        payloads.check_pack(path, protection, is_new=not is_pack)
        output_paths.check_all([*outputs, *([listing] if listing else [])], _with(protection, path))
        if is_pack:
            earlier_pack.check_job(path)
        ingested_quanta.refuse(context, is_whole=True)
        selection = job_selection.select(context, quanta)
        inputs = job_inputs.JobInputs(context)
        inputs.find(lambda: selection.blocks(context.graph))
        done = _summary(context, path, selection, inputs, where)
        shown = progress.Progress(
            {"files": len(inputs.files)}, began, log_status_interval, interactive_status, on_progress, done
        )
        with shown:
            shown.phase("packing")
            if is_pack:
                _write(path, context, selection, inputs, done, protection, shown, stopping, registry)
            else:
                # Whoever wants no database needs none of its libraries.
                from aggregator.transfer import exported_job

                part = graph_slice.GraphSlice(context.graph, selection.table, selection.rows, inputs.records)
                exported_job.write(path, pack_format, context, inputs, part, done, shown, stopping)
            if listing is not None:
                payloads.write_manifest(listing, done.repository, (file.listed() for file in inputs.files))
        done.phases = shown.seconds
        done.elapsed = time.monotonic() - began
    return done


def _summary(
    context: graph_context.GraphContext,
    path: str,
    selection: job_selection.Selection,
    inputs: job_inputs.JobInputs,
    payload: str,
) -> job_summaries.PackSummary:
    return job_summaries.PackSummary(
        context.graph.header.output_run, context.config.path, context.graph.path, path,
        n_quanta=len(selection.rows), n_existing=selection.n_existing, n_blocked=selection.n_blocked,
        n_files=len(inputs.files), n_bytes=sum(file.size for file in inputs.files), n_absent=inputs.n_absent,
        n_init_outputs=inputs.n_init_outputs, payload=payload,
    )  # fmt: skip


def _protection(context: graph_context.GraphContext, path: str) -> output_paths.Protection:
    protection = repository_files.protection(context.config, context.graph.header.output_run)
    repository_files.check_logs(protection)
    graph = uris.absolute(context.graph.path)
    return _with(protection, graph, "the predicted graph")


def _with(
    protection: output_paths.Protection, path: str, description: str = "the pack"
) -> output_paths.Protection:
    return msgspec.structs.replace(protection, files={**protection.files, path: description})


def _write(
    path: str,
    context: graph_context.GraphContext,
    selection: job_selection.Selection,
    inputs: job_inputs.JobInputs,
    done: job_summaries.PackSummary,
    protection: output_paths.Protection,
    shown: progress.Progress,
    stopping: interruption.Interruption,
    registry: bool,
) -> None:
    identity = context.graph.identity(selection.table)

    def look() -> None:
        output_paths.check_again(path, output_kinds.Kind.PACK, protection)

    def files() -> Iterator[packs.InputFile]:
        for file in inputs.files:
            stopping.check()
            checksum = ""
            if done.payload == "files":
                member = out.add_file(file.name, payloads.pieces(file.artifact.store, file.artifact.key))
                payloads.check_size(file.artifact, member.size, file.size)
                checksum = member.checksum
            shown.advance("files", 1)
            shown.beat(lambda: f"{out.size / 1e6:.0f} MB")
            yield file.packed(checksum)

    with pack_writer.Writer(path, look) as out:
        # Rows are known after their files are written.
        rows = list(files())
        with tempfile.TemporaryDirectory() as directory:
            part = os.path.join(directory, packs.GRAPH)
            graph_slice.GraphSlice(context.graph, selection.table, selection.rows, inputs.records).write(part)
            out.add(packs.GRAPH, local_files.read_pieces(part))
        out.add_table(packs.INPUTS, rows)
        if registry:
            # Whoever wants no database needs none of its libraries.
            from aggregator.transfer import node_registry

            out.add_table(packs.BATCHES, node_registry.batches(context, inputs), rows_at_once=1)
        out.finish(_manifest(context, identity, done))
    done.pack_size = os.path.getsize(path)


def _manifest(
    context: graph_context.GraphContext, identity: str, done: job_summaries.PackSummary
) -> packs.Manifest:
    return packs.Manifest(
        kind="job",
        origin=packs.Origin(
            identity,
            uris.absolute(context.graph.path),
            context.graph.header.output_run,
            uris.absolute(context.config.path),
        ),
        made_by=payloads.program(),
        created=payloads.now(),
        n_quanta=done.n_quanta,
        payload=done.payload,
        head=node_layout.head(context.config, context.graph.pipeline.universe),
        storage_classes=repository_config.storage_class_section(context.config.path),
    )
