"""Merged repositories, under other names and ids, as the reference reads them (transfer.md section 7.5)."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import uuid
from typing import Any

import pytest
import yaml

pytest.importorskip("lsst.daf.butler")

from aggregator.schemas.graphs import id_masks

import aggregator
from tests.helpers import databases, merge_case, renewed_graphs, transfer_case
from tests.helpers.oracle import compare, difference

_NEW_RUN = merge_case.NEW_RUN
_RENEW = merge_case.RENEW


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a repository with an ingested graph, which is only read."""
    return merge_case.make(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def merged(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Merge it into a new repository, which is only read."""
    target = tmp_path_factory.mktemp("merged") / "repo"
    report = aggregator.merge([source], target, transfer_case.ALL, _RENEW)
    assert report.done.datasets_added == report.selected > 90
    return target


def test_the_reference_reads_the_same_under_new_ids(source: pathlib.Path, merged: pathlib.Path) -> None:
    before, after = merge_case.refs(source, transfer_case.RUN), merge_case.refs(merged, _NEW_RUN)
    assert before.keys() == after.keys()
    mask = id_masks.derive(transfer_case.RUN, _NEW_RUN).hex()
    ids = {str(old): renewed_graphs.masked(str(old), mask) for old, _ in before.values()}
    assert not set(ids) & set(ids.values())
    for key, (old, content) in before.items():
        new, now = after[key]
        assert str(new) == ids[str(old)]
        expected = content
        if key[0].endswith("_metadata") and isinstance(content, dict):
            expected = renewed_graphs.renewed(content, ids, {})
        assert repr(now) == repr(expected), key
    n_read = sum(not isinstance(content, str) for _, content in before.values())
    assert n_read > 30


def test_graph_and_database_tell_of_the_same_datasets(merged: pathlib.Path) -> None:
    from lsst.daf.butler import Butler

    with Butler.from_config(str(merged), collections=_NEW_RUN) as butler:
        graph = butler.get("run_provenance")
        in_graph = {
            node
            for node, info in graph.bipartite_xgraph.nodes(data=True)
            if info.get("run") == _NEW_RUN and info.get("produced")
        }
        there = {ref.id for ref in butler.query_all_datasets(_NEW_RUN, find_first=False, limit=None)}
        assert there - in_graph == {
            ref.id
            for name in ("run_provenance", "packages")
            for ref in butler.query_datasets(name, collections=_NEW_RUN, explain=False)
        }
        for component in ("logs", "metadata"):
            quanta = list(graph.quanta_by_task["clean"].values())
            found = butler.get(f"run_provenance.{component}", parameters={"quanta": quanta})
            assert set(found) == set(quanta)


def test_collections_follow_their_new_names(source: pathlib.Path, merged: pathlib.Path) -> None:
    from lsst.daf.butler import Butler

    with Butler.from_config(str(source)) as before, Butler.from_config(str(merged)) as after:
        assert after.collections.get_info("prod/everything").children == (
            "prod/tagged",
            "prod",
            transfer_case.CALIBRATIONS,
            "calib/run",
            "calib/run2",
            _NEW_RUN,
            transfer_case.INPUTS,
        )
        tagged = [
            sorted(str(ref.dataId) for ref in butler.query_datasets("clean_image", collections=name))
            for butler, name in ((before, transfer_case.TAG), (after, "prod/tagged"))
        ]
        assert tagged[0] == tagged[1]
        assert len(tagged[0]) == 3


def test_once_more_changes_nothing(source: pathlib.Path, merged: pathlib.Path) -> None:
    before = compare.database_rows(databases.Sqlite(merged / "gen3.sqlite3"))
    files = {path: path.stat().st_mtime_ns for path in merged.rglob("*.qg")}
    report = aggregator.merge([source], merged, transfer_case.ALL, _RENEW)
    assert (report.done.datasets_added, report.done.files_brought) == (0, 0)
    assert report.done.datasets_present == report.selected
    assert compare.database_rows(databases.Sqlite(merged / "gen3.sqlite3")) == before
    assert {path: path.stat().st_mtime_ns for path in merged.rglob("*.qg")} == files
    assert not list(merged.glob(".aggregator-transfer-*"))


def test_a_dry_run_writes_nothing_and_counts(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(_RENEW, dry_run=True)
    report = aggregator.merge([source], tmp_path / "repo", transfer_case.ALL, config)
    assert report.done.datasets_added == report.selected > 90
    assert report.done.old_ids
    assert not (tmp_path / "repo").exists()


def _scratch(source: pathlib.Path, root: pathlib.Path, number: int) -> pathlib.Path:
    """Return a repository that has the run under another name and other ids, and the inputs as they are."""
    inputs = aggregator.Selection(collections=(transfer_case.INPUTS,))
    aggregator.subset(source, root, inputs)
    run = aggregator.Selection(collections=(transfer_case.RUN,))
    config = aggregator.MergeConfig(
        ids="renew", rename=(rf"u/sample/run1=u/scratch/run{number}",), registry="run"
    )
    aggregator.merge([source], root, run, config)
    return root


@pytest.fixture(scope="module")
def scratch(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """Make three repositories with a run each, which are only read."""
    root = tmp_path_factory.mktemp("scratch")
    return [_scratch(source, root / f"scratch{number}", number) for number in (1, 2, 3)]


def test_sources_can_come_in_any_order(scratch: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    contents = []
    runs = {f"Datasets u/scratch/run{n}" for n in (1, 2, 3)}
    for number, order in enumerate(itertools.islice(itertools.permutations(scratch), 0, 6, 3)):
        target = tmp_path / f"all{number}"
        report = aggregator.merge(order, target, merge_case.EVERYTHING)
        assert report.done.datasets_present > 0
        contents.append(merge_case.content(target))
    assert contents[0] == contents[1]
    assert runs <= contents[0].keys()


def test_inputs_that_are_there_stay_what_they_are(
    source: pathlib.Path, scratch: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    target = tmp_path / "target"
    aggregator.subset(source, target, aggregator.Selection(collections=(transfer_case.INPUTS,)))
    config = aggregator.MergeConfig(ids="renew", rename=("u/scratch/(.*)=prod/\\1",))
    aggregator.merge(scratch[:1], target, merge_case.EVERYTHING, config)
    ids = [
        {str(uuid.UUID(row[0])) for each in content["Datasets in/raw"] for row in each["rows"]}
        for content in (transfer_case.content(root, merge_case.EVERYTHING) for root in (scratch[0], target))
    ]
    assert ids[0] == ids[1]
    with aggregator.Provenance(target, "prod/run1") as graph:
        raws = {node.dataset_id for node in graph.datasets("raw")}
    assert raws
    assert raws <= ids[0]


def test_a_run_that_is_there_must_be_renamed(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    run = aggregator.Selection(collections=(transfer_case.RUN,))
    aggregator.merge([source], target, run, aggregator.MergeConfig(rename=("u/sample/run1=other",)))
    before = compare.database_rows(databases.Sqlite(target / "gen3.sqlite3"))
    other = aggregator.MergeConfig(ids="renew", rename=("u/sample/run1=other",), salt="2", registry="run")
    with pytest.raises(aggregator.RefusedError, match="C3"):
        aggregator.merge([source], target, run, other)
    difference.assert_same(
        before, compare.database_rows(databases.Sqlite(target / "gen3.sqlite3")), "after a refusal"
    )
    skipping = dataclasses.replace(other, on_conflict="skip", graphs="loose")
    report = aggregator.merge([source], target, run, skipping)
    assert report.done.datasets_added == 0
    # All but the graph.
    assert len(report.done.replaced_ids) == report.selected - 1


def test_two_sources_with_one_run_contradict_each_other(
    scratch: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    run = aggregator.Selection(collections=("u/scratch/*",))
    config = aggregator.MergeConfig(rename=("u/scratch/run.=u/one",))
    with pytest.raises(aggregator.RefusedError, match="an earlier one has dataset"):
        aggregator.merge(scratch[:2], tmp_path / "target", run, config)
    assert not (tmp_path / "target").exists()


def test_two_runs_that_become_one_are_compared_before(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    scratch = tmp_path / "scratch"
    for number in (1, 2):
        _scratch(source, scratch, number)
    run = aggregator.Selection(collections=("u/scratch/*",), dataset_types=("clean_image",))
    config = aggregator.MergeConfig(rename=("u/scratch/run.=u/one",), registry="run")
    target = tmp_path / "target"
    with pytest.raises(aggregator.RefusedError, match="an earlier one has dataset"):
        aggregator.merge([scratch], target, run, config)
    assert not target.exists()
    report = aggregator.merge([scratch], target, run, dataclasses.replace(config, on_conflict="skip"))
    assert report.done.datasets_added == report.done.datasets_skipped == report.selected / 2


@pytest.mark.parametrize("name", ["../out", "a/./b", "a//b"])
def test_names_that_lead_out_of_the_datastore_are_refused(
    source: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    run = aggregator.Selection(collections=(transfer_case.RUN,))
    config = aggregator.MergeConfig(rename=(f"{transfer_case.RUN}={name}",))
    with pytest.raises(aggregator.RefusedError, match="can't be a run"):
        aggregator.merge([source], tmp_path / "target", run, config)
    assert not (tmp_path / "target").exists()


def test_loose_files_need_no_graph(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    aggregator.merge([source], target, transfer_case.ALL, aggregator.MergeConfig(graphs="loose"))
    assert not list(target.rglob("*.qg"))
    before, after = merge_case.refs(source, transfer_case.RUN), merge_case.refs(target, transfer_case.RUN)
    assert before.keys() == after.keys()
    for key, (old, content) in before.items():
        if isinstance(content, str) and content in ("ValueError", "ValidationError"):
            # Loose, they can be read.
            continue
        assert after[key][0] == old
        assert repr(after[key][1]) == repr(content), key


def test_parts_of_graphs_have_what_comes_along(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    chosen = aggregator.Selection(
        collections=(transfer_case.RUN,), dataset_types=("clean_log", "clean_metadata", "clean_config")
    )
    for number, config in enumerate((_RENEW, aggregator.MergeConfig())):
        cutting = dataclasses.replace(config, graphs="slice", registry="run")
        target, run = tmp_path / str(number), _NEW_RUN if config.ids == "renew" else transfer_case.RUN
        report = aggregator.merge([source], target, chosen, cutting)
        before, after = merge_case.refs(source, transfer_case.RUN), merge_case.refs(target, run)
        assert report.done.datasets_added == len(after) + 1 > 10
        for (name, data_id), (old, content) in before.items():
            if name in chosen.dataset_types:
                assert (after[name, data_id][0] == old) == (config.ids == "keep")
                if not name.endswith("_metadata") or config.ids == "keep":
                    assert repr(after[name, data_id][1]) == repr(content)
        with aggregator.Provenance(target, run) as graph:
            assert [label for label, (by_status, _) in graph.counts().items() if sum(by_status.values())] == [
                "clean"
            ]
            assert graph.origins[-1].slice is not None
        again = aggregator.merge([source], target, chosen, cutting)
        assert (again.done.datasets_added, again.done.files_brought) == (0, 0)
        more = dataclasses.replace(chosen, dataset_types=("measure_log",))
        with pytest.raises(aggregator.RefusedError, match="another part"):
            aggregator.merge([source], target, more, cutting)
        with pytest.raises(aggregator.RefusedError, match="another part"):
            aggregator.merge([source], target, more, dataclasses.replace(cutting, graphs="whole"))
        aggregator.merge([source], target, more, dataclasses.replace(cutting, graphs="loose"))
        assert ("measure_log" in {name for name, _ in merge_case.refs(target, run)}) is True


def test_databases_of_both_kinds_give_and_take(
    source: pathlib.Path, merged: pathlib.Path, tmp_path: pathlib.Path, postgresql: Any
) -> None:
    options = {"database": postgresql.url(postgresql.create_database()), "namespace": "ns"}
    expected = merge_case.content(merged)
    aggregator.merge([source], tmp_path / "taking", transfer_case.ALL, dataclasses.replace(_RENEW, **options))
    difference.assert_same(expected, merge_case.content(tmp_path / "taking"), "SQLite to PostgreSQL")
    options["database"] = postgresql.url(postgresql.create_database())
    giving = tmp_path / "giving"
    aggregator.subset(
        source, giving, transfer_case.ALL, aggregator.TransferConfig(registry="full", **options)
    )
    aggregator.merge([giving], tmp_path / "taken", transfer_case.ALL, _RENEW)
    difference.assert_same(expected, merge_case.content(tmp_path / "taken"), "PostgreSQL to SQLite")


@pytest.mark.exhaustive
def test_datastores_can_be_on_object_stores(
    source: pathlib.Path,
    merged: pathlib.Path,
    tmp_path: pathlib.Path,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    there = tmp_path / "there"
    aggregator.create_repository(there, dimension_config=transfer_case.dimensions(source))
    config = yaml.safe_load((there / "butler.yaml").read_text())
    config.setdefault("datastore", {})["root"] = f"s3://{s3.new_bucket()}/a place"
    (there / "butler.yaml").write_text(yaml.safe_dump(config))
    aggregator.merge([source], there, transfer_case.ALL, _RENEW)
    difference.assert_same(merge_case.content(merged), merge_case.content(there), "To an object store")
    again = aggregator.merge([source], there, transfer_case.ALL, _RENEW)
    assert (again.done.datasets_added, again.done.files_brought) == (0, 0)
    back = aggregator.MergeConfig(ids="renew", rename=("prod(.*)=u/again\\1",))
    aggregator.merge([there], tmp_path / "back", merge_case.EVERYTHING, back)
    before, after = (
        merge_case.refs(source, transfer_case.RUN),
        merge_case.refs(tmp_path / "back", "u/again/run1"),
    )
    assert before.keys() == after.keys()
    assert sum(repr(after[key][1]) == repr(before[key][1]) for key in before) > 30


def test_a_merge_that_is_cancelled_goes_on(
    source: pathlib.Path, merged: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    cancellation = aggregator.Cancellation()

    def cancel(update: aggregator.ProgressUpdate) -> None:
        if update.stage == "transferring":
            cancellation.cancel()

    target = tmp_path / "target"
    with pytest.raises(aggregator.Interrupted) as caught:
        aggregator.merge(
            [source], target, transfer_case.ALL, _RENEW, on_progress=cancel, cancellation=cancellation
        )
    assert isinstance(caught.value.summary, aggregator.TransferReport)
    assert not list(target.glob(".aggregator-transfer-*"))
    aggregator.merge([source], target, transfer_case.ALL, _RENEW)
    difference.assert_same(merge_case.content(merged), merge_case.content(target), "Repositories")


def test_two_graphs_of_one_run_do_not_go_together(
    scratch: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    run = aggregator.Selection(collections=("u/scratch/*",))
    config = aggregator.MergeConfig(rename=("u/scratch/run.=u/one",), on_conflict="skip", registry="run")
    target = tmp_path / "target"
    with pytest.raises(aggregator.RefusedError, match="has another provenance graph"):
        aggregator.merge(scratch[:2], target, run, config)
    report = aggregator.merge(scratch[:2], target, run, dataclasses.replace(config, graphs="loose"))
    # All that the second one has is there already, under ids of the first one.
    assert report.done.datasets_added == len(report.done.replaced_ids) == report.selected / 2 - 1


def test_reports_are_those_of_the_original(source: pathlib.Path, merged: pathlib.Path) -> None:
    from click import testing

    from aggregator.command_line import main

    texts = []
    for root, run in ((source, transfer_case.RUN), (merged, _NEW_RUN)):
        done = testing.CliRunner().invoke(main.main, ["provenance-report", str(root), run])
        assert done.exit_code == 0, done.output
        texts.append(done.output.replace(run, "RUN"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"files": "direct"}, "has to be written anew"),
        ({"files": "in-place"}, "has to be written anew"),
        ({"files": "symlink"}, "nowhere"),
        ({"rename": ("x=",), "ids": "new"}, "ids must be"),
        ({"rename": ("(=x",)}, "no rule"),
        ({"ids": "keep", "salt": "x"}, "salt"),
        ({"graphs": "half"}, "graphs must be"),
        ({"files": "move"}, "can't be moved"),
        ({"files": "relsymlink", "ids": "keep", "rename": (), "graphs": "slice"}, "nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused(
    source: pathlib.Path, tmp_path: pathlib.Path, options: Any, problem: str
) -> None:
    config = dataclasses.replace(_RENEW, **options)
    with pytest.raises(aggregator.RefusedError, match=problem):
        aggregator.merge([source], tmp_path / "target", transfer_case.ALL, config)
    assert not (tmp_path / "target").exists()
