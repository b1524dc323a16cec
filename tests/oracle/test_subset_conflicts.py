"""Each way in which a bundle and its destination can disagree: what is refused, and what policies do."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import pytest
from aggregator.butler import creation

import aggregator
from tests.helpers import databases, samples, transfer_case

IMAGE = (
    "SELECT d.id FROM dataset d JOIN dataset_type t ON t.id = d.dataset_type_id "
    "WHERE t.name = 'clean_image' ORDER BY 1"
)
OTHER = "0" * 31 + "1"


@dataclasses.dataclass(frozen=True)
class Case:
    """A source and a destination that has all of it."""

    source: pathlib.Path
    """Where things come from."""

    target: pathlib.Path
    """Where they go."""

    @property
    def database(self) -> databases.Sqlite:
        """Database of the destination."""
        return databases.Sqlite(self.target / "gen3.sqlite3")

    @property
    def image(self) -> str:
        """Id of a dataset that no graph backs."""
        return str(self.database.query(IMAGE)[0][0])

    def path(self, dataset_id: str) -> pathlib.Path:
        """Return the file of a dataset in the destination."""
        query = f"SELECT path FROM file_datastore_records WHERE dataset_id = '{dataset_id}'"
        return self.target / str(self.database.query(query)[0][0])

    def forget(self, dataset_id: str) -> None:
        """Take a dataset out of the destination, but leave its file."""
        tags = [name for name in self.database.tables() if name.startswith("dataset_tags_")]
        tables = [*tags, "dataset_location", "file_datastore_records"]
        self.database.execute(
            *(f"DELETE FROM {table} WHERE dataset_id = '{dataset_id}'" for table in tables),
            f"DELETE FROM dataset WHERE id = '{dataset_id}'",
        )

    def transfer(self, **options: Any) -> aggregator.TransferReport:
        """Transfer everything again."""
        config = aggregator.TransferConfig(registry="full", **options)
        return aggregator.subset(self.source, self.target, transfer_case.ALL, config)

    def check_refused(self, kind: str, *words: str, **options: Any) -> None:
        """Check that a transfer is refused for a kind of conflict, and changes nothing."""
        before = samples.tree(self.target)
        for dry_run in (True, False):
            path = self.target.parent / "conflicts.jsonl"
            with pytest.raises(aggregator.RefusedError) as raised:
                self.transfer(dry_run=dry_run, conflicts_path=path, **options)
            assert f"{kind}: " in str(raised.value), str(raised.value)
            for word in words:
                assert word in str(raised.value), str(raised.value)
            assert kind in {json.loads(line)["kind"] for line in path.read_text().splitlines()}
            assert samples.tree(self.target) == before


@pytest.fixture(scope="module")
def complete(transfer_source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Make a destination that is only copied."""
    case = Case(transfer_source, tmp_path_factory.mktemp("complete") / "target")
    case.transfer(files="copy")
    return case


@pytest.fixture
def case(complete: Case, tmp_path: pathlib.Path) -> Case:
    """Return a destination that may be changed."""
    return Case(complete.source, pathlib.Path(shutil.copytree(complete.target, tmp_path / "target")))


