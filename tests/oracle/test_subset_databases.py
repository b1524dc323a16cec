"""Transfers between databases of both kinds that contradict each other, fail, or take from two at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import pathlib
from typing import Any

import pytest
from aggregator.storage import local_transfers
from click import testing

import aggregator
from aggregator.command_line import main
from tests.helpers import databases, kills, lossy_connections, transfer_case
from tests.helpers.oracle import difference

OTHER = "0" * 31 + "1"

FULL = aggregator.TransferConfig(registry="full")

PAIRS = [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("postgresql", "postgresql")]


class Places:
    """Makes repositories.

    Parameters
    ----------
    root
        Directory for them.
    server
        For databases of those that are not in SQLite.
    """

    def __init__(self, root: pathlib.Path, server: Any) -> None:
        self._root, self._server = root, server

    def options(self, kind: str) -> tuple[dict[str, Any], databases.Database | None]:
        """Return what makes a repository with a database of a kind, and that unless it is a file."""
        if kind == "sqlite":
            return {}, None
        name = self._server.create_database()
        options = {"database": self._server.url(name), "namespace": "ns"}
        return options, databases.Postgresql(self._server, name, "ns")

    def copied(self, source: pathlib.Path, name: str, kind: str) -> tuple[pathlib.Path, databases.Database]:
        """Copy all of a repository into a new one."""
        options, database = self.options(kind)
        config = dataclasses.replace(FULL, files="copy", **options)
        target = self._root / name
        aggregator.subset(source, target, transfer_case.ALL, config)
        return target, database or databases.Sqlite(target / "gen3.sqlite3")


@pytest.fixture
def places(tmp_path: pathlib.Path, postgresql: Any) -> Places:
    return Places(tmp_path, postgresql)


@pytest.mark.parametrize(("giving", "taking"), PAIRS)
def test_contradictions_are_the_same_everywhere(
    transfer_source: pathlib.Path, places: Places, giving: str, taking: str
) -> None:
    source = transfer_source
    if giving == "postgresql":
        source, _ = places.copied(transfer_source, "source", giving)
    target, database = places.copied(source, "target", taking)
    difference.assert_same(transfer_case.content(source), transfer_case.content(target), "Repositories")
    query = "SELECT d.id FROM dataset d JOIN dataset_type t ON t.id = d.dataset_type_id WHERE t.name = "
    image = sorted(row[0] for row in database.query(f"{query}'clean_image'"))[0]
    tags = [name for name in database.tables() if name.startswith("dataset_tags_")]
    database.execute(
        f"UPDATE dataset SET id = '{OTHER}', ingest_date = 1 WHERE id = '{image}'",
        *(
            f"UPDATE {table} SET dataset_id = '{OTHER}' WHERE dataset_id = '{image}'"
            for table in (*tags, "dataset_location", "file_datastore_records")
        ),
        "UPDATE detector SET purpose = 'OTHER' WHERE id = 1",
        "UPDATE dataset_type SET storage_class = 'Other' WHERE name = 'refcat'",
    )
    before = database.content()
    config = dataclasses.replace(FULL, on_dimension_conflict="fail")
    for dry_run in (True, False):
        with pytest.raises(aggregator.RefusedError) as raised:
            aggregator.subset(source, target, transfer_case.ALL, dataclasses.replace(config, dry_run=dry_run))
        assert isinstance(raised.value.summary, aggregator.TransferReport)
        assert {each.kind for each in raised.value.summary.done.conflicts} >= {"C3", "C5", "C6"}
        difference.assert_same(before, database.content(), "after a refusal")
    config = dataclasses.replace(
        FULL, on_conflict="newest", allow_delete=True, storage_class="keep-destination"
    )
    report = aggregator.subset(source, target, transfer_case.ALL, config)
    assert (report.done.datasets_replaced, report.done.records_differing) == (1, 1)
    ids = [row[0] for row in database.query(f"{query}'clean_image'")]
    assert image in ids
    assert OTHER not in ids
    assert aggregator.subset(source, target, transfer_case.ALL, config).done.datasets_added == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_at_a_time_complete_each_other(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path, places: Places, kind: str
) -> None:
    """One waits with its files in place while another brings all of them, and their rows."""
    target, marker = tmp_path / "target", tmp_path / "marker"
    options, _ = places.options(kind)
    create = {"database_url": options.get("database"), "namespace": options.get("namespace")}
    aggregator.create_repository(target, dimension_config=transfer_case.dimensions(transfer_source), **create)
    command = ["subset", str(transfer_source), str(target), "-c", transfer_case.TOP, "--registry", "full"]
    with kills.start(command, "placed:2", marker) as waiting:
        kills.wait_for(marker, waiting, 300)
        kills.finish_here(command)
        marker.write_bytes(b"")
        errors = waiting.communicate(timeout=300)[1]
        assert waiting.returncode == 0, errors
    difference.assert_same(
        transfer_case.content(transfer_source), transfer_case.content(target), "Repositories"
    )


def test_a_connection_that_is_lost_costs_nothing(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path, postgresql: Any
) -> None:
    """Answers to every third COMMIT are lost: each is asked for again, or done again."""
    target, name = tmp_path / "target", postgresql.create_database()
    with lossy_connections.in_front_of(postgresql, lambda number: number % 3 == 0) as connections:
        lossy = connections.url(name)
        config = dataclasses.replace(FULL, database=lossy)
        for _ in range(20):
            with contextlib.suppress(aggregator.AggregatorError):
                aggregator.subset(transfer_source, target, transfer_case.ALL, config)
                break
        assert connections.n_lost > 0
    text = (target / "butler.yaml").read_text()
    (target / "butler.yaml").write_text(text.replace(lossy, postgresql.url(name)))
    difference.assert_same(
        transfer_case.content(transfer_source), transfer_case.content(target), "Repositories"
    )


def test_a_full_disk_is_told_and_what_is_there_counts(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, numbers, copy = tmp_path / "target", itertools.count(1), local_transfers.copy

    def fail(*arguments: Any) -> Any:
        if next(numbers) > 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy(*arguments)

    monkeypatch.setattr(local_transfers, "copy", fail)
    command = ["subset", str(transfer_source), str(target), "-c", transfer_case.TOP, "--files", "copy"]
    done = testing.CliRunner().invoke(main.main, [*command, "--registry", "full"])
    assert done.exit_code == 1
    assert "No space left" in done.output
    database = databases.Sqlite(target / "gen3.sqlite3")
    for (path,) in database.query("SELECT path FROM file_datastore_records"):
        assert (target / path).read_bytes() == (transfer_source / path).read_bytes()
    monkeypatch.setattr(local_transfers, "copy", copy)
    kills.finish_here([*command, "--registry", "full"])
    difference.assert_same(
        transfer_case.content(transfer_source), transfer_case.content(target), "Repositories"
    )


def test_what_can_not_be_written_is_told(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path, places: Places, postgresql: Any
) -> None:
    options, database = places.options("postgresql")
    assert isinstance(database, databases.Postgresql)
    target = tmp_path / "target"
    aggregator.create_repository(
        target,
        dimension_config=transfer_case.dimensions(transfer_source),
        database_url=options["database"],
        namespace="ns",
    )
    postgresql.execute(
        database.name, f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on'
    )
    before = database.content()
    command = ["subset", str(transfer_source), str(target), "-c", transfer_case.TOP]
    done = testing.CliRunner().invoke(main.main, command)
    assert done.exit_code in (1, 2)
    assert "read-only" in done.output
    assert database.content() == before
    assert not (target / "u").exists(), "no file is brought"
