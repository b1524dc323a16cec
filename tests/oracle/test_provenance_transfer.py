"""What quanta have left becomes the same rows as with the reference, and only once."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler")

from aggregator.butler import artifacts, provenance_transfer, quantum, quantum_backed_butler
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import batch, insertion
from aggregator.schemas.execution import quantum_provenance
from aggregator.storage import errors
from lsst.daf.butler import Butler, Quantum, QuantumProvenanceData

from tests.helpers import databases, postgresql_repository, postgresql_server
from tests.helpers.oracle import butlers, compare

N = 100
KINDS = {"one": "StructuredDataDict", "parts": "Parts", "never": "StructuredDataDict"}
"""Outputs of each quantum; the last one is not written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Executed:
    """A repository whose quanta have been executed, and what they have left."""

    case: butlers.Case
    quanta: list[quantum.Quantum]
    reference_quanta: list[Quantum]
    provenance: list[quantum_provenance.QuantumProvenance]

    def expected(self, butler: Butler) -> None:
        """Let the reference take it."""
        provenance = [QuantumProvenanceData.direct(**json.loads(each.to_json())) for each in self.provenance]
        QuantumProvenanceData.collect_and_transfer(butler, self.reference_quanta, provenance)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    case = butlers.make(tmp_path_factory.mktemp("executed") / "repo", detectors=N)
    case.butler.collections.register(butlers.RUN)
    for name, storage_class in KINDS.items():
        kind = butlers.output(case.butler, name, storage_class, 1).datasetType
        case.butler.registry.registerDatasetType(kind)
    executed = Executed(case, [], [], [])
    for task in ("a", "b"):
        for detector in range(1, N + 1):
            kinds = [("one", "StructuredDataDict"), ("never", "StructuredDataDict")]
            _execute(executed, [("parts", "Parts")] if task == "b" else kinds, detector)
    case.butler.close()
    return executed


def _execute(executed: Executed, kinds: list[tuple[str, str]], detector: int) -> None:
    case = executed.case
    refs = [butlers.output(case.butler, name, storage_class, detector) for name, storage_class in kinds]
    outputs = {ref.datasetType.name: (case.ref(ref),) for ref in refs}
    first = next(iter(outputs.values()))[0]
    raw = case.ref(case.raw)
    given = quantum.Quantum(
        first.id, "task", first.dataId, {"raw": (raw,)}, outputs, datastore_records=case.input_records()
    )
    with quantum_backed_butler.QuantumBackedButler.initialize(case.files, given) as butler:
        butler.stored(raw)
        butler.get(raw)
        for name, (ref,) in outputs.items():
            if name == "one":
                butler.put({"v": detector}, ref)
            elif name == "parts":
                butler.put({"summary": {"a": detector}, "output": {}, "data": []}, ref)
        executed.provenance.append(butler.extract_provenance_data())
    executed.quanta.append(given)
    executed.reference_quanta.append(case.quantum(refs))


@pytest.fixture(params=["sqlite", "postgresql"])
def places(
    request: pytest.FixtureRequest, executed: Executed, tmp_path: pathlib.Path
) -> Iterator[tuple[databases.Database, databases.Database]]:
    """Return two databases of the repository, one for each side."""
    original = executed.case.root / "gen3.sqlite3"
    if request.param == "sqlite":
        copies = tmp_path / "theirs.sqlite3", tmp_path / "ours.sqlite3"
        for copy in copies:
            shutil.copy(original, copy)
        yield databases.Sqlite(copies[0]), databases.Sqlite(copies[1])
        return
    server: postgresql_server.Server = request.getfixturevalue("postgresql")
    loaded = [postgresql_repository.load(server, original) for _ in range(2)]
    yield loaded[0], loaded[1]
    for place in loaded:
        place.remove()


def _take(executed: Executed, place: databases.Database, **options: Any) -> provenance_transfer.Transfer:
    with place.open() as opened:
        return provenance_transfer.collect_and_transfer(
            opened, executed.case.files, iter(executed.quanta), iter(executed.provenance), **options
        )