@pytest.fixture
def empty(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> Case:
    """Return a destination without any datasets."""
    target = tmp_path / "target"
    creation.create_repository(target, dimension_config=transfer_case.dimensions(transfer_source))
    return Case(transfer_source, target)


def test_what_is_there_is_left_alone(case: Case) -> None:
    before = samples.tree(case.target)
    report = case.transfer()
    assert report.done.datasets_present == report.selected
    assert samples.tree(case.target).keys() == before.keys()


def test_a_missing_record_is_repaired(case: Case) -> None:
    rows, image = case.database.content(), case.image
    path = case.path(image)
    content = path.read_bytes()
    path.unlink()
    tables = ("dataset_location", "file_datastore_records")
    case.database.execute(*(f"DELETE FROM {table} WHERE dataset_id = '{image}'" for table in tables))
    report = case.transfer()
    assert (report.done.datasets_repaired, report.done.files_brought) == (1, 1)
    assert path.read_bytes() == content
    assert case.database.content() == rows


def test_a_missing_file_is_repaired_if_files_are_looked_for(case: Case) -> None:
    path = case.path(case.image)
    content = path.read_bytes()
    path.unlink()
    assert case.transfer().done.files_brought == 0
    assert not path.exists()
    assert case.transfer(verify_files=True).done.files_brought == 1
    assert path.read_bytes() == content


@pytest.mark.ordering("N1")
def test_c2_an_id_of_another_run(case: Case) -> None:
    case.database.execute(
        "UPDATE dataset SET run_id = (SELECT collection_id FROM collection WHERE name = 'calib/run2') "
        f"WHERE id = '{case.image}'"
    )
    case.check_refused("C2", case.image, on_conflict="skip")


def _replace(case: Case, image: str, date: int) -> None:
    """Give a dataset of the destination another id, and a date of ingest."""
    tags = [name for name in case.database.tables() if name.startswith("dataset_tags_")]
    tables = [*tags, "dataset_location", "file_datastore_records"]
    case.database.execute(
        f"UPDATE dataset SET id = '{OTHER}', ingest_date = {date} WHERE id = '{image}'",
        *(f"UPDATE {table} SET dataset_id = '{OTHER}' WHERE dataset_id = '{image}'" for table in tables),
    )


def test_c3_another_dataset_with_the_data_id(case: Case) -> None:
    image = case.image
    _replace(case, image, 1)
    case.check_refused("C3", image, OTHER)
    rows = case.database.content()
    report = case.transfer(on_conflict="skip")
    assert report.done.replaced_ids == {image: OTHER}
    assert report.done.datasets_skipped == 1
    assert case.database.content() == rows


@pytest.mark.ordering("N8")
@pytest.mark.parametrize("files", ["auto", "direct"])
def test_c3_the_newest_stays(case: Case, files: str) -> None:
    image, before = case.image, case.database.content()
    _replace(case, image, 1)
    path, content = case.path(OTHER), case.path(OTHER).read_bytes()
    path.write_bytes(b"older")
    newest: dict[str, Any] = {"on_conflict": "newest", "allow_delete": True, "files": files}
    tree = samples.tree(case.target)
    assert case.transfer(dry_run=True, **newest).done.datasets_replaced == 1
    assert samples.tree(case.target) == tree
    report = case.transfer(**newest)
    assert (report.done.datasets_replaced, report.done.datasets_added) == (1, 1)
    assert report.done.replaced_ids == {}
    assert not path.exists()
    [(name,)] = case.database.query(f"SELECT path FROM file_datastore_records WHERE dataset_id = '{image}'")
    # It has no place of its own before the older one is gone.
    place = pathlib.Path(name.removeprefix("file://")) if files == "direct" else case.target / name
    assert place.read_bytes() == content
    after = case.database.content()
    changed = {table for table in before if before[table] != after[table]}
    assert changed == {"file_datastore_records"}, "tags, too, are those of the source"
    again = case.transfer(**newest)
    assert (again.done.datasets_replaced, again.done.datasets_present) == (0, again.selected)


def test_c3_what_is_older_is_left_out(case: Case) -> None:
    image = case.image
    _replace(case, image, 1 << 62)
    before = samples.tree(case.target)
    report = case.transfer(on_conflict="newest", allow_delete=True)
    assert report.done.replaced_ids == {image: OTHER}
    assert (report.done.datasets_replaced, report.done.datasets_skipped) == (0, 1)
    assert samples.tree(case.target).keys() == before.keys()
    dry = case.transfer(on_conflict="newest", allow_delete=True, dry_run=True)
    images = dry.done.fates[transfer_case.RUN]["clean_image"]
    assert images == {"left out": 1, "present": 4}
    assert f"Run {transfer_case.RUN}, clean_image: 1 left out, 4 present" in dry.lines()
    assert dry.bytes_free is not None
    assert dry.bytes_free > 0
    for options in ({}, {"allow_delete": True, "files": "none"}):
        with pytest.raises(aggregator.RefusedError, match="newest"):
            case.transfer(on_conflict="newest", **options)


def _register(case: Case, name: str, storage_class: str, dimensions: tuple[str, ...]) -> None:
    with case.database.open() as opened:
        opened.dataset_types.register(name, storage_class, dimensions)


def test_c4_another_definition(empty: Case) -> None:
    _register(empty, "clean_image", "StructuredDataDict", ("instrument", "detector"))
    empty.check_refused("C4", "clean_image", storage_class="keep-destination")


def test_c5_another_storage_class(empty: Case) -> None:
    _register(empty, "flat", "StructuredDataList", ("instrument", "detector"))
    empty.check_refused("C4", "flat")
    with empty.database.open() as opened:
        opened.dataset_types.register("raw", "Other", ("instrument", "detector", "visit"))
    chosen = aggregator.Selection(dataset_types=("raw",))
    before = samples.tree(empty.target)
    with pytest.raises(aggregator.RefusedError, match="C5: dataset type 'raw'"):
        aggregator.subset(empty.source, empty.target, chosen)
    assert samples.tree(empty.target) == before
    config = aggregator.TransferConfig(storage_class="keep-destination")
    assert aggregator.subset(empty.source, empty.target, chosen, config).done.datasets_added == 6
    kinds = "SELECT storage_class FROM dataset_type WHERE name = 'raw'"
    assert empty.database.query(kinds) == [("Other",)]
    classes = "SELECT DISTINCT storage_class FROM file_datastore_records"
    assert empty.database.query(classes) == [("_mock_StructuredDataDict",)]


def test_c6_another_dimension_record(case: Case) -> None:
    case.database.execute("UPDATE detector SET purpose = 'OTHER' WHERE id = 1")
    case.check_refused("C6", "detector SampleCam, 1: has another purpose", on_dimension_conflict="fail")
    report = case.transfer()
    assert report.done.records_differing == 1
    assert any("detector SampleCam, 1: has another purpose" in note for note in report.done.notes)
    assert case.database.query("SELECT purpose FROM detector WHERE id = 1") == [("OTHER",)]


def test_c7_a_collection_of_another_type(empty: Case) -> None:
    with empty.database.open() as opened:
        opened.collections.register_chain(transfer_case.TAG)
    empty.check_refused("C7", transfer_case.TAG)


def _children(case: Case, chain: str) -> list[str]:
    with case.database.open() as opened:
        return opened.collections.children(chain)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("extend", ["mine", "calib/run2", transfer_case.TAG]),
        ("keep", ["mine", "calib/run2"]),
        ("replace", [transfer_case.TAG]),
    ],
)
def test_c8_a_chain_with_other_children(case: Case, policy: str, expected: list[str]) -> None:
    with case.database.open() as opened:
        whole = opened.collections.children(transfer_case.TOP)
        link = "SELECT collection_id FROM collection WHERE name = "
        case.database.execute(f"DELETE FROM collection_chain WHERE parent = ({link}'{transfer_case.TOP}')")
        opened.collections.register_run("mine")
        opened.collections.update_output_chain(transfer_case.TOP, "calib/run2", [])
        opened.collections.update_output_chain(transfer_case.TOP, "mine", [])
    case.transfer(chains=policy)
    rest = [name for name in whole if name != "calib/run2"]
    assert (
        _children(case, transfer_case.TOP)
        == {
            "extend": ["mine", "calib/run2", *rest],
            "keep": ["mine", "calib/run2"],
            "replace": whole,
        }[policy]
    )
    assert expected[0] in _children(case, transfer_case.TOP)


