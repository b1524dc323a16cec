"""Renewed graphs are the same for the reference, under other names and ids (transfer.md section 7.5)."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler")

from aggregator.schemas.graphs import address_file, id_masks, origins

from aggregator.reading import lineage, provenance
from tests.helpers import renewed_graphs, samples
from tests.helpers.oracle import compare, container, difference

_RUN, _NEW_RUN = renewed_graphs.RUN, renewed_graphs.NEW_RUN


def _models(path: pathlib.Path) -> dict[str, Any]:
    models = compare.provenance_models(path)
    models["blocks"] = compare.metadata_blocks(container.Container(path))
    # Numbers that are not finite are not equal to themselves, and a text is of the reference's own making.
    models["metadata"] = {node: type(found).__name__ for node, found in models["metadata"].items()}
    return models


def _new_ids(models: dict[str, Any], mask: str) -> dict[str, str]:
    """Return the new id of each node, but of inputs from elsewhere."""
    elsewhere = {node for node, each in models["datasets"].items() if each["run"] != _RUN}
    nodes = {*models["datasets"], *models["quanta"]} | {node for node, _ in models["init_quanta"].values()}
    extra = models["header"]["provenance_dataset_id"]
    return {node: renewed_graphs.masked(node, mask) for node in {*nodes, extra} - elsewhere}


@pytest.mark.parametrize("name", ["provenance.qg", "provenance_dict.qg", "provenance_newer.qg"])
def test_the_reference_reads_the_same_under_other_ids(
    sample: samples.Sample, tmp_path: pathlib.Path, name: str
) -> None:
    target = tmp_path / "new.qg"
    renewal = renewed_graphs.renew(sample.root / name, target)
    before, after = _models(sample.root / name), _models(target)
    ids = _new_ids(before, renewal.runs[_RUN].mask)
    assert not set(ids.values()) & set(before["datasets"])
    logs, new_logs = before.pop("logs"), after.pop("logs")
    expected = renewed_graphs.renewed(before, ids, renewed_graphs.NAMES)
    for each in (expected, after):
        for block in each["dataset_blocks"].values():
            block["consumers"].sort()
    difference.assert_same(expected, after, "Models")
    # What logs say stays, under new ids.
    moved = {f"{ids[key[:36]]}{key[36:]}": log for key, log in logs.items()}
    difference.assert_same(moved, new_logs, "Logs")


def test_rows_are_sorted_and_every_block_is_addressed(
    sample: samples.Sample, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some ids of one time are in one part of the rows, others in the next one.
    monkeypatch.setattr(address_file, "_PART_ROWS", 7)
    target = tmp_path / "new.qg"
    renewed_graphs.renew(sample.root / "provenance.qg", target)
    before, after = (container.Container(path) for path in (sample.root / "provenance.qg", target))
    rows = after.addresses("nodes")
    assert [node for node, _, _ in rows] == sorted({node for node, _, _ in rows}, key=lambda node: node.int)
    assert len(rows) == len(before.addresses("nodes"))
    for column, member in enumerate(container.MULTIBLOCKS):
        addressed = {pairs[column] for _, _, pairs in rows if pairs[column][1]}
        assert addressed == set(after.walk(member))
    assert after.payload("logs") == before.payload("logs")


def test_again_gives_the_old_ids(sample: samples.Sample, tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / "first.qg", tmp_path / "second.qg"
    renewal = renewed_graphs.renew(sample.root / "provenance.qg", first)
    back = origins.Run(_NEW_RUN, _RUN, renewal.runs[_RUN].mask)
    renewed_graphs.renew(first, second, runs={_NEW_RUN: back}, chains={"prod/sample": "u/sample"})
    difference.assert_same(_models(sample.root / "provenance.qg"), _models(second), "Models")


def test_datasets_can_get_ids_that_no_mask_gives(sample: samples.Sample, tmp_path: pathlib.Path) -> None:
    source, target = sample.root / "provenance.qg", tmp_path / "new.qg"
    before = _models(source)
    chosen = sorted(node for node, each in before["datasets"].items() if each["type"] == "clean_image")
    kept, taken, other = chosen[0], chosen[1], str(uuid.uuid4())
    mask = id_masks.derive(_RUN, _NEW_RUN).hex()
    would_be = renewed_graphs.masked(taken, mask)
    renewed_graphs.renew(
        source,
        target,
        replaced={uuid.UUID(would_be).bytes: uuid.UUID(other).bytes},
        kept=frozenset([uuid.UUID(kept).bytes]),
    )
    ids = _new_ids(before, mask) | {kept: kept, taken: other}
    before.pop("logs")
    after = _models(target)
    after.pop("logs")
    expected = renewed_graphs.renewed(before, ids, renewed_graphs.NAMES)
    for each in (expected, after):
        for block in each["dataset_blocks"].values():
            block["consumers"].sort()
    # What is there already is in its own run.
    expected["dataset_blocks"][kept]["run"] = expected["datasets"][kept]["run"] = _RUN
    difference.assert_same(expected, after, "Models")
    with provenance.Provenance(str(target)) as graph:
        found = {node: lineage.node_id(graph.find(node)) for node in (kept, taken, chosen[2])}
        assert found == {kept: kept, taken: other, chosen[2]: ids[chosen[2]]}
        assert graph.former_id(graph.find(other)) == taken
        assert graph.former_id(graph.find(kept)) is None
