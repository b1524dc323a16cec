"""Repositories from nothing: like the reference's, usable by it, and all or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from aggregator.butler import creation
from aggregator.butler.configuration import repository_config as config_module
from aggregator.butler.databases import database
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records
from aggregator.butler.registry import collection_rows, registry
from aggregator.storage import durable_files, errors

from tests.helpers import registry_rows

daf: Any = pytest.importorskip("lsst.daf.butler")
new: Any = pytest.importorskip("tests.helpers.new_repositories")

# Fixtures.
maker, made, butler = new.maker, new.made, new.butler

CONFIGS = pathlib.Path(daf.__file__).parent / "configs"

MINI: dict[str, Any] = {
    "version": 3,
    "namespace": "mini",
    "skypix": {"common": "htm1", "htm": {"class": "lsst.sphgeom.HtmPixelization", "max_level": 1}},
    "elements": {
        "site": {
            "keys": [{"name": "name", "type": "string", "length": 16}],
            "governor": True,
            "metadata": [{"name": "note", "type": "string", "length": 100}],
        },
        "color": {
            "keys": [{"name": "name", "type": "string", "length": 16}],
            "implied_union_target": "plate",
        },
        "plate": {
            "keys": [
                {"name": "id", "type": "int"},
                {"name": "label", "type": "string", "length": 32},
                {"name": "code", "type": "hash", "nbytes": 8},
            ],
            "requires": ["site"],
            "implies": ["color"],
            "metadata": [{"name": "flag", "type": "bool"}, {"name": "w", "type": "float"}],
        },
        "cell": {"keys": [{"name": "id", "type": "int"}], "requires": ["plate"]},
        "plate_cell_join": {"requires": ["cell"], "always_join": True, "populated_by": "cell"},
    },
    "topology": {"spatial": {}, "temporal": {}},
}
"""A universe with a relation whose key is that of one dimension, and with no regions."""


def universes() -> list[Any]:
    paths = [CONFIGS / "dimensions.yaml", *sorted((CONFIGS / "old_dimensions").glob("daf_butler_*.yaml"))]
    contents = {path.stem: json.loads(json.dumps(yaml.safe_load(path.read_text()))) for path in paths}
    # The newest and the oldest differ most.
    chosen = ("dimensions", "daf_butler_universe0")
    marks = {name: [] if name in chosen else [pytest.mark.exhaustive] for name in contents}
    others = [pytest.param(content, id=name, marks=marks[name]) for name, content in contents.items()]
    return [pytest.param(None, id="compact"), pytest.param(MINI, id="mini"), *others]


@pytest.mark.parametrize("dimensions", universes())
def test_same_as_the_reference_makes(maker: Any, dimensions: dict[str, Any] | None) -> None:
    ours, theirs = maker.ours("ours", dimensions), maker.theirs("theirs", dimensions)
    assert ours.schema() == theirs.schema()
    assert ours.database.content() == theirs.database.content()
    assert len(ours.database.content()["butler_attributes"]) == 13
    ours_yaml, theirs_yaml = (yaml.safe_load((x.root / "butler.yaml").read_text()) for x in (ours, theirs))
    for each in (ours_yaml, theirs_yaml):
        each["registry"].pop("db")
    assert ours_yaml == theirs_yaml


def test_same_tables_for_dataset_types(maker: Any) -> None:
    ours, theirs = maker.ours("ours"), maker.theirs("theirs")
    groups = [
        (),
        ("htm7",),
        ("visit", "detector"),
        ("band", "patch"),
        ("physical_filter",),
        ("tract", "visit"),
    ]
    with ours.registry() as opened, theirs.butler() as butler:
        for number, group in enumerate(groups):
            for is_calibration in (False, True):
                name = f"type_{number}_{is_calibration}"
                kind = daf.DatasetType(
                    name, butler.dimensions.conform(group), "Plot", isCalibration=is_calibration
                )
                butler.registry.registerDatasetType(kind)
                opened.dataset_types.register(name, "Plot", group, is_calibration=is_calibration)
    assert ours.schema() == theirs.schema()
    assert ours.database.content() == theirs.database.content()


def test_reference_puts_gets_and_finds_datasets(made: Any, butler: Any) -> None:
    made.insert()
    run = "u/new/run"
    butler.collections.register(run)
    visit = {"instrument": new.CAMERA, "visit": 102}
    patch = {"skymap": new.SKYMAP, "tract": 1, "patch": 0}
    wanted = {
        "plain": {},
        "image": {**visit, "detector": 1},
        "warp": {**visit, **patch},
        "coadd": {**patch, "band": "g"},
        "catalogue": {"htm7": 140000},
    }
    for name, data_id in wanted.items():
        kind = daf.DatasetType(name, butler.dimensions.conform(data_id), "StructuredDataDict")
        butler.registry.registerDatasetType(kind)
        ref = butler.put({"name": name}, name, data_id, run=run)
        assert butler.get(name, data_id, collections=run) == {"name": name}
        assert butler.find_dataset(name, data_id, collections=run) == ref
        [found] = butler.query_datasets(name, collections=run, with_dimension_records=True)
        assert found == ref
        assert found.dataId.hasRecords()
    with made.registry() as opened:
        assert len(opened.datasets.ids(run)) == len(wanted)
    assert {dataset.name for dataset in butler.registry.getCollectionSummary(run).dataset_types} == {*wanted}


def test_reference_certifies_calibrations(made: Any, butler: Any) -> None:
    made.insert()
    butler.collections.register("run")
    butler.collections.register("calib", daf.CollectionType.CALIBRATION)
    kind = daf.DatasetType("bias", butler.dimensions.conform(["detector"]), "Plot", isCalibration=True)
    with made.registry() as opened:
        opened.dataset_types.register("bias", "StructuredDataDict", ["detector"], is_calibration=True)
    kind = butler.get_dataset_type("bias")
    ref = butler.put({"a": 1}, kind, instrument=new.CAMERA, detector=1, run="run")
    butler.registry.certify("calib", [ref], daf.Timespan(None, None, _nsec=new.NIGHT))
    inside, outside = (daf.Timespan(None, None, _nsec=(end, end + 1)) for end in new.NIGHT)
    data_id = {"instrument": new.CAMERA, "detector": 1}
    assert butler.find_dataset("bias", data_id, collections="calib", timespan=inside) == ref
    assert butler.find_dataset("bias", data_id, collections="calib", timespan=outside) is None


def test_our_ingest_into_our_repository(made: Any, butler: Any) -> None:
    made.insert()
    with made.registry() as opened:
        opened.collections.register_run("run")
        row = opened.dataset_types.register("image", "StructuredDataDict", ["visit", "detector"])
        pairs = [
            registry_rows.make(row, (new.CAMERA, 1, visit), uuid.UUID(int=(0x0190 << 112) + visit).hex)
            for visit in (101, 102)
        ]
        assert opened.datasets.ingest("run", registry_rows.join(*pairs)).n_ingested == 2
        opened.collections.update_output_chain("chain", "run", [])
        assert opened.collections.find("chain").type is collection_rows.CollectionType.CHAINED
    found = butler.query_datasets("image", collections="chain", with_dimension_records=True)
    assert [ref.dataId["visit"] for ref in found] == [101, 102]
    assert butler.getURI(found[0]).ospath.endswith(pairs[0][1][3])


def test_paths_are_those_of_the_reference(made: Any, butler: Any) -> None:
    # The compact universe has to do with the default file templates.
    made.insert()
    butler.collections.register("run")
    data_id = {"instrument": new.CAMERA, "visit": 101, "detector": 1}
    dimensions = butler.dimensions.conform(data_id)
    butler.registry.registerDatasetType(daf.DatasetType("image", dimensions, "StructuredDataDict"))
    ref = butler.put({}, "image", data_id, run="run")
    with made.registry() as opened:
        universe = opened.universe
        store = datastore.Datastore(config_module.load(made.root), universe, True)
        request = ("image", "StructuredDataDict", universe.group(data_id), new.CAMERA)
        wanted = store.needed_attributes([request])
        rows = [
            (element, [record[name] for name in universe.record_columns(element)])
            for element in wanted
            for record in opened.dimensions.records(element)
        ]
        store.set_records(records.RecordTable.build(universe, wanted, rows))
    [file] = store.plan(*request).files
    path = file.path(butler.registry.expandDataId(ref.dataId).full_values, "run", str(ref.id))
    assert path == "run/image/20260301/g/G-1/101/image_NewCam_g_G-1_101_S1_run.yaml"
    assert butler.getURI(ref).ospath == str(made.root / path)


def refuse(root: pathlib.Path, match: str, **options: Any) -> None:
    with pytest.raises(errors.RefusedError, match=match):
        creation.create_repository(root, **options)


def test_refuse_an_existing_repository(made: Any) -> None:
    before = made.database.content(), sorted(os.listdir(made.root))
    refuse(made.root, "butler.yaml: there is a repository here already", **made.options)
    assert (made.database.content(), sorted(os.listdir(made.root))) == before


def test_refuse_a_database_with_tables(made: Any, tmp_path: pathlib.Path) -> None:
    before = made.database.content()
    options = {"database_url": made.database.url, "namespace": made.database.namespace}
    refuse(tmp_path / "a" / "b", "there are tables in it already", **options)
    assert not (tmp_path / "a").exists()
    assert made.database.content() == before


def test_another_place_for_the_sqlite_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "elsewhere.sqlite3"
    creation.create_repository(tmp_path / "repo", database_url=f"sqlite:///{path}")
    with daf.Butler.from_config(str(tmp_path / "repo"), writeable=True) as butler:
        assert butler.dimensions.namespace == "aggregator_compact"
    assert path.exists()
    assert os.listdir(tmp_path / "repo") == ["butler.yaml"]


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b"])
def test_refuse_a_directory_that_the_reference_would_not_find(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(errors.RefusedError, match="URL of a database"):
        creation.create_repository(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    creation.create_repository(tmp_path / name, database_url=f"sqlite:///{tmp_path}/elsewhere.sqlite3")
    assert {path.name for path in tmp_path.iterdir()} == {name, "elsewhere.sqlite3"}


def test_a_place_where_no_sqlite_file_can_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "directory").mkdir()
    for place in ("directory", "missing/some.sqlite3"):
        with pytest.raises(errors.RefusedError, match="director"):
            creation.create_repository(tmp_path / "repo", database_url=f"sqlite:///{tmp_path}/{place}")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_directory_with_other_files_is_kept(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes").write_text("x")
    creation.create_repository(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["butler.yaml", "gen3.sqlite3", "notes"]


def test_nothing_is_left_after_a_failure(
    maker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def fail(path: str, pieces: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "deep").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(durable_files, "write_atomically", fail)
        for name in ("a/b", "deep"):
            place = maker.place(name)
            with pytest.raises(errors.AggregatorError, match="No space left on device") as caught:
                creation.create_repository(place.root, **place.options)
            assert caught.value.exit_code == 1
            assert not place.exists()
    assert not (tmp_path / "a").exists()
    assert os.listdir(tmp_path / "deep") == []
    creation.create_repository(tmp_path / "deep")


def test_answer_to_the_commit_is_lost(maker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that are met then are its own, and not refused as somebody's."""
    if maker.server is None:
        pytest.skip("a file does not lose answers")
    original, n_lost = database.Database.writing, 0

    @contextlib.contextmanager
    def writing(self: Any) -> Iterator[Any]:
        nonlocal n_lost
        with original(self) as connection:
            yield connection
        n_lost += 1
        if n_lost == 1:
            raise database.LostError("The server is gone.")

    monkeypatch.setattr(database.Database, "writing", writing)
    ours = maker.ours("ours")
    assert n_lost == 2
    theirs = maker.theirs("theirs")
    assert ours.database.content() == theirs.database.content()
    with pytest.raises(errors.RefusedError, match="there are tables in it already"):
        creation.create_repository(maker.root / "other", **ours.options)