def test_c8_a_chain_that_would_contain_itself(case: Case) -> None:
    with case.database.open() as opened:
        opened.collections.update_output_chain(transfer_case.INPUTS, transfer_case.CHAIN, [])
        before = _children(case, transfer_case.CHAIN)
        case.database.execute(
            "DELETE FROM collection_chain WHERE parent = "
            f"(SELECT collection_id FROM collection WHERE name = '{transfer_case.CHAIN}')"
        )
    assert before
    # The source has the inputs in the chain, the destination has the chain in the inputs.
    if transfer_case.INPUTS in before:
        case.check_refused("C8", transfer_case.CHAIN)


def test_c8_a_new_chain_that_leads_back(case: Case) -> None:
    source = pathlib.Path(shutil.copytree(case.source, case.target.parent / "source"))
    ours = dataclasses.replace(case, source=source)
    with databases.Sqlite(source / "gen3.sqlite3").open() as opened:
        opened.collections.register_chain("new")
        opened.collections.update_output_chain("new", transfer_case.INPUTS, [])
        opened.collections.update_output_chain(transfer_case.TOP, "new", [])
    case.database.execute(
        "DELETE FROM collection_chain WHERE parent = "
        f"(SELECT collection_id FROM collection WHERE name = '{transfer_case.TOP}')"
    )
    with case.database.open() as opened:
        opened.collections.update_output_chain(transfer_case.INPUTS, transfer_case.TOP, [])
    ours.check_refused("C8", transfer_case.TOP)


