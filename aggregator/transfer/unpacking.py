"""The function `unpack`: the repository of a node, made of the pack of a job (transfer.md 9, step 3)."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence

import yaml

from aggregator.butler.configuration import yaml_files
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, output_paths, pack_reader, packs
from aggregator.schemas.graphs import predicted
from aggregator.storage import durable_files, errors, fault_points, local_files, local_transfers, uris
from aggregator.transfer import export_places, job_summaries, node_job, node_layout, payloads


def unpack(
    pack_path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    staged: str | os.PathLike[str] | None = None,
    interactive_status: bool | None = None,
    log_status_interval: float | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
    outputs: Sequence[output_paths.Output] = (),
) -> job_summaries.UnpackSummary:
    """Make a repository of the pack of a job, in which its graph can be executed, without a database.

    The same can be done again: what is there is kept.

    Parameters
    ----------
    pack_path
        The pack; or an export of the middleware, which becomes a repository with a database.
    directory
        Where the repository goes: a directory that is new or empty, or in which the same pack was unpacked
        before.
    staged
        Directory to which another system has brought input files under their flat names; those that are not
        in the pack are linked from there.
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
        What was done.

    Raises
    ------
    RefusedError
        If the pack is none of a job, or the directory can't be used; nothing was changed.
    Interrupted
        If a signal or the cancellation asked to stop; calling again goes on.
    AggregatorError
        If files are missing, or the pack is damaged; `summary` of the error says which are missing.
    """
    argument_types.check(unpack, locals())
    began = time.monotonic()
    root = payloads.local(directory, "a node")
    if export_places.file_of(os.fspath(pack_path)) is not None:
        if staged is not None:
            raise errors.RefusedError(
                f"{pack_path}: an export has all its files beside it. Leave out staged."
            )
        # Whoever wants no database needs none of its libraries.
        from aggregator.transfer import exported_job, transfer_config

        config = transfer_config.TransferConfig(
            registry="full", interactive_status=interactive_status, log_status_interval=log_status_interval
        )
        return exported_job.unpack(
            os.fspath(pack_path), root, config, on_progress=on_progress, cancellation=cancellation,
            outputs=outputs,
        )  # fmt: skip
    with (
        contextlib.ExitStack() as stack,
        interruption.Interruption(cancellation) as stopping,
        pack_reader.Pack(uris.absolute(os.fspath(pack_path))) as pack,
        errors.explained(),
    ):
        job = node_job.of_pack(pack)
        rows = _checked_rows(pack)
        _check_graph(pack)
        output_paths.check_all(
            outputs, output_paths.Protection(directories={root: "the repository of the node"})
        )
        stack.enter_context(node_job.claimed(root, job))
        done = job_summaries.UnpackSummary(job.origin.run, root, pack.path, pack.manifest.n_quanta)
        shown = progress.Progress(
            {"files": len(rows)}, began, log_status_interval, interactive_status, on_progress, done
        )
        with shown:
            shown.phase("unpacking")
            node = _Node(pack, root, None if staged is None else os.path.abspath(os.fspath(staged)), done)
            node.write_graph()
            for row in rows:
                stopping.check()
                node.bring(row)
                shown.advance("files", 1)
                shown.beat(lambda: f"{done.n_files} files")
            node.finish(job)
        done.phases, done.elapsed = shown.seconds, time.monotonic() - began
        _check_complete(done, staged is not None)
    return done


def _checked_rows(pack: pack_reader.Pack) -> list[packs.InputFile]:
    """Return the files that the job needs, all looked at: none may lead out of the node."""
    roots = node_layout.roots(pack.manifest.head) if pack.manifest.head else {}
    rows = list(pack.table(packs.INPUTS, packs.InputFile))
    for row in rows:
        is_usual = packs.is_flat_name(row.name) and row.datastore in roots and node_layout.is_inside(row.path)
        if not is_usual or row.path.partition("/")[0] in roots.values():
            raise errors.RefusedError(
                f"{pack.path}: a file would go to {row.path!r} of {row.datastore!r}, where no job has "
                "inputs. Nothing was unpacked. Find out who has made this pack."
            )
    return rows


def _check_graph(pack: pack_reader.Pack) -> None:
    """Refuse a pack whose graph can't be executed, or is not that which it says."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, packs.GRAPH)
        durable_files.write_atomically(path, pack.graph(), sync=False)
        try:
            with predicted.PredictedGraph(path) as graph:
                graph.init_quanta()
                table = graph.address_table()
                n_quanta = sum(1 for _ in graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0]))
                found = graph.header.output_run, n_quanta
            with zipfile.ZipFile(path) as archive:
                # Not all of it was read.
                if damaged := archive.testzip():
                    raise errors.FormatError(path, damaged, "is damaged")
        except errors.MachineError:
            raise
        except errors.AggregatorError as exc:
            reason = str(exc).replace(path, packs.GRAPH)
            raise errors.RefusedError(
                f"{pack.path}: its graph can't be used ({reason}). Nothing was unpacked. Make the pack again."
            ) from exc
    expected = pack.manifest.origin.run, pack.manifest.n_quanta
    if found != expected:
        raise errors.RefusedError(
            f"{pack.path}: says that it is for {expected[1]} quanta of run {expected[0]!r}, and its graph "
            f"has {found[1]} of run {found[0]!r}. Nothing was unpacked. Find out who has made this pack."
        )


