"""Ingestion of a graph: what it does and leaves, and how it goes on."""

from __future__ import annotations

import collections
import os
import pathlib
from typing import Any

import pytest

import aggregator
from aggregator.graph_ingestion import contents
from tests.helpers import sample_case, samples

# What it does


def test_everything_is_backed_by_the_graph(aggregated_sample: samples.Sample) -> None:
    assert sample_case.originals(aggregated_sample)
    size = (aggregated_sample.root / "provenance.qg").stat().st_size
    done = sample_case.ingest(aggregated_sample)
    assert sample_case.originals(aggregated_sample) == []
    assert (done.n_ingested, done.n_forgotten, done.n_deleted, done.n_missing) == (39, 39, 39, 0)
    wanted = {"_log": "ButlerLogRecords", "_metadata": "TaskMetadata", "_config": "Config"}
    for name, storage_class in sample_case.backed(aggregated_sample).items():
        end = next((end for end in wanted if name.endswith(end)), "")
        assert storage_class == (wanted[end] if end else "ProvenanceQuantumGraph")
    rows = sample_case.database(aggregated_sample).query(
        "SELECT formatter, component, checksum, file_size FROM file_datastore_records "
        f"WHERE path = '{sample_case.PATH}'"
    )
    formatter = "lsst.pipe.base.quantum_graph.formatter.ProvenanceFormatter"
    assert set(rows) == {(formatter, "__NULL_STRING__", None, size)}
    assert len(rows) == 40
    assert "Original files deleted: 39" in "\n".join(done.lines())


def test_promised_datasets(sample: samples.Sample) -> None:
    """After an aggregation that has left them out, nothing has to be forgotten."""
    config = aggregator.AggregatorConfig(
        output_path=str(sample.root / "own.qg"), mock_storage_classes=True, promise_ingest_graph=True
    )
    aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), config)
    done = sample_case.ingest(sample, sample.root / "own.qg")
    assert (done.n_forgotten, done.n_ingested, done.n_deleted) == (0, 39, 39)
    assert sample_case.originals(sample) == []


@pytest.mark.parametrize("verify", [True, False])
def test_logs_that_never_existed_get_no_row(aggregated_sample: samples.Sample, *, verify: bool) -> None:
    """The reference makes one up; with and without reading the blocks it is found out."""
    [missing] = sample_case.database(aggregated_sample).query("SELECT count(*) FROM dataset")[0]
    done = sample_case.ingest(aggregated_sample, verify=verify)
    assert done.n_ingested == 39
    [count] = sample_case.database(aggregated_sample).query("SELECT count(*) FROM dataset")[0]
    assert count == missing + 1


def test_what_the_graph_does_not_hold_keeps_its_row_and_file(aggregated_sample: samples.Sample) -> None:
    [path, *_] = (path for path in sample_case.originals(aggregated_sample) if "_log" in path.name)
    content = path.read_bytes()
    path.write_bytes(b"\xff")
    graph = aggregated_sample.root / "own.qg"
    config = aggregator.AggregatorConfig(
        output_path=str(graph), mock_storage_classes=True, unreadable="failed", dry_run=True
    )
    aggregator.aggregate_graph(
        str(aggregated_sample.repo / "predicted.qg"), str(aggregated_sample.repo), config
    )
    path.write_bytes(content)
    recorded = path.relative_to(aggregated_sample.repo)
    query = f"SELECT * FROM file_datastore_records WHERE path = '{recorded}'"
    rows = sample_case.database(aggregated_sample).query(query)
    assert len(rows) == 1
    for _ in range(2):
        sample_case.ingest(aggregated_sample, graph)
        assert path.read_bytes() == content
        assert sample_case.database(aggregated_sample).query(query) == rows


def test_batches(aggregated_sample: samples.Sample) -> None:
    done = sample_case.ingest(aggregated_sample, batch_size=1)
    assert (done.n_ingested, done.n_forgotten, done.n_deleted) == (39, 39, 39)
    with pytest.raises(aggregator.RefusedError, match="batch_size"):
        sample_case.ingest(aggregated_sample, batch_size=0)


def test_missing_originals_are_fine(aggregated_sample: samples.Sample) -> None:
    gone = sample_case.originals(aggregated_sample)[::3]
    for path in gone:
        path.unlink()
    done = sample_case.ingest(aggregated_sample)
    assert (done.n_ingested, done.n_missing) == (39, len(gone))


def kind_of(path: pathlib.Path) -> str:
    return path.name.split("_")[1]


