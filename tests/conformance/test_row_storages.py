"""Storages that are tables, in SQLite and in PostgreSQL."""

from __future__ import annotations

import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.storage import errors, pending_files

from tests.helpers import postgresql_server, stage_storages

place = stage_storages.place
STORAGES = pytest.mark.parametrize("storage", ["DbStorage", "DbTsvStorage"])
TABLE = (
    "CREATE TABLE quality (visit BIGINT, detector BIGINT, median DOUBLE PRECISION, note TEXT, good BOOLEAN, "
    "raw {bytes}, PRIMARY KEY (visit, detector))"
)


class Place:
    """A database with a table, for tests."""

    def __init__(self, url: str, execute: Callable[..., Any], query: Callable[[str], list[Any]]) -> None:
        self.url, self.execute, self.query = url, execute, query

    def rows(self) -> list[Any]:
        """Return all rows."""
        return self.query("SELECT visit, detector, median, note FROM quality ORDER BY visit, detector")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Place]:
    """Return a database with a table."""
    if request.param == "sqlite":
        path = tmp_path / "quality.sqlite3"

        def execute(statement: str) -> None:
            with sqlite3.connect(path) as connection:
                connection.execute(statement)
            connection.close()

        def query(statement: str) -> list[Any]:
            connection = sqlite3.connect(path)
            rows = connection.execute(statement).fetchall()
            connection.close()
            return rows

        execute(TABLE.format(bytes="BLOB"))
        yield Place(f"sqlite:///{path}", execute, query)
        return
    server: postgresql_server.Server = request.getfixturevalue("postgresql")
    name = server.create_database()
    server.execute(name, TABLE.format(bytes="BYTEA"))
    yield Place(
        server.url(name), lambda text: server.execute(name, text), lambda text: server.query(name, text)
    )
    server.drop_database(name)


@pytest.fixture
def storages() -> Iterator[stage_storages.Storages]:
    """Return storages, which are closed in the end."""
    made = stage_storages.Storages()
    yield made
    made.registry.close()


ROW = {
    "visit": 1,
    "detector": 2,
    "median": 1.5,
    "note": "tab\tback\\slash\nline",
    "good": True,
    "raw": b"\x00\\x",
}


@STORAGES
def test_row(database: Place, storages: stage_storages.Storages, storage: str) -> None:
    where = place(storage, database.url)
    storages.write(ROW, where)
    assert database.rows() == [(1, 2, 1.5, ROW["note"])]
    read = storages.read(where, python_type=dict, visit=1, detector=2)
    assert {**read, "good": bool(read["good"]), "raw": bytes(read["raw"])} == ROW


@STORAGES
def test_table_and_columns(database: Place, storages: stage_storages.Storages, storage: str) -> None:
    settings = (
        "Formatter.Numbers: {}\nFormatter.PropertySet: {TableName: quality, "
        "KeyList: [visit=visit, detector=ccd, median=numbers.median, note=absent]}"
    )
    item = {"numbers": {"median": 2.5}, "ccd": 3, "more": 1}
    where = place(storage, database.url)
    storages.write(item, where, type_name="PropertySet", settings=settings, itemName="other", visit=7)
    assert database.rows() == [(7, 3, 2.5, None)]
    read = storages.read(where, type_name="PropertySet", settings=settings, itemName="other", visit=7, ccd=3)
    assert read == {"visit": 7, "ccd": 3, "numbers": {"median": 2.5}, "absent": None}


@STORAGES
@pytest.mark.parametrize("kind", ["astropy", "pyarrow"])
def test_tables(database: Place, storages: stage_storages.Storages, storage: str, kind: str) -> None:
    module = pytest.importorskip("astropy.table" if kind == "astropy" else "pyarrow")
    columns = {"detector": [2, 1, 1], "median": [1.0, 2.0, 3.0], "visit": [4, 5, 6]}
    table = module.Table(columns) if kind == "astropy" else module.Table.from_pydict(columns)
    storages.write(table, place(storage, database.url))
    assert database.rows() == [(4, 2, 1.0, None), (5, 1, 2.0, None), (6, 1, 3.0, None)]
    read = storages.read(place(storage, database.url), python_type=type(table), detector=1)
    assert len(read) == 2


def test_rows_that_are_there(database: Place, storages: stage_storages.Storages) -> None:
    where = place("DbStorage", database.url)
    storages.write({**ROW, "note": "first"}, where)
    with pytest.raises(errors.RefusedError, match="overwrite: true"):
        storages.write({**ROW, "note": "second"}, where)
    assert database.rows()[0][3] == "first"
    storages.write({**ROW, "note": "third"}, where, settings="DbStorage: {overwrite: true}")
    assert database.rows() == [(1, 2, 1.5, "third")]
    storages.write({**ROW, "note": "fourth"}, place("DbTsvStorage", database.url))
    assert database.rows() == [(1, 2, 1.5, "fourth")]


