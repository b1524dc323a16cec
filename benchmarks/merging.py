"""Merges, and graphs written anew: ``python -m benchmarks.merging --quanta 5000``.

A synthetic run is made, aggregated, and its graph ingested. Then, by turns: the graph is written anew under
other names and ids, by this project and by parsing each of its documents with the standard library; and the
run goes into a new repository with links, by ``merge`` with ids renewed and kept, and by the reference's
``Butler.transfer_from``, which keeps them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import zstandard
from aggregator.schemas.graphs import (
    addresses,
    id_masks,
    nodes,
    origins,
    provenance_graph,
    renewals,
    rewriting,
)

import aggregator
from benchmarks import measure

_NEW = "merged/run"
_REFERENCE = """
import sys
from lsst.daf.butler import Butler, CollectionType
source, target = sys.argv[1:]
with Butler.from_config(source) as before:
    Butler.makeRepo(target, dimensionConfig=before.dimensions.dimensionConfig)
    with Butler.from_config(target, writeable=True) as after:
        refs = {r for run in before.collections.query("*", collection_types=CollectionType.RUN)
                for r in before.query_all_datasets(run, find_first=False, limit=None)}
        options = {"transfer": "auto", "register_dataset_types": True, "transfer_dimensions": True}
        print(len(after.transfer_from(before, refs, **options)))
"""


def make(root: pathlib.Path, quanta: int, *, with_graph: bool) -> pathlib.Path:
    """Make an aggregated run, and return its graph."""
    aggregator.synthesize(root, aggregator.SynthesisParameters(quanta=quanta), interactive_status=False)
    graph = root.parent / "provenance.qg"
    aggregator.aggregate_graph(
        root / "predicted.qg", root, aggregator.AggregatorConfig(output_path=graph, interactive_status=False)
    )
    if with_graph:
        aggregator.ingest_graph(root, graph, transfer="copy", interactive_status=False)
    return graph


def _renewal(run: str) -> renewals.Renewal:
    return renewals.Renewal(runs={run: origins.Run(run, _NEW, id_masks.derive(run, _NEW).hex())})


def rewrite(graph: provenance_graph.ProvenanceGraph) -> None:
    """Write a graph anew."""
    origin = origins.begun(graph.path, graph.fingerprint)
    rewriting.Rewriter(graph, _renewal(graph.header.output_run), origin).write(io.BytesIO())


def parse(graph: provenance_graph.ProvenanceGraph) -> None:
    """Do what takes most of the time of that with the standard library."""
    mask = int(id_masks.derive(graph.header.output_run, _NEW).hex(), 16)
    known = {digits for table in graph.address_rows() for digits in addresses.hex_digits(table.ids)}
    pattern = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    compressor = zstandard.ZstdCompressor(
        level=3, dict_data=zstandard.ZstdCompressionDict(graph.archive.codec.dictionary)
    )

    def renew(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renew(each) for key, each in value.items()}
        if isinstance(value, list):
            return [renew(each) for each in value]
        if (
            isinstance(value, str)
            and pattern.fullmatch(value)
            and (digits := value.replace("-", "")) in known
        ):
            digits = f"{int(digits, 16) ^ mask:032x}"
            return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        return value

    for component in (nodes.DATASETS, nodes.QUANTA, nodes.METADATA):
        for _, _, document in graph.documents(component):
            compressor.compress(json.dumps(renew(json.loads(document))).encode())


def cpu(work: Callable[[provenance_graph.ProvenanceGraph], None], path: pathlib.Path) -> float:
    """Return the CPU seconds that something takes with a graph."""
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        began = time.process_time()
        work(graph)
        return time.process_time() - began


def commands(source: pathlib.Path, target: pathlib.Path) -> dict[str, list[str]]:
    """Return what brings the run into a new repository."""
    merge = [
        sys.executable,
        "-m",
        "aggregator",
        "--no-progress",
        "merge",
        str(source),
        str(target),
        "-c",
        "*",
    ]
    return {
        "merge --ids renew": [*merge, "--ids", "renew", "--rename", r"u/(.*)=merged/\1"],
        "merge": merge,
        "reference": [sys.executable, "-c", _REFERENCE, str(source), str(target)],
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quanta", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--no-graph", action="store_true", help="let the repository keep files, not the graph"
    )
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path())
    given = parser.parse_args()
    work = given.workdir.absolute() / "merging"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    source, target = work / "repo", work / "target"
    graph = make(source, given.quanta, with_graph=not given.no_graph)
    taken: dict[str, list[Any]] = {}
    for _ in range(given.repeat):
        for function in (rewrite, parse):
            taken.setdefault(function.__name__, []).append(cpu(function, graph))
    for name in ("rewrite", "parse"):
        seconds = statistics.median(taken[name])
        print(f"{name}: {given.quanta / seconds:,.0f} quanta a second of CPU")
    with contextlib.closing(sqlite3.connect(source / "gen3.sqlite3")) as connection:
        [n_datasets] = connection.execute("SELECT count(*) FROM dataset").fetchone()
    for _ in range(given.repeat):
        for name, command in commands(source, target).items():
            if name == "reference" and given.no_reference:
                continue
            shutil.rmtree(target, ignore_errors=True)
            taken.setdefault(name, []).append(
                measure.measure(command, cwd=work, env=dict(os.environ), log=work / "log.txt")
            )
    for name in commands(source, target):
        if name in taken:
            seconds = statistics.median(each.cpu for each in taken[name])
            peak = max(each.peak_process for each in taken[name])
            per = seconds / n_datasets * 1e3
            print(f"{name}: {seconds:.1f} s CPU, {per:.3f} ms a dataset, {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