@pytest.mark.ordering("O2")
@pytest.mark.parametrize("kind", ["log", "metadata", "config"])
@pytest.mark.parametrize("restored", [False, True])
def test_originals_that_changed_after_the_graph_was_made(
    aggregated_sample: samples.Sample, kind: str, restored: bool
) -> None:
    """They are named and stay, whatever their time of modification; everything else is done."""
    found = sample_case.originals(aggregated_sample)
    path, other = [each for each in found if kind_of(each) == kind][:2]
    times = path.stat()
    # As a later attempt of another quantum would have left it; a config has one more line.
    content = path.read_bytes() + b"# one more\n" if kind == "config" else other.read_bytes()
    path.write_bytes(content)
    if restored:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(aggregator.AggregatorError, match="1 original file is not") as caught:
            sample_case.ingest(aggregated_sample)
        assert caught.value.exit_code == 1
        assert str(path) in str(caught.value)
        assert sample_case.originals(aggregated_sample) == [path]
        assert path.read_bytes() == content
        assert (aggregated_sample.root / "provenance.qg").exists()
    path.unlink()
    assert sample_case.ingest(aggregated_sample).n_present == 39
    assert not (aggregated_sample.root / "provenance.qg").exists()


@pytest.mark.ordering("O2")
@pytest.mark.parametrize("moment", ["between two starts", "while the graph is written"])
def test_originals_that_changed_after_they_were_read_for_the_graph(
    sample: samples.Sample, moment: str
) -> None:
    """They are older than the graph, which holds what they were before all the same."""
    graph = sample.root / "own.qg"
    path, other = [each for each in sample_case.originals(sample) if kind_of(each) == "metadata"][:2]
    content = other.read_bytes()

    def change(update: aggregator.ProgressUpdate | None) -> None:
        if update is None or update.stage == "writing the graph":
            path.write_bytes(content)

    if moment == "between two starts":
        samples.aggregate(sample, incomplete=True)
        change(None)
    config = aggregator.AggregatorConfig(output_path=graph, mock_storage_classes=True)
    aggregator.aggregate_graph(sample.repo / "predicted.qg", sample.repo, config, on_progress=change)
    # As if it had been completed much later, and no copy counts as older.
    os.utime(graph, (2e9, 2e9))
    with pytest.raises(aggregator.AggregatorError, match="1 original file is not") as caught:
        sample_case.ingest(sample, graph)
    assert str(path) in str(caught.value)
    assert sample_case.originals(sample) == [path]
    assert path.read_bytes() == content