def test_nothing_is_left_after_a_table_that_cannot_be_made(maker: Any, tmp_path: pathlib.Path) -> None:
    broken = creation.compact_dimensions()
    broken["elements"]["collection"] = {"keys": [{"name": "id", "type": "int"}]}
    place = maker.place("ours")
    refuse(place.root, "collection", **place.options, dimension_config=broken)
    assert not place.exists()
    assert not place.root.exists()


def test_refuse_what_cannot_be_a_universe(tmp_path: pathlib.Path) -> None:
    def broken(**changes: Any) -> dict[str, Any]:
        return {**creation.compact_dimensions(), **changes}

    def with_element(**entry: Any) -> dict[str, Any]:
        found = creation.compact_dimensions()
        found["elements"]["odd"] = entry
        return found

    region = with_element(keys=[{"name": "id", "type": "int"}])
    region["topology"]["spatial"]["odd_regions"] = ["odd"]
    cases: list[tuple[str, dict[str, Any]]] = [
        ("has no version, skypix", {"elements": {}}),
        ("'htm11' as 'skypix: common'", broken(skypix={**broken()["skypix"], "common": "htm11"})),
        ("nowhere", with_element(requires=["nowhere"])),
        ("circle or gap", with_element(keys=[{"name": "id", "type": "int"}], requires=["odd"])),
        ("'float'", with_element(keys=[{"name": "id", "type": "float"}])),
        ("'poem'", with_element(requires=["visit"], metadata=[{"name": "x", "type": "poem"}])),
        ("depends on 0", region),
        ("JSON", broken(version={1})),
    ]
    for match, dimensions in cases:
        refuse(tmp_path / "repo", match, dimension_config=dimensions)
        assert os.listdir(tmp_path) == []