def test_the_same_rows(
    executed: Executed,
    places: tuple[databases.Database, databases.Database],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, ours = places
    # The reference's butler, with this database and the files where they are.
    root = tmp_path / "repo"
    root.mkdir()
    shutil.copy(executed.case.root / "butler.yaml", root)
    (root / butlers.RUN).parent.mkdir(parents=True)
    (root / butlers.RUN).symlink_to(executed.case.root / butlers.RUN)
    theirs.configure(root)
    butler = Butler.from_config(str(root), writeable=True)
    executed.expected(butler)
    read = executed.reference_quanta[0].outputs["one"][0]
    assert butler.get(read) == {"v": 1}
    butler.close()
    # Several transactions, since 200 datasets would fit into one.
    monkeypatch.setattr(provenance_transfer, "DATASETS_AT_ONCE", 64)
    assert _take(executed, ours) == provenance_transfer.Transfer(2 * N, 0)
    compare.assert_databases_equal(theirs, ours)
    before = ours.fingerprint() if isinstance(ours, databases.Sqlite) else None, ours.content()
    assert _take(executed, ours) == provenance_transfer.Transfer(0, 2 * N)
    assert ours.content() == before[1]


@pytest.fixture
def place(executed: Executed, tmp_path: pathlib.Path) -> databases.Database:
    copy = tmp_path / "gen3.sqlite3"
    shutil.copy(executed.case.root / "gen3.sqlite3", copy)
    return databases.Sqlite(copy)


def test_a_file_is_gone(executed: Executed, place: databases.Database, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "repo"
    shutil.copytree(executed.case.root, root)
    config = repository_config.load(root)
    elsewhere = artifacts.Artifacts(config, executed.case.files.dimensions)
    victims = [
        next(path for path in (root / butlers.RUN).rglob(f"{name}_*_D7_*"))
        for name in ("one", "parts_output")
    ]
    for victim in victims:
        os.unlink(victim)
    gone = tuple(executed.quanta[number].outputs[name][0] for number, name in ((6, "one"), (N + 6, "parts")))
    given = executed.quanta, executed.provenance
    with place.open() as opened:
        transfer = provenance_transfer.collect_and_transfer(opened, elsewhere, *given)
        assert transfer == provenance_transfer.Transfer(2 * N - 2, 0, gone)
        # As the reference, which never looks.
        transfer = provenance_transfer.collect_and_transfer(opened, elsewhere, *given, check_files=False)
        assert transfer == provenance_transfer.Transfer(2, 2 * N - 2)


def test_what_does_not_belong_together_is_refused(executed: Executed, place: databases.Database) -> None:
    swapped = [executed.provenance[1], executed.provenance[0], *executed.provenance[2:]]
    before = place.content()
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: _take(dataclasses.replace(executed, provenance=swapped), place), "of another one"),
        (
            lambda: _take(dataclasses.replace(executed, provenance=executed.provenance[1:]), place),
            "of another",
        ),
        (lambda: _take(dataclasses.replace(executed, quanta=executed.quanta[:-1]), place), "longer"),
    ]
    for call, text in calls:
        with pytest.raises(ValueError, match=text):
            call()
    assert place.content() == before


def test_a_run_is_not_registered(executed: Executed, place: databases.Database) -> None:
    place.execute("DELETE FROM run WHERE collection_id = (SELECT max(collection_id) FROM collection)")
    place.execute(f"DELETE FROM collection WHERE name = '{butlers.RUN}'")
    with pytest.raises(insertion.UnregisteredError, match="there is no run"):
        _take(executed, place)


def test_a_dataset_type_is_not_registered(executed: Executed, place: databases.Database) -> None:
    place.execute("DELETE FROM dataset_type WHERE name = 'one'")
    with pytest.raises(errors.AggregatorError, match="not registered: dataset type one"):
        _take(executed, place)


def test_the_repository_has_another_dataset(executed: Executed, place: databases.Database) -> None:
    first = executed.quanta[:1], executed.provenance[:1]
    with place.open() as opened:
        provenance_transfer.collect_and_transfer(opened, executed.case.files, *first)
    other = "0" * 31 + "1"
    for table, column in (("dataset", "id"), ("dataset_location", "dataset_id")):
        place.execute(f"UPDATE {table} SET {column} = '{other}' WHERE {column} = '{first[0][0].id.hex}'")
    (tags,) = {
        table for table in place.tables() if table.startswith("dataset_tags") and place.count(table) > 1
    }
    place.execute(f"UPDATE {tags} SET dataset_id = '{other}' WHERE dataset_id = '{first[0][0].id.hex}'")
    transfer = _take(executed, place)
    assert (transfer.n_ingested, transfer.n_skipped) == (2 * N - 1, 0)
    (conflict,) = transfer.conflicts
    assert (conflict.kind, conflict.other_id) == (batch.ConflictKind.DATA_ID, other)
