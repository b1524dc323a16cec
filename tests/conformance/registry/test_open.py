"""Opening a repository's database: what is refused, and what a read-only client leaves alone."""

import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import tempfile
from typing import Any

import pytest
import sqlalchemy
from aggregator.butler.databases import sqlite
from aggregator.butler.registry import managers, registry
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors

from tests.helpers import databases, registry_rows, samples

NOBODY = 65534


def open_file(path: pathlib.Path, **options: Any) -> registry.Registry:
    return databases.Sqlite(path).open(**options)


def test_sample_opens(database: databases.Database) -> None:
    with database.open(writeable=False) as opened:
        assert (opened.universe.namespace, opened.universe.version) == ("daf_butler", 8)
        assert len(opened.datasets.ids("in/raw")) == 28


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://someone:secret@host/db", "oracle is not supported"),
        ("postgresql://someone:secret@host:port/db", "not a database URL"),
        ("no url", "is not a database URL"),
        ("sqlite://", "names no database file"),
        ("sqlite:///:memory:", "names no database file"),
        ("sqlite:////nowhere/gen3.sqlite3", "no such database file"),
    ],
)
def test_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(errors.RefusedError, match=message) as caught:
        registry.open_registry(url, None, writeable=False)
    assert "secret" not in str(caught.value)


def test_namespace_is_refused(sample: samples.Sample) -> None:
    with pytest.raises(errors.RefusedError, match="SQLite has no namespaces"):
        registry.open_registry(f"sqlite:///{sample.repo / 'gen3.sqlite3'}", "ns1", writeable=False)


@pytest.mark.parametrize("writeable", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not the database of a Butler repository"), (b"other" * 1000, "file is not a database")],
)
def test_other_file_is_refused(
    tmp_path: pathlib.Path, content: bytes, message: str, *, writeable: bool
) -> None:
    path = tmp_path / "gen3.sqlite3"
    path.write_bytes(content)
    with pytest.raises(errors.RefusedError, match=message):
        open_file(path, writeable=writeable)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["gen3.sqlite3"]


@pytest.mark.parametrize("writeable", [False, True])
def test_missing_file_is_not_created(tmp_path: pathlib.Path, *, writeable: bool) -> None:
    with pytest.raises(errors.RefusedError, match="no such database file"):
        open_file(tmp_path / "gen3.sqlite3", writeable=writeable)
    with pytest.raises(errors.RefusedError, match="no such database file"):
        open_file(tmp_path, writeable=writeable)
    assert os.listdir(tmp_path) == []


def attributes(**versions: str) -> dict[str, str]:
    """Make the attributes of a repository, with some versions of our choice."""
    found = {}
    for part, (cls, numbers) in managers.KNOWN.items():
        found[f"config:registry.managers.{part}"] = cls
        found[f"version:{cls}"] = versions.get(part, ".".join(map(str, numbers)))
    return found


@pytest.mark.parametrize(
    ("version", "readable", "writeable"),
    [
        ("6.0.2", True, True),
        ("6.0.99", True, True),
        ("6.1.0", False, False),
        ("5.0.2", False, False),
        ("7.0.0", False, False),
        ("6.0", False, False),
        ("six", False, False),
    ],
)
def test_schema_version(version: str, readable: bool, writeable: bool) -> None:
    for purpose, good in ((False, readable), (True, writeable)):
        if good:
            managers.check(attributes(dimensions=version), "db", writeable=purpose)
        else:
            with pytest.raises(
                errors.RefusedError, match=rf"has version {re.escape(version)}, known is 6\.0\.2"
            ):
                managers.check(attributes(dimensions=version), "db", writeable=purpose)


def test_older_minor_version_can_only_be_read() -> None:
    older = attributes(datastores="0.1.9")
    managers.check(older, "db", writeable=False)
    with pytest.raises(errors.RefusedError, match=r"has version 0\.1\.9, known is 0\.2\.1"):
        managers.check(older, "db", writeable=True)


def test_unknown_managers_are_refused() -> None:
    other = attributes() | {"config:registry.managers.collections": "lsst.NameKeyCollectionManager"}
    with pytest.raises(
        errors.RefusedError, match=r"collections is lsst\.NameKey.*known is lsst\..*SynthIntKey"
    ):
        managers.check(other, "db", writeable=False)
    missing = attributes()
    del missing["config:registry.managers.opaque"]
    with pytest.raises(errors.RefusedError, match="opaque is missing"):
        managers.check(missing, "db", writeable=False)
    unversioned = attributes()
    del unversioned[f"version:{managers.KNOWN['datasets'][0]}"]
    with pytest.raises(errors.RefusedError, match="has version none"):
        managers.check(unversioned, "db", writeable=False)


def test_additional_manager_prevents_writing_only() -> None:
    live = attributes() | {"config:registry.managers.obscore": "lsst.ObsCoreLiveTableManager"}
    managers.check(live, "db", writeable=False)
    with pytest.raises(errors.RefusedError, match="live ObsCore tables"):
        managers.check(live, "db", writeable=True)


def test_repository_of_other_version_is_refused(database: databases.Database) -> None:
    database.execute("UPDATE butler_attributes SET value = '1.0.0' WHERE name LIKE 'version:%UUID'")
    with pytest.raises(errors.RefusedError, match=r"datasets.*1\.0\.0, known is 2\.0\.0") as caught:
        database.open(writeable=False)
    assert database.shown in str(caught.value)


@pytest.mark.parametrize("change", ["DELETE FROM", "UPDATE butler_attributes SET value = '{' --"])
def test_repository_without_universe_is_refused(database: databases.Database, change: str) -> None:
    condition = "WHERE name = 'config:dimensions.json'"
    database.execute(f"{change} butler_attributes\n{condition}")
    with pytest.raises(errors.RefusedError, match="dimensions"):
        database.open(writeable=False)


