"""Graphs and archives of which parts come along, as the reference reads what becomes of them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler")

import aggregator
from tests.helpers import databases, merge_case, transfer_case
from tests.helpers.oracle import difference

RUN = aggregator.Selection(collections=(transfer_case.RUN,))
LOGS = aggregator.Selection(
    collections=(transfer_case.RUN,), dataset_types=("clean_log", "clean_metadata", "clean_config")
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a repository with an ingested graph, which is only read."""
    return merge_case.make(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def packed(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a repository with an archive, which is only read."""
    from lsst.daf.butler import Butler

    root = tmp_path_factory.mktemp("packed")
    with Butler.from_config(str(source)) as butler:
        refs = butler.query_datasets("clean_image", collections=transfer_case.RUN)
        archive = butler.retrieve_artifacts_zip(refs, root)
    # What brings the dimension records.
    tables = aggregator.Selection(collections=(transfer_case.RUN,), dataset_types=("clean_table",))
    aggregator.subset(source, root / "repo", tables)
    with Butler.from_config(str(root / "repo"), writeable=True) as butler:
        butler.ingest_zip(archive)
    return root / "repo"


def _images(root: pathlib.Path, run: str = transfer_case.RUN) -> dict[Any, Any]:
    return {key[1]: each[1] for key, each in merge_case.refs(root, run).items() if key[0] == "clean_image"}


def test_members_of_archives_become_files_under_other_names(
    packed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    target = tmp_path / "target"
    aggregator.merge([packed], target, RUN, dataclasses.replace(merge_case.RENEW, registry="run"))
    assert not list(target.rglob("*.zip"))
    assert _images(packed) == _images(target, merge_case.NEW_RUN) != {}


def test_an_archive_comes_whole_or_as_the_files_that_are_wanted(
    packed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert (
        aggregator.subset(packed, whole, RUN).done.files_brought
        < aggregator.subset(
            packed, tmp_path / "counted", RUN, aggregator.TransferConfig(dry_run=True)
        ).done.datasets_added
    )
    assert len(list(whole.rglob("*.zip"))) == 1
    assert _images(packed) == _images(whole)
    database = databases.Sqlite(packed / "gen3.sqlite3")
    query = "SELECT dataset_id FROM file_datastore_records WHERE path LIKE '%#zip-path=%' ORDER BY 1"
    ids = tuple(row[0] for row in database.query(query)[:2])
    chosen = aggregator.Selection(ids=ids)
    with pytest.raises(aggregator.RefusedError, match="only a part of this archive"):
        aggregator.subset(packed, part, chosen, aggregator.TransferConfig(files="symlink"))
    assert aggregator.subset(packed, part, chosen).done.files_brought == 2
    assert not list(part.rglob("*.zip"))
    images = _images(part)
    assert len(images) == 2
    assert images.items() <= _images(packed).items()
    assert aggregator.subset(packed, part, chosen).done.files_brought == 0


def test_a_graph_can_be_cut_or_left_behind(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = merge_case.refs(source, transfer_case.RUN)
    for graphs in ("slice", "loose"):
        target, config = tmp_path / graphs, aggregator.TransferConfig(graphs=graphs)
        dry = aggregator.subset(source, target, LOGS, dataclasses.replace(config, dry_run=True))
        assert not target.exists()
        report = aggregator.subset(source, target, LOGS, config)
        assert report.done.datasets_added == dry.done.datasets_added
        after = merge_case.refs(target, transfer_case.RUN)
        assert {name for name, _ in after} == set(LOGS.dataset_types)
        # Some the reference can't read in a graph, but loose.
        same = [key for key in after if before[key][1] not in ("ValueError", "ValidationError")]
        assert len(same) > 10
        assert {key: repr(after[key]) for key in same} == {key: repr(before[key]) for key in same}
        assert len(list(target.rglob("*.qg"))) == (graphs == "slice")
        again = aggregator.subset(source, target, LOGS, config)
        assert (again.done.datasets_added, again.done.files_brought) == (0, 0)
    with aggregator.Provenance(tmp_path / "slice", transfer_case.RUN) as graph:
        tasks = [label for label, (by_status, _) in graph.counts().items() if sum(by_status.values())]
    assert tasks == ["clean"]
    more = dataclasses.replace(LOGS, dataset_types=("measure_log",))
    with pytest.raises(aggregator.RefusedError, match="another part"):
        aggregator.subset(source, tmp_path / "slice", more)


def test_what_is_written_anew_does_not_wait_for_others(
    source: pathlib.Path, packed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Another system brings what is a file of the source; who makes a graph or a file brings it."""
    expected, target, manifest = tmp_path / "expected", tmp_path / "target", tmp_path / "files.jsonl"
    config = dataclasses.replace(merge_case.RENEW, registry="run")
    sources = [packed, source]
    chosen = aggregator.Selection(collections=(transfer_case.RUN,), dataset_types=("clean_*",))
    aggregator.merge(sources, expected, chosen, config)
    listing = dataclasses.replace(config, files="manifest", manifest_path=manifest)
    aggregator.merge(sources, target, chosen, listing)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert lines[0]["files"] == len(lines) - 1 > 0
    for line in lines[1:]:
        assert pathlib.Path(line["from"]).exists(), "what was made was brought"
        pathlib.Path(line["to"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(line["from"], line["to"])
    assert aggregator.confirm(target, manifest).n_waiting == 0
    difference.assert_same(merge_case.content(expected), merge_case.content(target), "Repositories")