def test_c9_a_tag_holds_another_dataset(case: Case) -> None:
    [(table,)] = case.database.query(
        "SELECT tag_association_table FROM dataset_type WHERE name = 'clean_image'"
    )
    query = (
        f"SELECT t.dataset_id FROM {table} t JOIN collection c USING (collection_id) "
        f"WHERE c.name = '{transfer_case.TAG}' ORDER BY 1"
    )
    rows = case.database.query(query)
    image = rows[0][0]
    tag = f"(SELECT collection_id FROM collection WHERE name = '{transfer_case.TAG}')"
    case.database.execute(
        f"UPDATE {table} SET dataset_id = '{OTHER}' WHERE dataset_id = '{image}' AND collection_id = {tag}"
    )
    changed = case.database.query(query)
    case.check_refused("C9", OTHER, image)
    assert case.transfer(on_tag_conflict="skip").done.associations_skipped == 1
    assert case.database.query(query) == changed
    # The one in its place is not even there.
    case.transfer(on_tag_conflict="newest")
    assert case.database.query(query) == rows
    other = case.database.query(f"{IMAGE} DESC")[0][0]
    for date, expected in ((1 << 62, other), (1, image)):
        case.database.execute(
            f"UPDATE dataset SET ingest_date = {date} WHERE id = '{other}'",
            f"UPDATE {table} SET dataset_id = '{other}' WHERE collection_id = {tag} "
            f"AND dataset_id = '{image}'",
        )
        case.transfer(on_tag_conflict="newest")
        assert expected in {row[0] for row in case.database.query(query)}


def test_c10_another_certification_of_the_time(case: Case) -> None:
    [table] = [name for name in case.database.tables() if name.startswith("dataset_calibs_")]
    rows = case.database.query(f"SELECT dataset_id, timespan_begin, timespan_end FROM {table} ORDER BY 1, 2")
    case.database.execute(
        f"UPDATE {table} SET timespan_end = timespan_end - 1 WHERE dataset_id = '{rows[0][0]}'"
    )
    changed = case.database.query(f"SELECT * FROM {table}")
    case.check_refused("C10", transfer_case.CALIBRATIONS)
    assert case.transfer(on_certification_conflict="skip").done.associations_skipped == 1
    assert case.database.query(f"SELECT * FROM {table}") == changed