def test_reading_changes_nothing(sample: samples.Sample) -> None:
    path = sample.repo / "gen3.sqlite3"
    before, files = path.read_bytes(), sorted(os.listdir(sample.repo))
    stamp = path.stat().st_mtime_ns
    with open_file(path, writeable=False) as opened:
        assert opened.collections.flatten(["in/all"]) == ["in/raw"]
        ids = registry_rows.ids(databases.Sqlite(path), "in/raw")
        assert set(addresses.hex_digits(opened.datasets.ids("in/raw"))) == ids
        assert opened.datasets.graphs("in/raw") == frozenset()
        with pytest.raises(errors.AggregatorError, match="opened for reading only"):
            opened.collections.register_run("u/someone/run")
        with pytest.raises(sqlalchemy.exc.OperationalError), opened._db.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM dataset")
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stamp
    assert sorted(os.listdir(sample.repo)) == files


def use_without_permission(path: pathlib.Path) -> None:
    """Read a repository that can't be written, and try to write to it."""
    if os.getuid() == 0:
        os.setuid(NOBODY)
    with open_file(path, writeable=False) as opened:
        assert len(opened.datasets.ids("in/raw")) == 28
    with (
        open_file(path) as opened,
        pytest.raises(errors.AggregatorError, match=r"gen3\.sqlite3: .*readonly.*writeable") as caught,
    ):
        opened.collections.register_run("u/someone/run")
    assert caught.value.exit_code == 1


def test_readonly_file(sample: samples.Sample) -> None:
    # Not below tmp_path, which other users can't enter.
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        path = pathlib.Path(shutil.copy(sample.repo / "gen3.sqlite3", directory))
        path.chmod(0o444)
        directory.chmod(0o555)
        process = multiprocessing.get_context("fork").Process(target=use_without_permission, args=(path,))
        process.start()
        process.join()
        directory.chmod(0o755)
        assert process.exitcode == 0


def cut_off_in_a_transaction(path: pathlib.Path) -> None:
    """Write more than the cache holds, so that some is in the file already, and die."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM dataset_location")
    connection.execute("DELETE FROM file_datastore_records")
    os.kill(os.getpid(), signal.SIGKILL)


def read_what_was_cut_off(path: pathlib.Path) -> None:
    """Read, without the right to undo the transaction."""
    if os.getuid() == 0:
        os.setuid(NOBODY)
    with pytest.raises(errors.AggregatorError, match=r"gen3\.sqlite3: .*was killed while it wrote"):
        open_file(path, writeable=False)


def test_reading_after_a_writer_was_killed(sample: samples.Sample) -> None:
    """What a killed process left in the middle of a transaction is undone by whoever may, or explained."""
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        path = pathlib.Path(shutil.copy(sample.repo / "gen3.sqlite3", directory))
        n_rows = databases.Sqlite(path).count("dataset_location")
        writer = fork.Process(target=cut_off_in_a_transaction, args=(path,))
        writer.start()
        writer.join()
        assert pathlib.Path(f"{path}-journal").exists()
        directory.chmod(0o555)
        path.chmod(0o444)
        reader = fork.Process(target=read_what_was_cut_off, args=(path,))
        reader.start()
        reader.join()
        assert reader.exitcode == 0
        directory.chmod(0o755)
        path.chmod(0o644)
        with open_file(path, writeable=False) as opened:
            assert len(opened.datasets.ids("in/raw")) == 28
        assert databases.Sqlite(path).count("dataset_location") == n_rows > 0


def test_lock_held_too_long(sample: samples.Sample) -> None:
    path = sample.repo / "gen3.sqlite3"
    other = sqlite3.connect(path, isolation_level=None)
    with open_file(path, busy_timeout_ms=50) as opened:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.AggregatorError, match=r"gen3\.sqlite3: database is locked .*0\.05 s"):
            opened.collections.register_run("u/someone/run")
        other.execute("ROLLBACK")
        # Another process that reads all the time keeps us from committing.
        cursor = other.execute("SELECT id FROM dataset")
        cursor.fetchone()
        with pytest.raises(errors.AggregatorError, match="database is locked"):
            opened.collections.register_run("u/someone/run")
        cursor.close()
        assert opened.collections.find("u/someone/run") is None
        opened.collections.register_run("u/someone/run")
        assert opened.collections.find("u/someone/run") is not None
    other.close()


def test_connection_settings(sample: samples.Sample) -> None:
    path = sample.repo / "gen3.sqlite3"
    with open_file(path) as opened, opened._db.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("foreign_keys", "synchronous", "journal_mode")
        }
        # It is waited in slices, so that signals come through; they add up to this.
        assert opened._db._wait == sqlite.BUSY_TIMEOUT_MS / 1000
    assert settings == {
        "foreign_keys": 1,
        "synchronous": 2,
        "journal_mode": "delete",
    }


@pytest.mark.parametrize("is_gone", [False, True])
def test_file_that_is_replaced_while_it_is_open(sample: samples.Sample, is_gone: bool) -> None:
    """Nothing goes into a file that nobody finds any more, nor into the one in its place."""
    path = sample.repo / "gen3.sqlite3"
    with open_file(path, writeable=True) as opened:
        opened.collections.register_run("before")
        other = path.with_name("backup.sqlite3")
        shutil.copy(path, other)
        if is_gone:
            path.unlink()
        else:
            other.rename(path)
        with pytest.raises(errors.AggregatorError, match="was replaced, moved or removed") as caught:
            opened.collections.register_run("after")
    assert str(path) in str(caught.value)
    with open_file(other if is_gone else path, writeable=False) as there:
        assert there.collections.find("before") is not None
        assert there.collections.find("after") is None
