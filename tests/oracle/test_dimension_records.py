"""Dimension records: what we insert is what the reference inserts, and each side finds the other's."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
import pytest
from aggregator.butler.databases import database, sqlite
from aggregator.storage import errors
from hypothesis import strategies as st

daf: Any = pytest.importorskip("lsst.daf.butler")
sphgeom: Any = pytest.importorskip("lsst.sphgeom")
new: Any = pytest.importorskip("tests.helpers.new_repositories")

# Fixtures.
maker, made, butler = new.maker, new.made, new.butler

FULL: dict[str, Any] = json.loads(json.dumps(daf.DimensionConfig().toDict()))
"""The reference's own universe."""

FULL_RECORDS: dict[str, list[dict[str, Any]]] = {
    **new.RECORDS,
    "instrument": [{"name": new.CAMERA, "visit_max": 1000, "visit_system": 1, "exposure_max": 99}],
    "visit": [{**visit, "azimuth": 3, "observation_reason": "é" * 68} for visit in new.RECORDS["visit"]],
    "subfilter": [{"band": "g", "id": 1}],
    "group": [{"instrument": new.CAMERA, "name": "a group"}],
    "exposure": [
        {
            "instrument": new.CAMERA,
            "id": 7,
            "obs_id": "obs'7",
            "physical_filter": "G-1",
            "group": "a group",
            "day_obs": 20260301,
            "has_simulated": True,
            "can_see_sky": False,
            "tracking_ra": -0.1,
            "timespan": (new.NIGHT[0], database.MAX_TIMESPAN),
        }
    ],
    "visit_system": [{"instrument": new.CAMERA, "id": 1, "name": "one-to-one"}],
    "visit_definition": [{"instrument": new.CAMERA, "visit": 101, "exposure": 7}],
    "visit_system_membership": [{"instrument": new.CAMERA, "visit": 101, "visit_system": 1}],
    "ssp_hypothesis_table": [{"name": "t"}],
    "ssp_hypothesis_bundle": [{"ssp_hypothesis_table": "t", "id": 4}],
}
"""Records of nearly all elements of that universe, in an order in which they can be inserted."""

UNIVERSES = [pytest.param(None, new.RECORDS, id="compact"), pytest.param(FULL, FULL_RECORDS, id="full")]


def timespan(ends: tuple[int, int]) -> Any:
    return daf.Timespan(None, None, _nsec=ends)