@pytest.mark.ordering("N4")
def test_c12_another_file_in_the_place(case: Case) -> None:
    image = case.image
    path = case.path(image)
    content = path.read_bytes()
    case.forget(image)
    assert case.transfer().done.files_present == 1, "the same content is reused"
    case.forget(image)
    path.write_bytes(b"mine")
    case.check_refused("C12", str(path))
    assert path.read_bytes() == b"mine"
    case.transfer(overwrite_orphans=True)
    assert path.read_bytes() == content


def test_c13_the_file_of_another_dataset_in_the_place(case: Case) -> None:
    image, other = (str(row[0]) for row in case.database.query(IMAGE)[:2])
    path = case.path(image)
    place = str(path.relative_to(case.target))
    case.forget(image)
    case.database.execute(f"UPDATE file_datastore_records SET path = '{place}' WHERE dataset_id = '{other}'")
    path.write_bytes(b"others")
    case.check_refused("C13", other, image, overwrite_orphans=True)


def test_c14_other_dimensions(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    dimensions = transfer_case.dimensions(transfer_source)
    creation.create_repository(tmp_path / "a", dimension_config={**dimensions, "namespace": "else"})
    dimensions["elements"]["detector"]["metadata"] = dimensions["elements"]["detector"]["metadata"][1:]
    creation.create_repository(tmp_path / "b", dimension_config={**dimensions, "version": 99})
    for name in ("a", "b"):
        before = samples.tree(tmp_path / name)
        with pytest.raises(aggregator.RefusedError, match="C14"):
            aggregator.subset(transfer_source, tmp_path / name, transfer_case.ALL)
        assert samples.tree(tmp_path / name) == before


def test_f2_a_file_that_is_not_recorded(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    source = pathlib.Path(shutil.copytree(transfer_source, tmp_path / "source"))
    case = Case(source, tmp_path / "target")
    database = databases.Sqlite(source / "gen3.sqlite3")
    expected = {row[1]: row for row in database.query("SELECT * FROM file_datastore_records")}
    images = [row[0] for row in database.query(IMAGE)]
    query = f"SELECT path FROM file_datastore_records WHERE dataset_id = '{images[0]}'"
    [(gone,)] = database.query(query)
    (source / gone).unlink()
    tables = ("dataset_location", "file_datastore_records")
    ids = ", ".join(f"'{each}'" for each in images)
    database.execute(*(f"DELETE FROM {table} WHERE dataset_id IN ({ids})" for table in tables))
    report = case.transfer()
    assert report.done.datasets_without_file == len(images)
    report = case.transfer(trust=True)
    assert report.done.datasets_repaired == len(images) - 1
    found = {row[1]: row for row in case.database.query("SELECT * FROM file_datastore_records")}
    assert found.keys() == expected.keys() - {gone}
    for path, row in found.items():
        assert row[:-1] == expected[path][:-1]
        assert row[0] not in images or row[-1] == (case.target / path).stat().st_size > 0


def test_f1_a_file_that_is_not_there(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    source = pathlib.Path(shutil.copytree(transfer_source, tmp_path / "source"))
    case = Case(source, tmp_path / "target")
    database = databases.Sqlite(source / "gen3.sqlite3")
    image = database.query(IMAGE)[0][0]
    [(path,)] = database.query(f"SELECT path FROM file_datastore_records WHERE dataset_id = '{image}'")
    (source / path).unlink()
    with pytest.raises(aggregator.RefusedError, match="F1"):
        case.transfer()
    assert not case.target.exists()
    report = case.transfer(missing="skip")
    assert report.done.datasets_skipped == 1
    assert report.done.datasets_added == report.selected - 1
    known = f"SELECT count(*) FROM dataset WHERE id = '{image}'"
    assert case.database.query(known) == [(0,)]
    assert case.transfer(missing="register").done.datasets_added == 1
    assert case.database.query(known) == [(1,)]
    location = f"SELECT count(*) FROM dataset_location WHERE dataset_id = '{image}'"
    assert case.database.query(location) == [(0,)]