def _check_complete(done: job_summaries.UnpackSummary, is_staged: bool) -> None:
    if not done.missing:
        return
    advice = "Bring them there" if is_staged else "Say with --staged where they are"
    error = errors.AggregatorError(
        f"{done.directory}: {len(done.missing)} input files are missing, the first is {done.missing[0]}. "
        f"{advice}, and run the same command again."
    )
    error.summary = done
    raise error


class _Node:
    """The repository of a node in the making.

    Parameters
    ----------
    pack
        The pack.
    root
        Its directory.
    staged
        Where input files are that are not in the pack.
    done
        What was done.
    """

    def __init__(
        self, pack: pack_reader.Pack, root: str, staged: str | None, done: job_summaries.UnpackSummary
    ) -> None:
        self._pack = pack
        self._root = root
        self._source = payloads.Source(pack, staged)
        self._done = done
        assert pack.manifest.head is not None
        self._roots = node_layout.roots(pack.manifest.head)
        self._init_files: dict[str, str] = {}
        self._is_complete = local_files.is_taken(os.path.join(root, yaml_files.REPOSITORY))

    def write_graph(self) -> None:
        """Write the graph, if it is not there."""
        path = os.path.join(self._root, node_layout.GRAPH)
        if not local_files.is_taken(path):
            durable_files.write_atomically(path, self._pack.graph())

    def bring(self, row: packs.InputFile) -> None:
        """Bring a file to its place, if it is not there."""
        path = os.path.join(self._root, self._roots[row.datastore], row.path)
        is_there = local_files.is_taken(path)
        if is_there:
            # What was executed there may have replaced logs.
            if not self._is_complete:
                self._check(path, row)
            self._done.n_present += 1
        elif not self._place(path, row):
            self._done.missing.append(row.name)
            return
        fault_points.reached("unpacked")
        self._done.n_files += not is_there
        if row.is_init_output:
            self._done.has_init_outputs = True
            self._init_files[row.name] = row.checksum or payloads.checksum(local_files.read_pieces(path))

    def _check(self, path: str, row: packs.InputFile) -> None:
        if os.path.getsize(path) != row.size:
            raise errors.AggregatorError(
                f"{path}: has {os.path.getsize(path)} bytes, and {row.size} in the repository. Remove it, "
                "and run the same command again."
            )

    def _place(self, path: str, row: packs.InputFile) -> bool:
        """Return whether there is such a file, after it was brought to its place."""
        with durable_files.writing(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if self._pack.has_file(row.name):
            durable_files.write_atomically(path, self._pack.file(row.name, row.size, row.checksum))
            return True
        source = self._source.place(row.name)
        if source is None:
            return False
        self._check(source, row)
        if row.checksum and payloads.checksum(local_files.read_pieces(source)) != row.checksum:
            raise errors.AggregatorError(f"{source}: is not the file that it was. Bring it again.")
        with durable_files.writing(path):
            local_transfers.place(source, path, "link", lambda: None, lambda: None)
        return True

    def finish(self, job: node_job.Job) -> None:
        """Write what makes the directory a repository, if nothing is missing."""
        if self._done.missing:
            return
        node_job.note_init_files(self._root, job, self._init_files)
        self._done.has_registry = any(name.startswith(packs.BATCHES) for name in self._pack.manifest.members)
        path = os.path.join(self._root, yaml_files.REPOSITORY)
        if local_files.is_taken(path):
            return
        if self._done.has_registry:
            # Whoever wants no database needs none of its libraries.
            from aggregator.transfer import node_registry

            content = node_registry.make(self._root, self._pack)
        else:
            content = yaml.safe_dump(node_layout.butler_yaml(self._pack.manifest), sort_keys=False).encode()
        durable_files.write_atomically(path, [content])