def insert_with_reference(butler: Any, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for element, rows in records.items():
        converted = [dict(row) for row in rows]
        for row in converted:
            if row.get("timespan") is not None:
                row["timespan"] = timespan(row["timespan"])
        butler.registry.insertDimensionData(element, *converted)


def plain(record: Any) -> dict[str, Any]:
    """Return a record of the reference's as ours are."""
    found: dict[str, Any] = record.toDict()
    if found.get("timespan") is not None:
        found["timespan"] = found["timespan"].nsec
    if found.get("region") is not None:
        found["region"] = found["region"].encode()
    return found


@pytest.mark.parametrize(("dimensions", "records"), UNIVERSES)
def test_same_rows_as_the_reference_inserts(maker: Any, dimensions: Any, records: Any) -> None:
    ours, theirs = maker.ours("ours", dimensions), maker.theirs("theirs", dimensions)
    ours.insert(records)
    with theirs.butler() as butler:
        insert_with_reference(butler, records)
    assert ours.database.content() == theirs.database.content()
    filled = {table for table, rows in ours.database.content().items() if rows}
    assert filled > {*records, "visit_skypix_overlap_summary", "patch_skypix_overlap_summary"}


@pytest.mark.parametrize(("dimensions", "records"), UNIVERSES)
def test_each_side_finds_the_others_records(maker: Any, dimensions: Any, records: Any) -> None:
    ours, theirs = maker.ours("ours", dimensions), maker.theirs("theirs", dimensions)
    ours.insert(records)
    with theirs.butler() as butler:
        insert_with_reference(butler, records)
    with ours.butler() as butler, theirs.registry() as opened:
        for element, rows in records.items():
            columns = opened.universe.record_columns(element)
            expected = sorted(({name: row.get(name) for name in columns} for row in rows), key=repr)
            found = [plain(record) for record in butler.query_dimension_records(element)]
            assert sorted(({n: row[n] for n in columns} for row in found), key=repr) == expected
            assert sorted(opened.dimensions.records(element), key=repr) == expected


def test_the_references_queries_join_our_records(made: Any, butler: Any) -> None:
    made.insert()
    assert {record.name for record in butler.query_dimension_records("band")} == {"g", "r"}
    where = {"where": "visit > 101 AND detector = 2", "instrument": new.CAMERA}
    assert [data_id["visit"] for data_id in butler.query_data_ids(["visit", "detector"], **where)] == [
        102,
        103,
    ]
    begin = new.NIGHT[0] + 103
    with butler.query() as query:
        x = query.expression_factory
        found = query.data_ids(["visit"]).where(x.visit.timespan.overlaps(timespan((begin, begin + 9))))
        assert [data_id["visit"] for data_id in found] == [103]
    assert len(butler.query_data_ids(["patch", "band"])) == 8


def test_reference_inserts_after_us(made: Any, butler: Any) -> None:
    made.insert()
    detector = {"instrument": new.CAMERA, "id": 7, "full_name": "S7"}
    butler.registry.insertDimensionData("detector", detector)
    assert butler.registry.syncDimensionData("detector", detector) is False
    assert butler.registry.syncDimensionData("instrument", {"name": "Second"}) is True
    with made.registry() as opened:
        assert [record["id"] for record in opened.dimensions.records("detector")] == [0, 1, 2, 7]
        assert [record["name"] for record in opened.dimensions.records("instrument")] == [
            new.CAMERA,
            "Second",
        ]
        assert len(made.database.query("SELECT * FROM visit_skypix_overlap_summary")) == 2


def test_regions_of_the_reference(made: Any, butler: Any) -> None:
    made.insert()
    corners = [sphgeom.UnitVector3d(*xyz) for xyz in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    region = sphgeom.ConvexPolygon(corners)
    butler.registry.insertDimensionData("tract", {"skymap": new.SKYMAP, "id": 5, "region": region})
    with made.registry() as opened:
        [record] = opened.dimensions.records("tract", tract=5)
        assert record == {"skymap": new.SKYMAP, "id": 5, "region": region.encode()}


@pytest.mark.parametrize("span", [daf.Timespan.makeEmpty(), daf.Timespan(None, None)], ids=["empty", "all"])
def test_timespans_of_the_reference(made: Any, butler: Any, span: Any) -> None:
    made.insert()
    butler.registry.insertDimensionData("day_obs", {"instrument": new.CAMERA, "id": 1, "timespan": span})
    with made.registry() as opened:
        [record] = opened.dimensions.records("day_obs", day_obs=1)
        assert record["timespan"] == span.nsec


def test_find_by_dimensions(made: Any) -> None:
    made.insert()
    with made.registry() as opened:

        def keys(element: str, **data_id: Any) -> list[Any]:
            columns = opened.universe.required(element)[:-1]
            found = opened.dimensions.records(element, **data_id)
            return [(*(record[name] for name in columns), record["id"])[1:] for record in found]

        assert keys("visit", physical_filter="G-1") == [(101,), (102,)]
        assert keys("visit", visit=102, instrument=new.CAMERA) == [(102,)]
        assert keys("visit", instrument="other") == []
        assert keys("patch") == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert keys("patch", patch=1) == [(0, 1), (1, 1)]
        assert [
            record["detector"] for record in opened.dimensions.records("visit_detector_region", visit=101)
        ] == [
            0,
            1,
            2,
        ]
        assert list(opened.dimensions.records("band")) == [{"name": "g"}, {"name": "r"}]
        assert list(opened.dimensions.records("band", band="r")) == [{"name": "r"}]
        for element, data_id, match in (
            ("visit", {"tract": 1}, "visit does not depend on 'tract'"),
            ("exposure", {}, "there is no 'exposure' in dimension universe aggregator_compact version 1"),
            ("htm7", {}, "htm7 is a pixelization"),
        ):
            with pytest.raises(errors.RefusedError, match=match):
                list(opened.dimensions.records(element, **data_id))


VISIT: dict[str, Any] = {**new.RECORDS["visit"][0], "id": 500, "name": "new"}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("visit", {"dark": 1}, "visit records have no dark"),
    ("visit", {"instrument": None}, "has no instrument"),
    ("visit", {"id": None}, "has no id"),
    ("visit", {"day_obs": None}, "has no day_obs"),
    ("visit", {"id": "500"}, "has id of type str; it has to be int"),
    ("visit", {"id": True}, "has id of type bool; it has to be int"),
    ("visit", {"seq_num": 1.5}, "has seq_num of type float; it has to be int"),
    ("visit", {"name": b"x"}, "has name of type bytes; it has to be str"),
    ("visit", {"zenith_angle": "x"}, "has zenith_angle of type str; it has to be float"),
    ("visit", {"timespan": (5, 5)}, "timespan"),
    ("visit", {"timespan": (5, None)}, "timespan"),
    ("visit", {"timespan": (1.5, 2)}, "timespan"),
    ("visit", {"timespan": 7}, "timespan"),
    ("visit", {"timespan": (-1, 7)}, "timespan"),
    ("visit", {"timespan": (5, database.MAX_TIMESPAN + 1)}, "timespan"),
    ("visit", {"region": b"p..."}, "has a region"),
    ("physical_filter", {"instrument": new.CAMERA, "name": "x" * 33, "band": "g"}, "at most 32 characters"),
    ("skymap", {"name": "x", "hash": "abc"}, "has hash of type str; it has to be bytes"),
    ("band", {"name": "z"}, "band has no records of its own; insert records of physical_filter"),
    ("htm7", {"id": 140000}, "htm7 has no records of its own; it is a pixelization"),
    ("exposure", {"id": 1}, "there is no 'exposure'"),
]


@pytest.mark.parametrize(("element", "changes", "match"), REFUSED)
def test_refuse_records_that_do_not_fit(
    element: str, changes: dict[str, Any], match: str, tmp_path: pathlib.Path
) -> None:
    made = new.Maker(tmp_path, None).ours("ours")
    made.insert()
    before = made.database.content()
    record = {**VISIT, **changes} if element == "visit" else changes
    good = [VISIT] if element == "visit" else []
    with made.registry() as opened:
        with pytest.raises(errors.RefusedError, match=match):
            opened.dimensions.insert(element, [*good, record])
        assert made.database.content() == before
        opened.dimensions.insert(element if element == "visit" else "detector", good)


@pytest.mark.parametrize(
    "changes",
    [{"id": 101, "name": "again"}, {"id": 501, "name": "new"}, {"id": 501, "name": "x", "day_obs": 1}],
    ids=["key", "alternate key", "foreign key"],
)
def test_all_or_none_if_the_database_refuses(made: Any, changes: dict[str, Any]) -> None:
    made.insert()
    before = made.database.content()
    with made.registry() as opened, pytest.raises(database.ConstraintError, match="the database refuses"):
        opened.dimensions.insert("visit", [VISIT, {**VISIT, **changes}])
    assert made.database.content() == before


def test_many_records(made: Any) -> None:
    made.insert()
    many = [{**VISIT, "id": n, "name": f"visit {n}"} for n in range(1000, 26_000)]
    with made.registry() as opened:
        opened.dimensions.insert("visit", many)
        opened.dimensions.insert("visit", [])
        found = opened.dimensions.records("visit")
        first = list(itertools.islice(found, 4))
        found.close()
        assert [record["id"] for record in first] == [101, 102, 103, 1000]
        assert sum(1 for _ in opened.dimensions.records("visit")) == 25_003


@hypothesis.given(
    begin=st.integers(0, database.MAX_TIMESPAN - 1), length=st.integers(1, database.MAX_TIMESPAN)
)
def test_timespans_are_kept(begin: int, length: int) -> None:
    span = begin, min(begin + length, database.MAX_TIMESPAN)
    postgresql: Any = pytest.importorskip("aggregator.butler.databases.postgresql").Postgresql
    for kind in (sqlite.Sqlite, postgresql):
        assert kind.timespan_of(None, *kind.timespan_values(None, span)) == span
        assert kind.timespan_of(None, *kind.timespan_values(None, None)) is None