@pytest.mark.ordering("O2")
@pytest.mark.parametrize("point", ["", "graph-ingested"])
def test_originals_of_another_size_than_recorded(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Row and file stay, also after an interruption, though the content is what the graph holds."""
    path = sample_case.originals(aggregated_sample)[0]
    db, size = sample_case.database(aggregated_sample), path.stat().st_size
    recorded = path.relative_to(aggregated_sample.repo)
    db.execute("UPDATE file_datastore_records SET file_size = -1")
    db.execute(f"UPDATE file_datastore_records SET file_size = {size + 1} WHERE path = '{recorded}'")
    query = f"SELECT * FROM file_datastore_records WHERE path = '{recorded}'"
    rows = db.query(query)
    if point:
        sample_case.stop_at(monkeypatch, point, lambda: sample_case.ingest(aggregated_sample))
    for _ in range(2):
        with pytest.raises(aggregator.AggregatorError, match="1 original file is not") as caught:
            sample_case.ingest(aggregated_sample)
        assert str(path) in str(caught.value)
        assert sample_case.originals(aggregated_sample) == [path]
        assert db.query(query) == rows
    db.execute(f"UPDATE file_datastore_records SET file_size = {size} WHERE path = '{recorded}'")
    sample_case.ingest(aggregated_sample)
    assert sample_case.originals(aggregated_sample) == []


@pytest.mark.ordering("O2")
def test_originals_that_are_just_younger_than_the_graph(aggregated_sample: samples.Sample) -> None:
    """As in a repository that was copied without its times."""
    for path in sample_case.originals(aggregated_sample):
        os.utime(path, (2e9, 2e9))
    assert sample_case.ingest(aggregated_sample).n_deleted == 39


def test_originals_that_are_older_are_not_read(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(aggregated_sample.root / "provenance.qg", (2e9, 2e9))
    monkeypatch.delattr(contents.Contents, "holds")
    assert sample_case.ingest(aggregated_sample).n_deleted == 39


def test_other_files_stay_where_they_are(aggregated_sample: samples.Sample) -> None:
    path = sample_case.originals(aggregated_sample)[-1]
    other = path.with_name("notes.txt")
    other.write_text("mine")
    done = sample_case.ingest(aggregated_sample)
    assert other.read_text() == "mine"
    assert not path.exists()
    assert len(done.left) == 1
    assert "1 other file is" in done.left[0]


def test_every_ingested_dataset_can_be_found_by_its_new_path_only(aggregated_sample: samples.Sample) -> None:
    sample_case.ingest(aggregated_sample)
    paths = [
        path
        for (path,) in sample_case.database(aggregated_sample).query(
            "SELECT path FROM file_datastore_records"
        )
    ]
    counts = collections.Counter(paths)
    assert counts.pop(sample_case.PATH) == 40
    assert set(counts.values()) == {1}
    assert all((aggregated_sample.repo / path).exists() for path in counts if "/" in path)


# Transfer modes


@pytest.mark.parametrize("mode", ["move", "copy", "hardlink", "link", "auto", "symlink", "relsymlink"])
def test_transfer(aggregated_sample: samples.Sample, mode: str) -> None:
    graph, target = aggregated_sample.root / "provenance.qg", aggregated_sample.repo / sample_case.PATH
    content, inode = graph.read_bytes(), graph.stat().st_ino
    sample_case.ingest(aggregated_sample, transfer=mode)
    assert target.read_bytes() == content
    assert graph.exists() == (mode != "move")
    assert target.is_symlink() == (mode in ("symlink", "relsymlink"))
    assert (target.stat().st_ino == inode) == (mode != "copy")
    if mode == "relsymlink":
        assert not os.readlink(target).startswith("/")
    assert sample_case.ingest(aggregated_sample, transfer=mode).n_present == 39
    assert graph.exists() == (mode != "move")


@pytest.mark.parametrize("mode", [None, "auto"])
def test_graph_that_is_there_already(aggregated_sample: samples.Sample, mode: str | None) -> None:
    graph = aggregated_sample.repo / "graphs" / "it.qg"
    graph.parent.mkdir()
    (aggregated_sample.root / "provenance.qg").rename(graph)
    assert sample_case.ingest(aggregated_sample, graph, transfer=mode).n_ingested == 39
    paths = sample_case.database(aggregated_sample).query(
        "SELECT path, count(*) FROM file_datastore_records GROUP BY path"
    )
    assert ("graphs/it.qg", 40) in paths
    assert not (aggregated_sample.repo / sample_case.PATH).exists()
    assert sample_case.ingest(aggregated_sample, graph, transfer=mode).n_present == 39


def test_graph_at_its_very_place(aggregated_sample: samples.Sample) -> None:
    graph = aggregated_sample.repo / sample_case.PATH
    graph.parent.mkdir(parents=True)
    (aggregated_sample.root / "provenance.qg").rename(graph)
    assert sample_case.ingest(aggregated_sample, graph).n_ingested == 39
    assert graph.exists()


def test_move_to_another_file_system(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    graph = aggregated_sample.root / "provenance.qg"
    content = graph.read_bytes()
    sample_case.ingest(aggregated_sample)
    assert (aggregated_sample.repo / sample_case.PATH).read_bytes() == content
    assert not graph.exists()


def test_move_without_hard_links(aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    graph, inode = (
        aggregated_sample.root / "provenance.qg",
        (aggregated_sample.root / "provenance.qg").stat().st_ino,
    )
    sample_case.ingest(aggregated_sample)
    assert (aggregated_sample.repo / sample_case.PATH).stat().st_ino == inode
    assert not graph.exists()


# Again, after a move


def test_again_with_the_original_path(aggregated_sample: samples.Sample) -> None:
    sample_case.ingest(aggregated_sample)
    for again in (
        sample_case.ingest(aggregated_sample),
        aggregator.ingest_graph(aggregated_sample.repo),
        aggregator.ingest_graph(aggregated_sample.repo, output_run=sample_case.RUN),
        sample_case.ingest(aggregated_sample, output_run=sample_case.RUN),
    ):
        assert (again.n_present, again.n_ingested, again.n_forgotten) == (39, 0, 0)


def test_another_path_is_not_taken_for_the_graph(aggregated_sample: samples.Sample) -> None:
    """With a typing error in the path, nothing pretends that all is done."""
    sample_case.ingest(aggregated_sample)
    target = aggregated_sample.repo / sample_case.PATH
    if not os.listxattr(target):
        pytest.skip("the file system keeps no extended attributes")
    with pytest.raises(aggregator.RefusedError, match=f"does not exist.*{sample_case.RUN}"):
        sample_case.ingest(aggregated_sample, aggregated_sample.root / "provnance.qg")
    os.removexattr(target, os.listxattr(target)[0])
    # Nothing tells where the only graph came from.
    assert sample_case.ingest(aggregated_sample).n_present == 39


@pytest.mark.parametrize("attributes", [True, False])
def test_again_where_many_runs_have_graphs(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, *, attributes: bool
) -> None:
    """The run is found by where its graph was; if nothing tells that, it has to be named."""
    from aggregator.butler.registry import ingested_graphs

    sample_case.ingest(aggregated_sample)
    target = aggregated_sample.repo / sample_case.PATH
    found = os.listxattr(target)
    if not found:
        pytest.skip("the file system keeps no extended attributes")
    if not attributes:
        os.removexattr(target, found[0])
    original = ingested_graphs.places

    def with_more(*given: Any) -> dict[str, ingested_graphs.Places]:
        mine = original(*given)
        others = {
            f"u/other/{i}": (ingested_graphs.Place(mine[sample_case.RUN][0].store, f"{i}.qg"),)
            for i in range(20)
        }
        return {**others, **mine}

    monkeypatch.setattr(ingested_graphs, "places", with_more)
    if attributes:
        assert sample_case.ingest(aggregated_sample).n_present == 39
    else:
        sample_case.unchanged(
            aggregated_sample,
            lambda: sample_case.ingest(aggregated_sample),
            "give its --output-run: u/other/0, .*, ...",
        )
    assert sample_case.ingest(aggregated_sample, output_run=sample_case.RUN).n_present == 39
    sample_case.unchanged(
        aggregated_sample,
        lambda: aggregator.ingest_graph(aggregated_sample.repo),
        "no provenance graph is given",
    )


@pytest.mark.parametrize("point", ["placed", "forgotten", "graph", "committed"])
def test_finished_without_arguments(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The graph is found also if it is in its place, but not recorded yet."""
    sample_case.stop_at(monkeypatch, point, lambda: sample_case.ingest(aggregated_sample))
    done = aggregator.ingest_graph(aggregated_sample.repo)
    assert (done.run, done.n_ingested + done.n_present) == (sample_case.RUN, 39)
    assert sample_case.originals(aggregated_sample) == []
    count = f"SELECT count(*) FROM file_datastore_records WHERE path = '{sample_case.PATH}'"
    assert sample_case.database(aggregated_sample).query(count) == [(40,)]


@pytest.mark.parametrize("attributes", [True, False])
def test_finished_with_the_original_path_without_hard_links(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, *, attributes: bool
) -> None:
    """Where a move is a renaming, nothing is at the original path any more."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if not attributes:
        monkeypatch.setattr(os, "setxattr", refuse)
    sample_case.stop_at(monkeypatch, "forgotten", lambda: sample_case.ingest(aggregated_sample))
    assert not (aggregated_sample.root / "provenance.qg").exists()
    if attributes and os.listxattr(aggregated_sample.repo / sample_case.PATH):
        sample_case.unchanged(
            aggregated_sample,
            lambda: sample_case.ingest(aggregated_sample, aggregated_sample.root / "other.qg"),
            "does not exist",
        )
    assert sample_case.ingest(aggregated_sample).n_ingested == 39
    assert sample_case.originals(aggregated_sample) == []


def test_files_that_came_back_are_deleted(aggregated_sample: samples.Sample) -> None:
    saved = {path: path.read_bytes() for path in sample_case.originals(aggregated_sample)}
    sample_case.ingest(aggregated_sample)
    for path, content in saved.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    done = sample_case.ingest(aggregated_sample)
    assert (done.n_present, done.n_deleted) == (39, 39)
    assert sample_case.originals(aggregated_sample) == []


def test_datasets_that_came_back_with_files_of_their_own(aggregated_sample: samples.Sample) -> None:
    """Rows that refer to original files are replaced before the files are deleted, whoever made them."""
    before = aggregated_sample.repo / "gen3.sqlite3"
    sample_case.ingest(aggregated_sample)
    path = before.read_bytes()
    assert path
    db = sample_case.database(aggregated_sample)
    [(dataset,)] = db.query(
        "SELECT r.dataset_id FROM file_datastore_records r JOIN dataset d ON d.id = r.dataset_id JOIN "
        "dataset_type t ON t.id = d.dataset_type_id "
        f"WHERE t.name = 'clean_log' AND r.path = '{sample_case.PATH}' LIMIT 1"
    )
    db.execute(f"UPDATE file_datastore_records SET path = 'elsewhere.json' WHERE dataset_id = '{dataset}'")
    done = sample_case.ingest(aggregated_sample)
    assert (done.n_forgotten, done.n_ingested, done.n_present) == (1, 1, 38)
    [(path,)] = db.query(f"SELECT path FROM file_datastore_records WHERE dataset_id = '{dataset}'")
    assert path == sample_case.PATH