def test_refuse_a_password_that_would_be_readable(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.RefusedError, match=r"db-auth\.yaml") as caught:
        creation.create_repository(tmp_path / "repo", database_url="postgresql://me:s3cret@nowhere/db")
    assert "s3cret" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_refuse_databases_of_other_kinds(tmp_path: pathlib.Path) -> None:
    refuse(tmp_path / "repo", "mysql is not supported", database_url="mysql://nowhere/db")
    refuse(tmp_path / "repo", "not a database URL", database_url="nonsense")
    refuse(tmp_path / "repo", "SQLite has no namespaces", namespace="new")
    assert os.listdir(tmp_path) == []


def test_refuse_a_file_that_depends_on_the_place(tmp_path: pathlib.Path) -> None:
    refuse(tmp_path / "repo", "sqlite:////", database_url="sqlite:///here.sqlite3")
    assert os.listdir(tmp_path) == []
    creation.create_repository(tmp_path / "repo", database_url="sqlite:///<butlerRoot>/here.sqlite3")
    assert sorted(os.listdir(tmp_path / "repo")) == ["butler.yaml", "here.sqlite3"]


def test_a_file_where_the_directory_should_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "repo").write_text("x")
    with pytest.raises(errors.AggregatorError, match=r"repo is no directory\. Choose another path"):
        creation.create_repository(tmp_path / "repo")
    assert (tmp_path / "repo").read_text() == "x"


