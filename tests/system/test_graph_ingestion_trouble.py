"""Ingestion of a graph: what it refuses, and what becomes of damaged and awkward repositories."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import aggregator
from aggregator.graph_ingestion import originals
from tests.helpers import sample_case, samples

NOBODY = 65534

# Refused


def test_refused(aggregated_sample: samples.Sample) -> None:
    graph = aggregated_sample.root / "provenance.qg"
    for match, call in {
        "direct": lambda: sample_case.ingest(aggregated_sample, transfer="direct"),
        "transfer must be": lambda: sample_case.ingest(aggregated_sample, transfer="teleport"),
        "inside a datastore": lambda: sample_case.ingest(aggregated_sample, transfer=None),
        "not of 'u/other'": lambda: sample_case.ingest(aggregated_sample, output_run="u/other"),
        "does not exist": lambda: sample_case.ingest(aggregated_sample, aggregated_sample.root / "none.qg"),
        "no provenance graph is given": lambda: aggregator.ingest_graph(aggregated_sample.repo),
        "one has to be given": lambda: aggregator.ingest_graph(
            aggregated_sample.repo, output_run=sample_case.RUN
        ),
        "there is no run 'u/none'": lambda: aggregator.ingest_graph(
            aggregated_sample.repo, output_run="u/none"
        ),
        "no RUN collection": lambda: aggregator.ingest_graph(aggregated_sample.repo, output_run="u/sample"),
        "provenance graph is needed": lambda: sample_case.ingest(
            aggregated_sample, aggregated_sample.repo / "predicted.qg"
        ),
        "extension": lambda: sample_case.ingest(aggregated_sample, aggregated_sample.root / "expected.json"),
        "local files": lambda: aggregator.ingest_graph(aggregated_sample.repo, "ftp://host/graph.qg"),
    }.items():
        sample_case.unchanged(aggregated_sample, call, match)
    assert graph.exists()


def test_run_that_was_never_aggregated(sample: samples.Sample) -> None:
    sample_case.unchanged(sample, lambda: sample_case.ingest(sample), "Aggregate its graph into it first")


def test_hard_link_to_another_file_system(aggregated_sample: samples.Sample) -> None:
    other = pathlib.Path("/dev/shm") / f"test-{os.getpid()}.qg"
    if not other.parent.is_dir() or other.parent.stat().st_dev == aggregated_sample.root.stat().st_dev:
        pytest.skip("there is just one file system")
    shutil.copy(aggregated_sample.root / "provenance.qg", other)
    try:
        sample_case.unchanged(
            aggregated_sample,
            lambda: sample_case.ingest(aggregated_sample, other, transfer="hardlink"),
            "another file system",
        )
        sample_case.ingest(aggregated_sample, other)
        assert not other.exists()
    finally:
        other.unlink(missing_ok=True)


def test_another_graph_of_the_run(aggregated_sample: samples.Sample) -> None:
    sample_case.ingest(aggregated_sample)
    other = aggregated_sample.root / "provenance_dict.qg"
    sample_case.unchanged(
        aggregated_sample,
        lambda: sample_case.ingest(aggregated_sample, other),
        "is not the graph that is ingested",
    )


def test_datastore_that_accepts_no_graph(aggregated_sample: samples.Sample) -> None:
    sample_case.configure(aggregated_sample, constraints={"reject": ["run_provenance"]})
    sample_case.unchanged(
        aggregated_sample, lambda: sample_case.ingest(aggregated_sample), "no datastore accepts"
    )


def test_unregistered_dataset_type(aggregated_sample: samples.Sample) -> None:
    sample_case.database(aggregated_sample).execute(
        "UPDATE dataset_type SET name = 'x_log' WHERE name = 'clean_log'"
    )
    before = sample_case.files(aggregated_sample), sample_case.database(aggregated_sample).content()
    with pytest.raises(aggregator.AggregatorError, match="not registered: dataset type clean_log"):
        sample_case.ingest(aggregated_sample)
    assert (sample_case.files(aggregated_sample), sample_case.database(aggregated_sample).content()) == before


# Damage


def damage(path: pathlib.Path, member: str) -> None:
    """Overwrite a bit of a member's middle."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        start = info.header_offset + 30 + len(member)
    with path.open("r+b") as stream:
        stream.seek(start + info.file_size // 2)
        stream.write(b"\xff" * 40)


@pytest.mark.parametrize("member", ["logs.mb", "metadata.mb"])
def test_damaged_block_is_found_before_anything_is_deleted(
    aggregated_sample: samples.Sample, member: str
) -> None:
    graph = aggregated_sample.root / "provenance.qg"
    damage(graph, member)
    before, count = (
        sample_case.database(aggregated_sample).content(),
        len(sample_case.originals(aggregated_sample)),
    )
    with pytest.raises(aggregator.FormatError, match=member):
        sample_case.ingest(aggregated_sample)
    assert sample_case.database(aggregated_sample).content() == before
    assert len(sample_case.originals(aggregated_sample)) == count
    assert graph.exists()


def test_damage_after_the_ingestion(aggregated_sample: samples.Sample) -> None:
    """Also what was ingested before is read again before more files are deleted."""
    saved = {path: path.read_bytes() for path in sample_case.originals(aggregated_sample)}
    sample_case.ingest(aggregated_sample)
    for path, content in saved.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    target = aggregated_sample.repo / sample_case.PATH
    sound = target.read_bytes()
    damage(target, "logs.mb")
    with pytest.raises(aggregator.FormatError, match=r"logs\.mb"):
        sample_case.ingest(aggregated_sample)
    target.write_bytes(sound + b"\0")
    with pytest.raises(aggregator.AggregatorError, match=r"put back|not a quantum graph"):
        sample_case.ingest(aggregated_sample)
    target.unlink()
    with pytest.raises(aggregator.AggregatorError, match="run_provenance"):
        sample_case.ingest(aggregated_sample)
    assert len(sample_case.originals(aggregated_sample)) == len(saved)
    target.write_bytes(sound)
    assert sample_case.ingest(aggregated_sample).n_deleted == len(saved)


def test_graph_that_changes_meanwhile(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aggregator.storage import fault_points

    target, count = aggregated_sample.repo / sample_case.PATH, len(sample_case.originals(aggregated_sample))
    monkeypatch.setattr(
        fault_points, "reached", lambda point: target.write_bytes(b"") if point == "committed" else None
    )
    with pytest.raises(aggregator.AggregatorError, match="changed by somebody else"):
        sample_case.ingest(aggregated_sample, transfer="copy")
    assert len(sample_case.originals(aggregated_sample)) == count


# Contradictions, locks, permissions


def test_data_id_of_another_dataset(aggregated_sample: samples.Sample) -> None:
    """A dataset that the repository contradicts is named; its file stays."""
    db = sample_case.database(aggregated_sample)
    [(dataset, path)] = db.query(
        "SELECT d.id, r.path FROM dataset d JOIN dataset_type t ON t.id = d.dataset_type_id "
        "JOIN file_datastore_records r ON r.dataset_id = d.id WHERE t.name = 'clean_log' LIMIT 1"
    )
    [(tags,)] = db.query("SELECT tag_association_table FROM dataset_type WHERE name = 'clean_log'")
    for table, column in {
        "dataset": "id",
        tags: "dataset_id",
        "dataset_location": "dataset_id",
        "file_datastore_records": "dataset_id",
    }.items():
        db.execute(f"UPDATE {table} SET {column} = '{'0' * 32}' WHERE {column} = '{dataset}'")
    with pytest.raises(aggregator.AggregatorError, match="contradicts 1 dataset,") as caught:
        sample_case.ingest(aggregated_sample)
    assert caught.value.exit_code == 1
    assert "0" * 32 in str(caught.value)
    assert sample_case.originals(aggregated_sample) == [aggregated_sample.repo / path]
    assert (aggregated_sample.root / "provenance.qg").exists()


@pytest.mark.ordering("I4", "C7")
def test_another_process_is_at_it(aggregated_sample: samples.Sample) -> None:
    directory = (aggregated_sample.repo / sample_case.PATH).parent
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        before = sample_case.files(aggregated_sample), sample_case.database(aggregated_sample).content()
        with pytest.raises(aggregator.InUseError, match="another process") as caught:
            sample_case.ingest(aggregated_sample)
        assert caught.value.exit_code == 1
        after = sample_case.files(aggregated_sample), sample_case.database(aggregated_sample).content()
        assert after == before
    finally:
        os.close(fd)
    assert sample_case.ingest(aggregated_sample).n_ingested == 39


def test_another_process_was_faster(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has ingested between our look and our lock is not replaced by another graph."""
    from aggregator.storage import fault_points

    graph, faster = aggregated_sample.root / "provenance.qg", []

    def reached(name: str) -> None:
        if name == "checked" and not faster:
            faster.append(name)
            sample_case.ingest(aggregated_sample, transfer="copy")

    monkeypatch.setattr(fault_points, "reached", reached)
    with pytest.raises(aggregator.AggregatorError, match="another process has just ingested"):
        sample_case.ingest(aggregated_sample, aggregated_sample.root / "provenance_dict.qg")
    assert filecmp.cmp(aggregated_sample.repo / sample_case.PATH, graph, shallow=False)
    assert sample_case.ingest(aggregated_sample).n_present == 39


@pytest.fixture
def common(aggregated_sample: samples.Sample) -> Iterator[samples.Sample]:
    """Return the aggregated sample where everybody can get to it, owned by somebody without privileges."""
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        for path in (aggregated_sample.repo, aggregated_sample.root / "provenance.qg"):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, root / path.name)
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        yield samples.Sample(root, root / "repo", aggregated_sample.expected)


def as_nobody(
    sample: samples.Sample, other: samples.Sample, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as somebody whom permissions stop."""
    # That user may have no access to the libraries: ingesting another graph before imports all of them.
    code = (
        "import configparser, difflib, os, sys, aggregator, aggregator.command_line.main as c\n"
        "aggregator.ingest_graph(sys.argv[1], sys.argv[2], transfer='copy')\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "c.main(['ingest-graph', *sys.argv[3:]])"
    )
    command = [sys.executable, "-c", code, str(other.repo), str(other.root / "provenance.qg")]
    command += [str(sample.repo), str(sample.root / "provenance.qg"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")


@needs_root
def test_originals_that_cannot_be_deleted(common: samples.Sample, aggregated_sample: samples.Sample) -> None:
    """They are named, everything else is done, and the same command finishes it."""
    kept = sample_case.originals(common)[-1]
    os.chown(kept.parent, 0, 0)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 1, done.stderr
    assert f"{kept} (Permission denied)" in done.stderr
    assert "1 original file could not be deleted" in done.stderr
    assert sample_case.originals(common) == [kept]
    assert (common.root / "provenance.qg").exists()
    os.chown(kept.parent, NOBODY, NOBODY)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 0, done.stderr
    assert sample_case.originals(common) == []
    assert not (common.root / "provenance.qg").exists()


@needs_root
def test_move_from_where_nothing_can_be_removed(
    common: samples.Sample, aggregated_sample: samples.Sample
) -> None:
    os.chown(common.root, 0, 0)
    before = sample_case.database(common).content()
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 2, done.stderr
    assert "not writeable; copy it instead" in done.stderr
    assert sample_case.database(common).content() == before
    assert as_nobody(common, aggregated_sample, "-t", "copy").returncode == 0
    assert sample_case.originals(common) == []


# Other repositories


def chain(sample: samples.Sample, *constraints: dict[str, Any]) -> None:
    """Give the repository a second datastore beside the first one, with all of its files."""
    path = sample.repo / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    package = "lsst.daf.butler.datastores."
    children = []
    for number, each in enumerate(constraints):
        root = sample.repo if number == 0 else sample.repo.with_name(f"store{number}")
        if number:
            shutil.copytree(sample.repo / "u", root / "u")
        table = "file_datastore_records" if number == 0 else f"records{number}"
        children.append(
            {
                "datastore": {
                    "cls": package + "fileDatastore.FileDatastore",
                    "root": str(root),
                    "name": "FileDatastore@<butlerRoot>" if number == 0 else f"store{number}",
                    "records": {"table": table},
                    **({"constraints": each} if each else {}),
                }
            }
        )
        if number:
            with contextlib.closing(sqlite3.connect(sample.repo / "gen3.sqlite3")) as connection, connection:
                connection.execute(f"CREATE TABLE {table} AS SELECT * FROM file_datastore_records")
                connection.execute(
                    f"INSERT INTO dataset_location SELECT 'store{number}', dataset_id FROM dataset_location"
                )
            connection.close()
    content["datastore"] = {"cls": package + "chainedDatastore.ChainedDatastore", "datastores": children}
    path.write_text(yaml.safe_dump(content))


def test_chained_datastores(aggregated_sample: samples.Sample) -> None:
    """Each has a graph of its own, and no original files any more."""
    chain(aggregated_sample, {}, {})
    done = sample_case.ingest(aggregated_sample)
    other = aggregated_sample.repo.with_name("store1")
    assert (other / sample_case.PATH).stat().st_size == (
        aggregated_sample.repo / sample_case.PATH
    ).stat().st_size
    assert done.n_deleted == 78
    for table in ("file_datastore_records", "records1"):
        assert sample_case.database(aggregated_sample).query(
            f"SELECT count(*) FROM {table} WHERE path = '{sample_case.PATH}'"
        ) == [(40,)]
    assert sample_case.ingest(aggregated_sample).n_present == 39


def test_chained_datastore_without_the_graph(aggregated_sample: samples.Sample) -> None:
    """Where the graph is not accepted, the files it replaces go all the same."""
    chain(aggregated_sample, {}, {"reject": ["run_provenance", "clean_log"]})
    done = sample_case.ingest(aggregated_sample)
    assert not (aggregated_sample.repo.with_name("store1") / sample_case.PATH).exists()
    assert done.n_ingested == 39
    assert sample_case.originals(aggregated_sample) == []
    db = sample_case.database(aggregated_sample)
    logs = "SELECT dataset_id FROM records1 WHERE path LIKE '%_log/%'"
    assert db.query(f"SELECT count(*) FROM ({logs})") == [(0,)]


def test_templates_with_other_directories(aggregated_sample: samples.Sample) -> None:
    """Original files are where the repository's templates say, and what they leave empty goes."""
    fields = "{tract:?}_{patch:?}_{skymap:?}_{band:?}_{instrument:?}_{detector:?}"
    template = "other/{run:/}/all.{datasetType}/{visit:?}/{detector.raft:?}_" + fields + "_{run}"
    sample_case.configure(aggregated_sample, templates={"default": template})
    directory = aggregated_sample.repo / "other" / sample_case.RUN
    raft = directory / "all.clean_log" / "101" / "R0_g_SampleCam_1_u_sample_run1.json"
    raft.parent.mkdir(parents=True)
    found = (path for path in sample_case.originals(aggregated_sample) if "clean_log" in path.name)
    [log] = [path for path in found if "_101_" in path.name and "S1" in path.name]
    shutil.copy2(log, raft)
    done = sample_case.ingest(aggregated_sample)
    assert (done.n_missing, done.n_deleted, done.n_directories) == (38, 1, 2)
    assert [path.name for path in directory.iterdir()] == ["all.run_provenance"]


def test_trouble_while_directories_are_looked_at(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = sample_case.ingest(aggregated_sample)
    assert any("can't look into it (Input/output error)" in line for line in done.lines())


def test_trouble_that_nothing_explains(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told what to do, and what was done."""

    def remove(self: object, tick: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "/some/where")

    monkeypatch.setattr(originals.Originals, "remove_directories", remove)
    with pytest.raises(aggregator.AggregatorError, match="/some/where: Too many open files") as caught:
        sample_case.ingest(aggregated_sample)
    assert caught.value.summary is not None


@pytest.mark.ordering("O2")
def test_size_that_cannot_be_found_out(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble for a moment does not make a file one that has the size which is recorded."""
    path = sample_case.originals(aggregated_sample)[-1]
    recorded, size = path.relative_to(aggregated_sample.repo), path.stat().st_size
    db = sample_case.database(aggregated_sample)
    db.execute(f"UPDATE file_datastore_records SET file_size = {size + 1} WHERE path = '{recorded}'")
    original, failures = os.lstat, [path] * 2

    def lstat(given: Any, **options: Any) -> os.stat_result:
        if failures and not isinstance(given, int) and os.fspath(given) == str(failures[-1]):
            raise OSError(errno.ESTALE, "Stale file handle", os.fspath(failures.pop()))
        return original(given, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(aggregator.AggregatorError, match="1 original file is not what the graph"):
        sample_case.ingest(aggregated_sample)
    assert failures == []
    assert path.exists()


@pytest.mark.ordering("I5")
def test_original_graph_that_cannot_be_looked_at(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move is not called finished; the same command finishes it."""
    graph = aggregated_sample.root / "provenance.qg"

    def remove(self: Any, tick: Any) -> tuple[int, list[str]]:
        monkeypatch.setattr(os, "lstat", lstat)
        return 0, []

    original = os.lstat

    def lstat(given: Any, **options: Any) -> os.stat_result:
        if not isinstance(given, int) and os.fspath(given) == str(graph):
            raise PermissionError(errno.EACCES, "Permission denied", str(graph))
        return original(given, **options)

    with monkeypatch.context():
        monkeypatch.setattr(originals.Originals, "remove_directories", remove)
        with pytest.raises(aggregator.AggregatorError, match="Permission denied"):
            sample_case.ingest(aggregated_sample)
    monkeypatch.undo()
    assert graph.exists()
    sample_case.ingest(aggregated_sample)
    assert not graph.exists()


@pytest.mark.ordering("W1")
@pytest.mark.parametrize("transfer", ["move", "copy", "hardlink"])
def test_graph_is_synced_before_it_gets_its_name(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, transfer: str
) -> None:
    synced: set[int] = set()
    original, rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        original(fd)

    def renamed(source: str, target: str) -> None:
        if str(target).endswith(".qg"):
            assert os.stat(source).st_ino in synced
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", renamed)
    sample_case.ingest(aggregated_sample, transfer=transfer)


@needs_root
def test_directories_that_cannot_be_removed(
    common: samples.Sample, aggregated_sample: samples.Sample
) -> None:
    """They are empty, so everything is done; but they are named."""
    kept = sample_case.originals(common)[-1].parent
    os.chown(kept.parent, 0, 0)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 0, done.stderr
    assert f"Directory left: {kept}: can't remove it (Permission denied)" in done.stdout
    assert kept.is_dir()


@needs_root
def test_originals_that_cannot_be_read(common: samples.Sample, aggregated_sample: samples.Sample) -> None:
    """They are not called changed, so nobody is told to delete them; when they can be read, they go."""
    kept = sample_case.originals(common)[-1]
    os.utime(kept, (2e9, 2e9))
    os.chown(kept, 0, 0)
    kept.chmod(0o600)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 1, done.stderr
    assert "1 original file could not be deleted" in done.stderr
    assert f"{kept} (can't open it (Permission denied))" in done.stderr
    assert sample_case.originals(common) == [kept]
    kept.chmod(0o644)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 0, done.stderr
    assert sample_case.originals(common) == []
