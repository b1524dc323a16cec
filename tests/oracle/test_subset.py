"""What `subset` makes of a destination is what the reference makes of it, which reads all of it."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

import aggregator
from tests.helpers import databases, transfer_case
from tests.helpers.oracle import compare, difference


@pytest.fixture
def source(transfer_source: pathlib.Path) -> pathlib.Path:
    return transfer_source


def _rows(root: pathlib.Path) -> dict[str, Any]:
    rows = compare.database_rows(databases.Sqlite(root / "gen3.sqlite3"))
    rows["collection_chain"] = {
        name: [c for _, c in sorted(v)] for name, v in rows["collection_chain"].items()
    }
    for name in [name for name in rows if name.startswith("dataset_calibs_")]:
        rows["certifications"] = {row[2:3] + row[4:] for row in rows.pop(name)}
    return rows


def _transfer_with_reference(source: pathlib.Path, destination: pathlib.Path) -> None:
    import lsst.daf.butler as daf
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    with (
        daf.Butler.from_config(str(source)) as before,
        daf.Butler.from_config(str(destination), writeable=True) as after,
    ):
        for kind in before.registry.queryDatasetTypes():
            after.registry.registerDatasetType(kind)
        runs = before.collections.query(transfer_case.TOP, flatten_chains=True)
        refs = {
            ref
            for run in runs
            for kind in before.collections.get_info(run, include_summary=True).dataset_types
            for ref in before.registry.queryDatasets(kind, collections=run)
        }
        after.transfer_from(
            before, refs, transfer="copy", register_dataset_types=True, transfer_dimensions=True
        )
        with before.export(directory=destination, filename="export.yaml") as export:
            export.saveDatasets(refs, elements=())
            for name in [
                *runs,
                *before.collections.query("*", collection_types={daf.CollectionType.CHAINED}),
            ]:
                export.saveCollection(name)
        after.import_(directory=destination, filename="export.yaml", without_datastore=True)


def test_rows_are_those_of_the_reference(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ours = tmp_path / "ours"
    aggregator.subset(source, ours, transfer_case.ALL, aggregator.TransferConfig(registry="full"))
    theirs = tmp_path / "theirs"
    aggregator.create_repository(theirs, dimension_config=transfer_case.dimensions(source))
    _transfer_with_reference(source, theirs)
    difference.assert_same(_rows(theirs), _rows(ours), "Databases")


def _destination(server: Any, directory: pathlib.Path, kind: str) -> dict[str, Any]:
    """Return the options for a new repository on a kind of database."""
    if kind == "sqlite":
        return {}
    return {"database": server.url(server.create_database()), "namespace": "ns"}


def test_all_that_there_is_goes_from_database_to_database_and_back(
    source: pathlib.Path, tmp_path: pathlib.Path, postgresql: Any
) -> None:
    expected = transfer_case.content(source)
    assert len(expected["Datasets u/sample/run1"][0]["rows"]) > 20
    before = source
    for number, kind in enumerate(("postgresql", "postgresql", "sqlite")):
        after = tmp_path / f"{number}"
        options = _destination(postgresql, after, kind)
        report = aggregator.subset(
            before, after, transfer_case.ALL, aggregator.TransferConfig(registry="full", **options)
        )
        assert report.done.datasets_added == report.selected
        difference.assert_same(expected, transfer_case.content(after), "Repositories")
        again = aggregator.subset(
            before, after, transfer_case.ALL, aggregator.TransferConfig(registry="full", **options)
        )
        assert (again.done.datasets_added, again.done.datasets_present) == (0, report.selected)
        assert again.done.files_brought == again.done.associations_added == again.done.records_added == 0
        before = after


def test_the_reference_reads_everything(
    source: pathlib.Path, tmp_path: pathlib.Path, postgresql: Any
) -> None:
    import astropy.time
    import lsst.daf.butler as daf
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    target = tmp_path / "target"
    options = _destination(postgresql, target, "postgresql")
    aggregator.subset(source, target, transfer_case.ALL, aggregator.TransferConfig(**options))
    # Links would show what is in the source.
    with daf.Butler.from_config(str(source)) as before, daf.Butler.from_config(str(target)) as after:
        refs = set()
        for run in before.collections.query(transfer_case.TOP, flatten_chains=True):
            for kind in before.collections.get_info(run, include_summary=True).dataset_types:
                refs |= set(before.registry.queryDatasets(kind, collections=run))
        assert len(refs) > 50
        for ref in refs:
            assert type(after.get(ref)) is type(before.get(ref))
            assert after.getURI(ref).read() == before.getURI(ref).read()
            assert after.get_dataset(ref.id) == ref
        images = "clean_image"
        firsts = [
            set(each.query_datasets(images, collections=transfer_case.CHAIN)) for each in (before, after)
        ]
        assert firsts[0] == firsts[1] != set()
        for date in ("2026-01-01", "2026-02-01", "2026-03-01", "2026-05-01"):
            time = astropy.time.Time(date, scale="tai")
            found = [
                each.find_dataset(
                    "flat",
                    instrument="SampleCam",
                    detector=1,
                    timespan=daf.Timespan.fromInstant(time),
                    collections=transfer_case.CALIBRATIONS,
                )
                for each in (before, after)
            ]
            assert found[0] == found[1]
            assert found[0] is not None
        time = astropy.time.Time("2025-05-01", scale="tai")
        assert None is after.find_dataset(
            "flat",
            instrument="SampleCam",
            detector=1,
            timespan=daf.Timespan.fromInstant(time),
            collections=transfer_case.CALIBRATIONS,
        )
