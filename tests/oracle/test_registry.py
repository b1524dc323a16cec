"""What we write is read by the reference, and the other way round."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.butler.registry import collection_rows, registry
from aggregator.storage import errors

from tests.helpers import databases, postgresql_server, registry_rows, thinning

reference: Any = pytest.importorskip("tests.helpers.registry_reference")

CALIBRATIONS = (1, 2, 6)
"""Which of the groups have calibrations too."""

RUN = "u/oracle/run.1"


@dataclasses.dataclass(frozen=True, slots=True)
class Repository:
    """A repository, to be read and written by both sides."""

    root: pathlib.Path
    database: databases.Database


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    root = tmp_path_factory.mktemp("registry") / "repo"
    return Repository(root, reference.make(root))


@pytest.fixture(scope="module")
def postgresql_template(
    sqlite_template: Repository, postgresql: postgresql_server.Server
) -> databases.Postgresql:
    from tests.helpers import postgresql_repository

    return postgresql_repository.load(postgresql, sqlite_template.root / "gen3.sqlite3")


@pytest.fixture(params=["sqlite", "postgresql"])
def repositories(
    request: pytest.FixtureRequest, sqlite_template: Repository, tmp_path: pathlib.Path
) -> Iterator[list[Repository]]:
    """Return two equal repositories."""
    roots = [tmp_path / name for name in ("ours", "theirs")]
    for root in roots:
        shutil.copytree(sqlite_template.root, root)
    if request.param == "sqlite":
        yield [Repository(root, databases.Sqlite(root / "gen3.sqlite3")) for root in roots]
        return
    template = request.getfixturevalue("postgresql_template")
    copies = [Repository(root, template.copy()) for root in roots]
    for each in copies:
        (each.root / "gen3.sqlite3").unlink()
        each.database.configure(each.root)
    yield copies
    for each in copies:
        each.database.remove()


@pytest.fixture
def ours(repositories: list[Repository]) -> Iterator[registry.Registry]:
    with repositories[0].database.open() as opened:
        yield opened


@pytest.fixture
def theirs(repositories: list[Repository]) -> Iterator[Any]:
    with reference.open_butler(repositories[1].root) as butler:
        yield butler


@pytest.fixture
def theirs_on_ours(repositories: list[Repository]) -> Iterator[Any]:
    with reference.open_butler(repositories[0].root) as butler:
        yield butler


def assert_same(repositories: list[Repository], *, schema: bool = True) -> None:
    ours, theirs = (each.database for each in repositories)
    if schema:
        assert ours.schema() == theirs.schema()
    assert ours.content() == theirs.content()


def definitions() -> list[tuple[str, tuple[str, ...], bool]]:
    plain = [(f"type_{n}", group, False) for n, group in enumerate(reference.GROUPS)]
    return plain + [(f"calib_{n}", reference.GROUPS[n], True) for n in CALIBRATIONS]


def test_same_tables_and_rows(repositories: list[Repository], ours: registry.Registry, theirs: Any) -> None:
    for name, dimensions, is_calibration in definitions():
        kind = reference.dataset_type(theirs, name, dimensions, is_calibration=is_calibration)
        theirs.registry.registerDatasetType(kind)
        for _ in range(2):
            row = ours.dataset_types.register(
                name, "StructuredDataDict", dimensions[::-1], is_calibration=is_calibration
            )
        assert row.required == tuple(kind.dimensions.required)
    theirs.registry.registerRun(RUN)
    ours.collections.register_run(RUN)
    assert_same(repositories)


def test_calibration_of_a_group_that_has_tags_already(
    repositories: list[Repository], ours: registry.Registry, theirs: Any
) -> None:
    for name, is_calibration in (("flat", False), ("bias", True), ("dark", True)):
        kind = reference.dataset_type(theirs, name, ["detector"], is_calibration=is_calibration)
        theirs.registry.registerDatasetType(kind)
        ours.dataset_types.register(name, "StructuredDataDict", ["detector"], is_calibration=is_calibration)
    assert_same(repositories)


def test_reference_reads_our_dataset_types(ours: registry.Registry, theirs_on_ours: Any) -> None:
    for name, dimensions, is_calibration in definitions():
        ours.dataset_types.register(name, "StructuredDataDict", dimensions, is_calibration=is_calibration)
    for name, dimensions, is_calibration in definitions():
        expected = reference.dataset_type(theirs_on_ours, name, dimensions, is_calibration=is_calibration)
        assert theirs_on_ours.get_dataset_type(name) == expected
        assert not theirs_on_ours.registry.registerDatasetType(expected)


def test_we_read_dataset_types_of_the_reference(ours: registry.Registry, theirs_on_ours: Any) -> None:
    for name, dimensions, is_calibration in definitions():
        kind = reference.dataset_type(theirs_on_ours, name, dimensions, is_calibration=is_calibration)
        theirs_on_ours.registry.registerDatasetType(kind)
    rows = ours.dataset_types.rows([name for name, _, _ in definitions()])
    for name, dimensions, is_calibration in definitions():
        row = ours.dataset_types.register(
            name, "StructuredDataDict", dimensions, is_calibration=is_calibration
        )
        assert row == rows[name]
        assert row.is_calibration == is_calibration
        assert row.required == tuple(theirs_on_ours.dimensions.conform(dimensions).required)
        with pytest.raises(errors.AggregatorError, match=f"dataset type '{name}' is registered"):
            ours.dataset_types.register(name, "Plot", dimensions, is_calibration=is_calibration)


def test_reference_finds_our_datasets(ours: registry.Registry, theirs_on_ours: Any) -> None:
    ours.collections.register_run(RUN)
    values: dict[tuple[str, ...], tuple[int | str, ...]] = {
        (): (),
        ("visit", "detector"): (reference.INSTRUMENT, 2, 102),
        ("visit", "patch"): (reference.INSTRUMENT, reference.SKYMAP, 0, 0, 101),
        ("htm7",): (145000,),
        ("band", "patch"): ("g", reference.SKYMAP, 0, 0),
    }
    pairs = []
    for n, (dimensions, data_id) in enumerate(values.items()):
        row = ours.dataset_types.register(f"type_{n}", "StructuredDataDict", dimensions)
        pairs.append(registry_rows.make(row, data_id, uuid.UUID(int=0x0190 << 112 | n).hex))
    assert ours.datasets.ingest(RUN, registry_rows.join(*pairs)).n_ingested == len(values)
    ours.collections.update_output_chain("u/oracle", RUN, [])
    for (dataset_id, row, data_id), file in pairs:
        [ref] = theirs_on_ours.query_datasets(row.name, collections="u/oracle")
        assert (ref.id.hex, ref.run, tuple(ref.dataId.required_values)) == (dataset_id, RUN, data_id)
        assert theirs_on_ours.getURI(ref).ospath.endswith(file[3])
        assert theirs_on_ours.get_dataset(ref.id) == ref
    summary = theirs_on_ours.registry.getCollectionSummary(RUN)
    assert {kind.name for kind in summary.dataset_types} == {row.name for (_, row, _), _ in pairs}
    assert summary.governors["instrument"] == {reference.INSTRUMENT}
    assert summary.governors["skymap"] == {reference.SKYMAP}
    [first] = theirs_on_ours.query_datasets("type_0", collections=RUN)
    theirs_on_ours.pruneDatasets([first], disassociate=True, unstore=True, purge=True)
    assert len(ours.datasets.ids(RUN)) == len(values) - 1


def test_skip_datasets_of_the_reference(ours: registry.Registry, theirs_on_ours: Any) -> None:
    kind = reference.dataset_type(theirs_on_ours, "image", ["visit"])
    theirs_on_ours.registry.registerDatasetType(kind)
    theirs_on_ours.registry.registerRun(RUN)
    refs = [
        theirs_on_ours.put({"a": n}, kind, instrument=reference.INSTRUMENT, visit=n, run=RUN)
        for n in (101, 102)
    ]
    row = ours.dataset_types.row("image")
    same, other = refs[0].id.hex, f"{1:032x}"
    pairs = [
        registry_rows.make(row, (reference.INSTRUMENT, 101), same),
        registry_rows.make(row, (reference.INSTRUMENT, 102), other),
        registry_rows.make(row, (reference.INSTRUMENT, 103), f"{2:032x}"),
    ]
    result = ours.datasets.ingest(RUN, registry_rows.join(*pairs))
    assert (result.n_ingested, result.n_skipped) == (1, 1)
    assert [c.other_id for c in result.conflicts] == [refs[1].id.hex]
    found = theirs_on_ours.query_datasets("image", collections=RUN)
    assert {ref.id.hex for ref in found} == {refs[0].id.hex, refs[1].id.hex, f"{2:032x}"}
    assert theirs_on_ours.get(refs[0]) == {"a": 101}


def edit(opened: registry.Registry, chain: str, names: list[str], *, front: bool) -> None:
    """Edit a chain in a transaction of its own."""
    with opened._db.writing() as connection:
        rows = collection_rows.CollectionRows(opened._tables, connection)
        (rows.prepend if front else rows.extend)(chain, names)


@pytest.mark.parametrize("seed", thinning.thinned(range(3), [0]))
def test_chains(repositories: list[Repository], ours: registry.Registry, theirs: Any, seed: int) -> None:
    chance = random.Random(seed)
    runs, chains = [f"run/{n}" for n in range(6)], [f"chain/{n}" for n in range(3)]
    for name in runs:
        ours.collections.register_run(name)
        theirs.registry.registerRun(name)
    for name in chains:
        assert ours.collections.register_chain(name)
        assert not ours.collections.register_chain(name)
        reference.register_chain(theirs, name)
    n_refused = 0
    for _ in range(30):
        chain, front = chance.choice(chains), chance.random() < 0.6
        names = chance.choices(runs + chains, k=chance.randint(0, 4))
        try:
            (theirs.collections.prepend_chain if front else theirs.collections.extend_chain)(chain, names)
        except Exception:
            n_refused += 1
            with pytest.raises(errors.AggregatorError, match="would contain itself"):
                edit(ours, chain, names, front=front)
        else:
            edit(ours, chain, names, front=front)
        mine, expected = (
            each.database.query("SELECT * FROM collection_chain ORDER BY 1, 2") for each in repositories
        )
        assert mine == expected
        for name in chains:
            assert ours.collections.flatten([name]) == list(
                theirs.collections.query(name, flatten_chains=True)
            )
    assert 0 < n_refused < 30


def test_output_chain(
    repositories: list[Repository], ours: registry.Registry, theirs: Any, theirs_on_ours: Any
) -> None:
    for opened in (theirs_on_ours, theirs):
        for name in ("in/1", "in/2", "in/3", "out/1", "out/2"):
            opened.registry.registerRun(name)
        for name, children in (("in/a", ["in/1", "in/2"]), ("in/b", ["in/2", "in/a", "in/3"])):
            reference.register_chain(opened, name)
            opened.collections.redefine_chain(name, children)
    for chain, run, inputs in (
        ("out", "out/1", ["in/b", "in/1"]),
        ("out", "out/1", ["in/b", "in/1"]),
        ("out", "out/2", ["in/1"]),
        ("out", "out/1", ["in/b", "in/1"]),
        ("alone", "out/1", []),
        ("alone", "out/1", []),
        ("circle", "out/1", ["circle", "in/3"]),
    ):
        ours.collections.update_output_chain(chain, run, inputs)
        if chain not in theirs.collections.query("*"):
            reference.register_chain(theirs, chain)
            if inputs:
                flat = theirs.collections.query(inputs, flatten_chains=True)
                theirs.collections.extend_chain(chain, flat)
        theirs.collections.prepend_chain(chain, run)
        assert_same(repositories, schema=False)
        assert ours.collections.children(chain) == list(theirs.collections.get_info(chain).children)