def test_default_schema(postgresql: Any, tmp_path: pathlib.Path) -> None:
    url = postgresql.url(postgresql.create_database())
    creation.create_repository(tmp_path / "repo", database_url=url)
    assert "namespace" not in yaml.safe_load((tmp_path / "repo" / "butler.yaml").read_text())["registry"]
    with daf.Butler.from_config(str(tmp_path / "repo"), writeable=True) as butler:
        butler.registry.insertDimensionData("instrument", {"name": "A"})
    found = config_module.load(tmp_path / "repo")
    with registry.open_registry(found.database, None, writeable=False) as opened:
        assert [record["name"] for record in opened.dimensions.records("instrument")] == ["A"]


def test_refuse_a_database_without_the_extension(postgresql: Any, tmp_path: pathlib.Path) -> None:
    database = postgresql.create_database()
    postgresql.execute(database, "DELETE FROM pg_extension WHERE extname = 'btree_gist'")
    refuse(
        tmp_path / "repo", "CREATE EXTENSION btree_gist", database_url=postgresql.url(database), namespace="a"
    )
    assert os.listdir(tmp_path) == []
    assert postgresql.query(database, "SELECT nspname FROM pg_namespace WHERE nspname = 'a'") == []


def test_a_role_that_must_not_create(postgresql: Any, tmp_path: pathlib.Path) -> None:
    database = postgresql.create_database()
    postgresql.execute(database, "CREATE ROLE guest LOGIN", "GRANT CONNECT ON DATABASE postgres TO guest")
    url = postgresql.url(database).replace("keeper@", "guest@")
    for namespace in ("a", None):
        with pytest.raises(errors.AggregatorError, match=r"permission denied.*grant the role what it lacks"):
            creation.create_repository(tmp_path / "repo", database_url=url, namespace=namespace)
        assert os.listdir(tmp_path) == []


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aggregator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_command_line(maker: Any, tmp_path: pathlib.Path) -> None:
    place = maker.place("repo")
    dimensions = tmp_path / "mini.yaml"
    dimensions.write_text(yaml.safe_dump(MINI))
    done = run(*place.command, "--dimension-config", str(dimensions))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with place.butler() as butler:
        assert butler.dimensions.namespace == "mini"
    again = run("create", str(place.root))
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("Error: ")
    assert "there is a repository here already" in again.stderr
    missing = run("create", str(tmp_path / "other"), "--dimension-config", str(tmp_path / "missing.yaml"))
    assert missing.returncode == 2
    assert "missing.yaml" in missing.stderr
    assert not (tmp_path / "other").exists()


def test_only_one_of_several_creates_it(maker: Any) -> None:
    place = maker.place("repo")
    command = [sys.executable, "-m", "aggregator", *place.command]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    messages = [process.communicate(timeout=120)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 2, 2, 2], messages
    with place.butler() as butler:
        assert butler.dimensions.namespace == "aggregator_compact"
