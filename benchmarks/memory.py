"""Memory of coordinator and writer for graphs that no disk here would hold: ``python -m benchmarks.memory``.

The graph has the pipeline of a small synthetic run, and many times its quanta and edges, but no blocks; what
scanners would answer, and the digests that they would write, are made up. Each role has a process of its own,
as in an aggregation. Ten million quanta take a quarter of an hour and 11 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from aggregator.schemas import messages, output_paths, verdicts
from aggregator.schemas.checkpoints import checkpoint, dataset_part, digest
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import addresses, predicted
from aggregator.storage import locks, spools
from aggregator.workers.engines import memory
from aggregator.workers.roles import handling
from aggregator.workers.roles.writing import writer

from aggregator.aggregation import judgement, schedule, shards
from aggregator.synthesis import campaign, parameters

_BASE = 2000
"""Quanta of the run whose structure is repeated."""

_N_OUTPUTS, _N_EDGES = 4, 12
"""Outputs and inputs of a quantum."""

_IDENTITY = digest.Identity("graph", "settings", "")
_BLOCK = bytes(16)
"""A compressed block."""


def make_graph(base: pathlib.Path, path: pathlib.Path, n_quanta: int) -> None:
    """Write a graph with the structure of another one, repeated.

    Quanta are in the order of their tasks, so that edges lead far, as in real graphs.
    """
    with predicted.PredictedGraph(str(base)) as graph:
        table = graph.address_table()
        order = np.argsort(table.offsets[:, 0])
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        edges = position[graph.edges(table)]
    repeats = -(-n_quanta // len(order))
    ids = np.random.default_rng(1).bytes(16 * n_quanta)
    in_order = np.frombuffer(ids, dtype=addresses.ID_TYPE)
    with zipfile.ZipFile(base) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            if info.filename not in ("header.json.zst", "thin_graph.json.zst", "quanta.addr"):
                new.writestr(info.filename, old.read(info))
        codec = zstandard.ZstdCompressionDict(old.read("compression_dict"))
        plain = zstandard.ZstdDecompressor(dict_data=codec).decompress(old.read("header.json.zst"))
        header = json.loads(plain) | {"n_quanta": n_quanta}
        new.writestr("header.json.zst", zstandard.compress(json.dumps(header).encode()))
        with new.open("quanta.addr", "w", force_zip64=True) as out:
            _write_addresses(out, in_order)
        with new.open("thin_graph.json.zst", "w", force_zip64=True) as out:
            compressor = zstandard.ZstdCompressor(level=1).compressobj()
            for piece in _thin_graph(in_order, edges, repeats):
                out.write(compressor.compress(piece))
            out.write(compressor.flush())


def _write_addresses(out: Any, ids: addresses.Ids) -> None:
    by_id = np.argsort(ids)
    out.write(addresses.encode_header(8, len(ids), 1))
    for begin in range(0, len(ids), 100_000):
        rows = by_id[begin : begin + 100_000]
        places = np.stack([rows * 600, np.full(len(rows), 600)], axis=1)
        out.write(addresses.encode_rows(ids[rows], begin, places, 8))


def _thin_graph(ids: addresses.Ids, edges: npt.NDArray[np.int64], repeats: int) -> Iterator[bytes]:
    yield b'{"nodes":{},"edges":['
    comma = b""
    for repeat in range(repeats):
        ends = edges * repeats + repeat
        texts = addresses.text_list(ids[ends[(ends < len(ids)).all(axis=1)].reshape(-1)])
        pairs = [b'["%b","%b"]' % pair for pair in zip(texts[::2], texts[1::2], strict=True)]
        if pairs:
            yield comma + b",".join(pairs)
            comma = b","
    yield b"]}"


def run_coordinator(path: str, directory: str) -> dict[str, Any]:
    """Do what a coordinator does, with answers that are made up."""
    peaks: dict[str, Any] = {}
    note = _notes(peaks)
    note("imported")
    with predicted.PredictedGraph(path) as graph:
        division, n_edges = _divide(graph, checkpoint.Layout(directory))
        peaks["edges_per_quantum"] = n_edges / len(division.ids)
        note("divided")
    judge = judgement.Judge(division.producers, division.starts, incomplete=False)
    note("judge")
    plan = schedule.Schedule(division, True, path, range(division.n_shards))
    note("schedule")
    while plan.phase is schedule.Phase.SCANNING:
        for role, _ in plan.due():
            plan.take(role, None if role == handling.INGESTER else messages.Ready())
        request = plan.next_for_scanner()
        if request is None:
            break
        plan.take(handling.SCANNER, _answer(request, division))
        while (scanned := plan.next_to_judge()) is not None:
            judged = judge.judge(division.begin(scanned.shard), np.frombuffer(scanned.statuses, dtype="i1"))
            plan.judge(judged.tobytes(), False)
    note("scanned")
    return peaks


def _notes(peaks: dict[str, Any]) -> Callable[[str], None]:
    """Return what notes how much memory was held at most until a step ends, and how much time it took."""
    start = time.process_time()

    def note(step: str) -> None:
        peak = memory.peak(os.getpid())
        peaks[step] = {"peak_mb": round(peak / 1e6), "cpu_s": round(time.process_time() - start, 1)}

    return note


def _divide(graph: predicted.PredictedGraph, layout: checkpoint.Layout) -> tuple[shards.Shards, int]:
    table = graph.address_table()
    graph.identity(table)
    layout.write_edges(edges.data.cast("B") for edges in graph.edge_pieces(table) if len(edges))
    pieces = (np.frombuffer(piece, dtype=np.int32).reshape(-1, 2) for piece in layout.read_edges())
    division = shards.divide(table, pieces)
    return division, len(division.producers)


def _answer(request: messages.Request, division: shards.Shards) -> messages.Reply:
    if isinstance(request, messages.BuildOutputs):
        return messages.OutputsBuilt(request.shard, 0, 0)
    assert isinstance(request, messages.ScanShard)
    n = division.n_quanta(request.shard)
    ran = np.full(n, statuses.SUCCESSFUL, dtype="i1").tobytes()
    return messages.ShardScanned(request.shard, "", ran, bytes(2 * n), [], 0, "", bytes(n))


def make_digests(layout: checkpoint.Layout, n_quanta: int, size: int) -> int:
    """Write the digests and parts of all shards; return their number."""
    generator = np.random.default_rng(2)
    layout.write_dictionary(b"")
    n_shards = 1 + -(-n_quanta // size)
    for shard in range(n_shards):
        n = min(size, n_quanta - (shard - 1) * size) if shard else 0
        columns = {name: np.zeros(0, dtype=kind) for name, kind in digest.COLUMNS.items()}
        columns |= {"quantum.id": _ids(generator, n, shard), "quantum.status": np.ones(n, dtype="i1")}
        columns |= {name: np.zeros(n, kind) for name, kind in digest.COLUMNS.items() if name in _PER_QUANTUM}
        columns |= {name: np.full(n, len(_BLOCK), dtype=np.int64) for name in digest.BLOCK_SIZES}
        columns["edge.id"] = _ids(generator, n * _N_EDGES, shard)
        columns["edge.quantum"] = np.zeros(n * _N_EDGES, dtype=np.int32)
        spooled = {name: spools.Spool(layout.digest(shard)) for name in digest.BLOCKS}
        for spool in spooled.values():
            spool.append(_BLOCK * n)
        head, sections = digest.encode(
            _IDENTITY, shard, columns, {name: [] for name in digest.LISTS}, spooled
        )
        with open(layout.digest(shard), "wb") as out:
            out.writelines([head, *sections])
        table = np.zeros(n * _N_OUTPUTS, dtype=dataset_part.ROW)
        table["id"], table["size"] = _ids(generator, len(table), shard), len(_BLOCK)
        table["row"], table["role"] = np.arange(len(table)) // _N_OUTPUTS, np.arange(len(table)) % _N_OUTPUTS
        dataset_part.write(
            layout.output_datasets(shard), dataset_part.NO_KEY, table, [_BLOCK] * len(table), n_edges=0
        )
    return n_shards


_PER_QUANTUM = frozenset({"quantum.task", "quantum.settled"})


def _ids(generator: np.random.Generator, n: int, shard: int) -> addresses.Ids:
    """Return ids in their order; those of a shard lie together, as execution graphs are made task by task."""
    raw = np.frombuffer(generator.bytes(16 * n), dtype=np.uint8).reshape(n, 16).copy()
    raw[:, :4] = np.frombuffer(shard.to_bytes(4, "big"), dtype=np.uint8)
    return np.sort(raw.view(addresses.ID_TYPE)[:, 0])


def run_writer(path: str, directory: str, n_shards: int) -> dict[str, Any]:
    """Do what a writer does with digests that are made up."""
    peaks: dict[str, Any] = {}
    note = _notes(peaks)
    with predicted.PredictedGraph(path) as graph:
        fingerprint = graph.fingerprint
    setup = messages.Setup(
        graph_path=path, graph_fingerprint=fingerprint, butler_path="", checkpoint=directory,
        verify_checkpoint=False, identity=_IDENTITY, begun=0, requests=1, zstd_level=3,
        mock_storage_classes=False, output_path=f"{directory}.qg", incomplete=False, dry_run=True,
        promise_ingest_graph=False, defensive_ingest=False, ingest_batch_size=10000,
        register_dataset_types=True, update_output_chain=True, ownership=_ownership(directory),
        protection=output_paths.Protection(), worker_log_dir=None, worker_log_level="INFO",
        worker_profile_dir=None,
    )  # fmt: skip
    role = writer.Writer(setup, logging.getLogger())
    note("imported")
    layout = checkpoint.Layout(directory)
    for shard in range(n_shards):
        with digest.Digest(layout.digest(shard), _IDENTITY, shard) as opened:
            n = len(opened.column("quantum.id"))
        accepted = np.full(n, verdicts.ACCEPTED, dtype="i1").tobytes()
        role.take(messages.CommitShard(shard, accepted))
    note("taken")
    role.plan(messages.PlanInputs(0, 0))
    note("planned")
    role.copy_blocks()
    note("copied")
    role.finish(messages.FinishGraph(0))
    note("finished")
    role.close()
    return peaks


def _ownership(directory: str) -> locks.Ownership:
    path = f"{directory}/aggregation.lock"
    status = os.stat(path)
    return locks.Ownership(path, status.st_dev, status.st_ino, None)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--quanta", type=int, default=1_000_000)
    parser.add_argument("--role", choices=("coordinator", "writer"))
    given = parser.parse_args(arguments)
    home = given.workdir.resolve()
    path, directory = home / f"memory-{given.quanta}.qg", home / f"memory-{given.quanta}.checkpoint"
    if given.role == "coordinator":
        print(json.dumps(run_coordinator(str(path), str(directory)), indent=1))
        return
    if given.role == "writer":
        n_shards = len(list(directory.glob("*.digest")))
        print(json.dumps(run_writer(str(path), str(directory), n_shards), indent=1))
        return
    home.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        base = home / "memory-base"
        if not (base / "predicted.qg").exists():
            few = parameters.SynthesisParameters(quanta=_BASE, log_size=500, metadata_size=500)
            campaign.synthesize(str(base), few, n_processes=1, interactive_status=False)
        make_graph(base / "predicted.qg", path, given.quanta)
    if not directory.exists():
        directory.mkdir()
        (directory / "aggregation.lock").touch()
        make_digests(checkpoint.Layout(str(directory)), given.quanta, 1000)
    for role in ("coordinator", "writer"):
        again = [sys.executable, "-m", "benchmarks.memory", "--workdir", str(home), "--role", role]
        subprocess.run([*again, "--quanta", str(given.quanta)], check=True)


if __name__ == "__main__":
    main()