def test_of_rows_with_one_key_the_last_one_stays(
    database: Place, storages: stage_storages.Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    monkeypatch.setattr("aggregator.butler.databases.row_tables.ROWS_AT_ONCE", 2)
    table = pyarrow.Table.from_pydict(
        {"visit": [1] * 5, "detector": [1, 1, 2, 1, 2], "median": [1.0, 2.0, 3.0, 4.0, 5.0]}
    )
    storages.write(table, place("DbTsvStorage", database.url))
    assert database.rows() == [(1, 1, 4.0, None), (1, 2, 5.0, None)]


def test_what_is_kept(database: Place) -> None:
    storages = stage_storages.Storages(keeps=True)
    where = place("DbStorage", database.url)
    assert not storages.is_there(where, visit=1)
    storages.write({**ROW, "note": "first"}, where)
    storages.write({**ROW, "note": "second"}, where)
    assert storages.is_there(where, visit=1)
    assert not storages.is_there(where, visit=2)
    assert not storages.is_there(where, median=1.5)
    assert database.rows()[0][3] == "first"
    storages.registry.close()


@pytest.mark.ordering("P6")
@STORAGES
@pytest.mark.parametrize(
    ("detectors", "kept", "replaced"),
    [
        ([1, 2], {"DbStorage": [(1, 0.0), (2, 0.0)], "DbTsvStorage": [(1, 1.0), (2, 1.0)]}, [1, 2]),
        ([2, 3], {}, [2, 3]),
        ([1], {}, [1]),
        ([1, 2, 3], {}, [1, 2, 3]),
    ],
)
def test_rows_of_a_job_that_has_a_part_of_their_key(
    database: Place, storage: str, detectors: list[int], kept: dict[str, list[Any]], replaced: list[int]
) -> None:
    """Other rows than those that are there are refused, or take the place of all of them."""
    pyarrow = pytest.importorskip("pyarrow")
    storages, where = stage_storages.Storages(keeps=True), place(storage, database.url)

    def write(numbers: list[int], median: float, overwrite: str) -> None:
        table = pyarrow.Table.from_pydict({"detector": numbers, "median": [median] * len(numbers)})
        settings = "Formatter.ArrowTable: {KeyList: [visit=visit, detector=detector, median=median]}\n"
        settings += f"{storage}: {{overwrite: {overwrite}}}"
        storages.write(table, where, type_name="ArrowTable", settings=settings, visit=7)

    def rows() -> list[Any]:
        assert {row[0] for row in database.rows()} == {7, 8}
        return [row[1:3] for row in database.rows() if row[0] == 7]

    database.execute("INSERT INTO quality (visit, detector, median) VALUES (8, 1, 5.0)")
    write([1, 2], 0.0, "false")
    if kept:
        write(detectors, 1.0, "false")
        assert rows() == kept[storage]
    else:
        with pytest.raises(errors.RefusedError, match="has other rows with visit=7 than"):
            write(detectors, 1.0, "false")
        assert rows() == [(1, 0.0), (2, 0.0)]
    write(detectors, 2.0, "true")
    assert rows() == [(number, 2.0) for number in replaced]
    storages.registry.close()


@STORAGES
def test_a_row_with_values_of_another_job(database: Place, storage: str) -> None:
    storages = stage_storages.Storages(keeps=True)
    with pytest.raises(errors.RefusedError, match="has detector=9, but its job detector=2"):
        storages.write({"visit": 1, "detector": 9}, place(storage, database.url), visit=1, detector=2)
    assert database.rows() == []
    storages.registry.close()


@STORAGES
def test_all_or_nothing(
    database: Place, storages: stage_storages.Storages, storage: str, tmp_path: pathlib.Path
) -> None:
    rows, file = place(storage, database.url), place("XmlStorage", tmp_path / "new" / "file")
    (tmp_path / "taken").touch()
    item = dict(ROW)
    for places in (
        [rows, file, place("XmlStorage", tmp_path / "taken")],
        [place("DbStorage", database.url)] * 2,
    ):
        with pytest.raises(errors.RefusedError):
            storages.write(item, *places)
        assert database.rows() == []
        assert not (tmp_path / "new").exists()
    # The table does not take it, after the file was written.
    with pytest.raises(errors.RefusedError, match="no column 'strange'"):
        storages.write({**item, "strange": 1}, file, rows)
    assert not (tmp_path / "new").exists()
    storages.write(item, file, rows)
    assert len(database.rows()) == 1


@pytest.mark.ordering("P1", "P3")
def test_rows_are_committed_last(
    database: Place,
    storages: stage_storages.Storages,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only files can be taken back."""

    def fail(_: object) -> None:
        raise errors.AggregatorError("no room for names")

    monkeypatch.setattr(pending_files.PendingFile, "commit", fail)
    with pytest.raises(errors.AggregatorError, match="no room"):
        storages.write(ROW, place("DbStorage", database.url), place("XmlStorage", tmp_path / "new" / "file"))
    assert database.rows() == []
    assert not (tmp_path / "new").exists()


def test_two_storages_of_one_database(database: Place, storages: stage_storages.Storages) -> None:
    database.execute("CREATE TABLE copies (visit BIGINT PRIMARY KEY, median DOUBLE PRECISION)")
    settings = "Formatter.PropertySet: {KeyList: [visit=visit, median=median]}"
    both = [place("DbStorage", database.url), place("DbTsvStorage", database.url)]
    storages.write(
        {"visit": 1, "median": 2.0}, *both, type_name="PropertySet", settings=settings, itemName="copies"
    )
    assert database.query("SELECT * FROM copies") == [(1, 2.0)]


@STORAGES
def test_two_processes_write_the_same(database: Place, storage: str) -> None:
    settings = "DbStorage: {overwrite: true}"
    problems: list[BaseException] = []

    def write(number: int) -> None:
        storages = stage_storages.Storages()
        try:
            for visit in range(10):
                storages.write(
                    {**ROW, "visit": visit, "median": float(number)},
                    place(storage, database.url),
                    settings=settings,
                )
        except BaseException as exc:
            problems.append(exc)
        finally:
            storages.registry.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(database.rows()) == 10


def test_temporary_file(database: Place, storages: stage_storages.Storages, tmp_path: pathlib.Path) -> None:
    (tmp_path / "work").mkdir()
    where = place("DbTsvStorage", database.url)
    storages.write(ROW, where, settings=f"DbTsvStorage: {{TempPath: {tmp_path}/work}}")
    assert not list((tmp_path / "work").iterdir())
    storages.write(ROW, where, settings=f"DbTsvStorage: {{TempPath: {tmp_path}/work, SaveTemp: true}}")
    (kept,) = (tmp_path / "work").iterdir()
    assert kept.read_bytes() == b"1\t2\t1.5\ttab\\tback\\\\slash\\nline\t1\t\\\\x005c78\n"
    with pytest.raises(errors.AggregatorError, match="is no directory"):
        storages.write(ROW, where, settings=f"DbTsvStorage: {{TempPath: {tmp_path}/none}}")


@pytest.mark.parametrize(
    ("item", "settings", "text"),
    [
        ({"visit": "x", "detector": 1}, "{}", "row 1 does not fit"),
        ({"visit": 1}, "{}", "primary key"),
        ({"visit": 1, "detector": 1}, "Formatter.PropertySet: {TableName: nowhere}", "CREATE TABLE nowhere"),
        ({"visit": 1, "detector": 1}, "Formatter.PropertySet: {KeyList: [visit]}", "has to be COLUMN=KEY"),
    ],
)
def test_what_is_refused(
    database: Place, storages: stage_storages.Storages, item: Any, settings: str, text: str
) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        storages.write(item, place("DbTsvStorage", database.url), type_name="PropertySet", settings=settings)
    assert text in str(caught.value)
    assert database.rows() == []


def test_tables_of_a_repository(database: Place, storages: stage_storages.Storages) -> None:
    database.execute("CREATE TABLE butler_attributes (name TEXT PRIMARY KEY, value TEXT)")
    with pytest.raises(errors.RefusedError, match="is among those of a repository"):
        storages.write(ROW, place("DbTsvStorage", database.url))
    assert database.rows() == []


def test_reading_what_is_not_there(database: Place, storages: stage_storages.Storages) -> None:
    with pytest.raises(errors.RefusedError, match="there are 0 such rows"):
        storages.read(place("DbStorage", database.url), type_name="PropertySet", visit=1)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://host/name", "mysql is not supported"),
        ("postgresql://user:secret@host/name", "no password can stand in a policy"),
        ("postgresql://host/name?password=secret", "no password can stand in a policy"),
        ("no url", "is no URL of a database"),
        ("sqlite:////nowhere/at/all.sqlite3", "no such database file"),
    ],
)
@STORAGES
def test_urls(storage: str, url: str, text: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        stage_storages.Storages().write(ROW, place(storage, url))
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)
