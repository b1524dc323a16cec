"""Graphs of hardly any quanta, with more scanners than shards: they end cleanly, every time."""

from __future__ import annotations

import itertools
import os
import pathlib
import zipfile

import msgspec
import numpy as np
import pytest
from aggregator.schemas.graphs import addresses, blocks, container, predicted, provenance_graph

import aggregator
from tests.helpers import samples, thinning

N_LOOPS = int(os.environ.get("AGGREGATOR_SMALL_LOOPS", "2"))
"""Runs of each kind; `make kills` does more."""


def keep_first(path: pathlib.Path, n_quanta: int) -> None:
    """Leave only the first quanta in a predicted graph; they depend on no others."""
    with predicted.PredictedGraph(str(path)) as graph:
        table = graph.address_table()
        order = np.argsort(table.offsets[:, 0])[:n_quanta]
        documents = [d for _, d in graph.read_quanta(table.offsets[order, 0], table.sizes[order, 0])]
        header = msgspec.json.decode(graph.header_json)
    ids = table.ids[order]
    header["n_quanta"] = n_quanta
    header["n_task_quanta"] = {t: n_quanta if t == "clean" else 0 for t in header["n_task_quanta"]}
    with container.Container(str(path)) as opened, zipfile.ZipFile(path) as archive:
        codec = opened.codec
        thin = msgspec.json.decode(opened.read_block("thin_graph"))
        members = {name: archive.read(name) for name in archive.namelist()}
    thin = {
        "quanta": {t: q[:n_quanta] if t == "clean" else [] for t, q in thin["quanta"].items()},
        "edges": [],
    }
    framed = [blocks.frame(codec.compress(document), 8) for document in documents]
    sizes = np.array([len(block) for block in framed], dtype=np.int64)
    places = np.stack([blocks.offsets(sizes), sizes], axis=1)
    by_id = np.argsort(ids)
    members["header.json.zst"] = codec.compress(msgspec.json.encode(header))
    members["thin_graph.json.zst"] = codec.compress(msgspec.json.encode(thin))
    members["quantum_datasets.mb"] = b"".join(framed)
    members["quanta.addr"] = addresses.encode_header(8, n_quanta, 1) + addresses.encode_rows(
        ids[by_id], 0, places[by_id], 8
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


SIZES = list(itertools.product([0, 1, 2], [1, 4]))


@pytest.mark.parametrize(("n_quanta", "n_processes"), thinning.thinned(SIZES, SIZES[::3]))
def test_small_graph(sample: samples.Sample, n_quanta: int, n_processes: int) -> None:
    path = sample.repo / "predicted.qg"
    keep_first(path, n_quanta)
    output = str(sample.root / "out.qg")
    config = aggregator.AggregatorConfig(
        output_path=output, n_processes=n_processes, mock_storage_classes=True
    )
    # `packages`, five configurations and a schema; image, table, metadata and log of each quantum.
    n_init = 7
    for attempt in range(N_LOOPS):
        done = aggregator.aggregate_graph(str(path), str(sample.repo), config)
        assert done.n_ingested + done.n_skipped >= n_init + 2 * n_quanta
        assert (done.n_skipped > 0) == (attempt > 0)
        with provenance_graph.ProvenanceGraph(output) as graph:
            assert len(list(graph.quanta())) == n_quanta
            assert len(graph.init_quanta()) == 5
            for quantum in graph.quanta():
                assert graph.quantum(quantum.quantum_id) == quantum
