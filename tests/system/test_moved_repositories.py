"""A checkpoint and the repository that it was made with: moved, copied, replaced, or mistyped."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

import pytest

import aggregator
from tests.helpers import kills
from tests.helpers.oracle import compare, reference, runs


@pytest.fixture
def case(clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> kills.Case:
    """Return a run of 40 quanta that nobody has aggregated."""
    return kills.Case(runs.copy_run(clean_oracle_run, tmp_path / "repo"), tmp_path / "provenance.qg")


def aggregate(case: kills.Case, root: pathlib.Path, **options: Any) -> Any:
    """Aggregate with a repository in some place; graph and checkpoint are beside each other elsewhere."""
    graph = case.output.parent / "predicted.qg"
    if not graph.exists():
        shutil.copy2(case.run.predicted_path, graph)
    options.setdefault("output_path", str(case.output))
    config = aggregator.AggregatorConfig(mock_storage_classes=True, **options)
    return aggregator.aggregate_graph(str(graph), str(root), config)


def without_files(case: kills.Case, root: pathlib.Path) -> pathlib.Path:
    """Make a clone of the repository in which just one quantum has files, and the init outputs."""
    shutil.copytree(case.run.root, root)
    for entry in case.run.manifest["quanta"][1:]:
        for path in case.run.files(entry):
            (root / path.relative_to(case.run.root)).unlink(missing_ok=True)
    return root


def rows(root: pathlib.Path) -> Any:
    return compare.database_rows(root / "gen3.sqlite3")


@pytest.mark.ordering("M4")
@pytest.mark.parametrize("n_processes", [1, 2])
def test_clone_without_files(case: kills.Case, tmp_path: pathlib.Path, n_processes: int) -> None:
    """What the files of one repository told says nothing about another one."""
    aggregate(case, case.run.root, dry_run=True)
    clone, other = (without_files(case, tmp_path / name) for name in ("clone", "other"))
    done = aggregate(case, clone, keep_checkpoint=True, n_processes=n_processes)
    assert done.n_reused == 0
    reference.aggregate_files(str(other / "predicted.qg"), str(other))
    assert rows(clone) == rows(other)
    # And back again: what was missing there is not missing here.
    assert aggregate(case, case.run.root).n_ingested > done.n_ingested
    with aggregator.Provenance(str(case.output)) as graph:
        assert list(graph.failures()) == []


@pytest.mark.ordering("M4")
def test_repository_that_was_moved(
    case: kills.Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are looked at, but none has to be read again."""
    aggregate(case, case.run.root, dry_run=True)
    moved = case.run.root.rename(tmp_path / "moved")
    opened = read_files(monkeypatch)
    done = aggregate(case, moved)
    assert opened == []
    assert (done.n_reused, done.n_ingested > 0) == (39, True)


@pytest.mark.ordering("M4")
def test_files_that_changed_on_the_way(
    case: kills.Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate(case, case.run.root, dry_run=True)
    moved = case.run.root.rename(tmp_path / "moved")
    entry = case.run.manifest["quanta"][0]
    log = moved / case.run.file(entry, "_log").relative_to(case.run.root)
    os.utime(log, ns=(1, 1))
    opened = read_files(monkeypatch)
    aggregate(case, moved, dry_run=True)
    assert str(log) in opened
    assert len(opened) == 2
    opened.clear()
    # The checkpoint is for this place now.
    aggregate(case, moved)
    assert opened == []


@pytest.mark.ordering("M4")
def test_files_on_another_device(
    case: kills.Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the same files have other inodes; on one device that means other files."""
    from aggregator.storage import local_store

    aggregate(case, case.run.root, dry_run=True)
    there = shutil.copytree(case.run.root, tmp_path / "there")
    opened = read_files(monkeypatch)
    aggregate(case, there, dry_run=True)
    assert len(opened) == 78
    opened.clear()
    elsewhere = shutil.copytree(there, tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        original = local_store.mark_of

        def on_another_device(status: Any) -> Any:
            size, modified, _, inode = local_store._TAG.unpack(original(status).tag)
            return original(status)._replace(tag=local_store._TAG.pack(size, modified, 12345, inode))

        patch.setattr(local_store, "mark_of", on_another_device)
        done = aggregate(case, elsewhere, dry_run=True)
        assert (opened, done.n_reused) == ([], 39)
        # The new inodes are known now.
        aggregate(case, elsewhere, dry_run=True, verify_checkpoint=True)
        assert opened == []


@pytest.mark.ordering("B6", "M4")
@pytest.mark.parametrize("n_processes", [1, 2])
def test_mistyped_repository_that_is_refused(
    case: kills.Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, n_processes: int
) -> None:
    """The checkpoint stays as it is."""
    aggregate(case, case.run.root, dry_run=True)
    wrong = without_files(case, tmp_path / "wrong")
    (wrong / "gen3.sqlite3").unlink()
    checkpoint = case.output.parent / "predicted.qg.checkpoint"
    before = content(checkpoint)
    with pytest.raises(aggregator.RefusedError):
        aggregate(case, wrong, n_processes=n_processes)
    assert content(checkpoint) == before
    opened = read_files(monkeypatch)
    aggregate(case, case.run.root)
    assert opened == []


@pytest.mark.parametrize(("name", "decoy"), [("a%20b", "a b"), ("a?b", "a"), ("a#b", "a")])
def test_directory_with_a_name_that_urls_escape(
    case: kills.Case, tmp_path: pathlib.Path, name: str, decoy: str
) -> None:
    """The database of a repository is the one in it, not one where a URL would lead that has its path."""
    shutil.copytree(case.run.root, tmp_path / decoy)
    root = case.run.root.rename(tmp_path / name)
    with pytest.raises(aggregator.RefusedError, match="is the database of the repository"):
        aggregate_in(root, case, output_path=str(root / "gen3.sqlite3"))
    before = rows(tmp_path / decoy)
    done = aggregate_in(root, case)
    assert done.n_ingested > 0
    assert rows(tmp_path / decoy) == before
    # Who compares reads URLs, too.
    assert rows(root.rename(tmp_path / "plain")) != before


def aggregate_in(root: pathlib.Path, case: kills.Case, **options: Any) -> Any:
    options.setdefault("output_path", str(case.output))
    config = aggregator.AggregatorConfig(mock_storage_classes=True, **options)
    return aggregator.aggregate_graph(str(root / "predicted.qg"), str(root), config)


def content(checkpoint: pathlib.Path) -> dict[str, bytes]:
    """Return what a checkpoint tells."""
    found = [*checkpoint.glob("shard-*"), checkpoint / "manifest.json"]
    return {path.name: path.read_bytes() for path in found}


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the logs and metadata that scanners of this process read from now on."""
    from aggregator.storage import local_store, stores

    original, paths = local_store.LocalStore.read, []

    def read(self: local_store.LocalStore, key: str) -> stores.Content | None:
        if not key.endswith("/.provenance_graph.json"):
            paths.append(self.location(key))
        return original(self, key)

    monkeypatch.setattr(local_store.LocalStore, "read", read)
    return paths
