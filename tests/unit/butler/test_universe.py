"""Dimension universes: order, groups and record layout, against the specification and the reference."""

import copy
import json
import pathlib
import zipfile
from typing import Any

import hypothesis
import pytest
import sqlalchemy
import zstandard
from aggregator.butler.dimensions import universe
from aggregator.storage import errors
from hypothesis import strategies as st


def _sample_config(sample: Any) -> dict[str, Any]:
    with zipfile.ZipFile(sample.repo / "predicted.qg") as archive:
        raw = zstandard.ZstdDecompressor().decompress(archive.read("pipeline_graph.json.zst"))
    config: dict[str, Any] = json.loads(raw)["dimensions"]
    return config


SMALL = {
    "version": 1,
    "namespace": "mini",
    "skypix": {
        "common": "htm1",
        "systems": {"htm": {"class": "lsst.sphgeom.HtmPixelization", "max_level": 2}},
    },
    "elements": {
        "site": {"keys": [{"name": "name", "type": "string", "length": 16}], "governor": True},
        "color": {
            "keys": [{"name": "name", "type": "string", "length": 16}],
            "implied_union_target": "plate",
        },
        "plate": {
            "keys": [{"name": "id", "type": "int"}, {"name": "label", "type": "string", "length": 32}],
            "requires": ["site"],
            "implies": ["color"],
            "metadata": [{"name": "flag", "type": "bool"}],
        },
        "cell": {"keys": [{"name": "id", "type": "int"}], "requires": ["plate"]},
        "plate_cell_join": {"requires": ["cell"], "always_join": True},
    },
    "topology": {"spatial": {"cells": ["cell"]}, "temporal": {"plates": ["plate"]}},
}


def test_small_universe_follows_the_rules_of_the_specification() -> None:
    mini = universe.Universe.from_config(SMALL)
    assert (mini.version, mini.namespace) == (1, "mini")
    assert mini.elements == ("color", "htm1", "htm2", "site", "plate", "cell", "plate_cell_join")
    assert mini.dimensions == ("color", "htm1", "htm2", "site", "plate", "cell")
    assert mini.skypix == {"htm1", "htm2"}
    assert mini.governors == ("site",)
    assert mini.required("cell") == ("site", "plate", "cell")
    assert mini.required("plate_cell_join") == ("site", "plate", "cell")
    assert mini.implied("plate") == ("color",)
    assert [name for name in mini.elements if mini.has_table(name)] == [
        "site",
        "plate",
        "cell",
        "plate_cell_join",
    ]
    assert mini.primary_key("site") == "name"
    assert mini.column_type("site") == ("string", 16)
    assert mini.column_type("htm2") == ("int", None)
    assert mini.record_columns("plate") == ("site", "id", "color", "label", "flag", "timespan")
    assert mini.record_columns("cell") == ("site", "plate", "id", "region")


def test_group_is_closed_and_ordered() -> None:
    group = universe.Universe.from_config(SMALL).group(["cell", "htm2"])
    assert group.names == ("color", "htm2", "site", "plate", "cell")
    assert group.required == ("htm2", "site", "plate", "cell")
    assert group.implied == ("color",)
    assert group.keys == group.required + group.implied
    assert group.elements == ("color", "htm2", "site", "plate", "cell", "plate_cell_join")
    assert group.governors == ("site",)
    assert group.skypix == "htm2"


def test_groups_are_cached_and_comparable_between_universes() -> None:
    one, two = universe.Universe.from_config(SMALL), universe.Universe.from_config(copy.deepcopy(SMALL))
    assert one.group(["cell"]) is one.group(["cell"])
    assert one.group(["cell"]) == two.group(["plate", "cell"])
    assert hash(one.group(["cell"])) == hash(two.group(["plate", "cell"]))
    assert one.group(["cell"]) != one.group(["plate"])
    assert one.group(["htm1", "htm2"]).skypix is None
    assert one.group([]).keys == ()


def test_spec_example_in_the_sample(sample: Any) -> None:
    group = universe.Universe.from_config(_sample_config(sample)).group(["visit", "detector"])
    assert group.required == ("instrument", "detector", "visit")
    assert group.implied == ("band", "day_obs", "physical_filter")


@pytest.mark.parametrize("names", [["visitt"], ["plate_cell_join"]])
def test_unknown_dimension_is_refused(names: list[str]) -> None:
    with pytest.raises(errors.AggregatorError, match=names[0]):
        universe.Universe.from_config(SMALL).group(names)


def test_circle_is_refused() -> None:
    config = copy.deepcopy(SMALL)
    config["elements"]["site"].update(governor=False, requires=["cell"])  # type: ignore[index]
    with pytest.raises(errors.AggregatorError, match="circle"):
        universe.Universe.from_config(config)


def test_incomplete_configuration_is_refused() -> None:
    with pytest.raises(errors.AggregatorError, match="skypix"):
        universe.Universe.from_config({"elements": {}})


_UNIVERSES: dict[Any, Any] = {}


def _reference(version: int | str) -> tuple[Any, universe.Universe]:
    """Return the reference's and our universe; versions are files, or the serialized default."""
    if version not in _UNIVERSES:
        daf = pytest.importorskip("lsst.daf.butler")
        folder = pathlib.Path(daf.__file__).parent / "configs"
        path = folder / "dimensions.yaml"
        if isinstance(version, int):
            path = folder / "old_dimensions" / f"daf_butler_universe{version}.yaml"
        config = daf.DimensionConfig(str(path))
        plain = (
            config.to_simple().model_dump(mode="json", by_alias=True)
            if version == "simple"
            else config.toDict()
        )
        mine = universe.Universe.from_config(json.loads(json.dumps(plain)))
        _UNIVERSES[version] = (daf.DimensionUniverse(config), mine)
    theirs, mine = _UNIVERSES[version]
    return theirs, mine


VERSIONS: list[Any] = [*range(9), "default", "simple"]


@pytest.mark.parametrize("version", VERSIONS)
def test_universe_is_the_references(version: Any) -> None:
    theirs, mine = _reference(version)
    assert (mine.version, mine.namespace) == (theirs.version, theirs.namespace)
    assert mine.elements == tuple(theirs.elements.names)
    assert mine.dimensions == tuple(theirs.dimensions.names)
    assert mine.governors == tuple(theirs.governor_dimensions.names)
    assert mine.skypix == set(theirs.skypix_dimensions.names) & set(theirs.dimensions.names)
    for element in theirs.elements:
        name = element.name
        assert mine.required(name) == tuple(element.required.names), name
        assert mine.implied(name) == tuple(element.implied.names), name
        assert mine.has_table(name) == (element.has_own_table and name not in mine.skypix), name
        if name in mine.dimensions:
            assert mine.primary_key(name) == element.primaryKey.name
            key = element.primaryKey
            is_text = issubclass(key.dtype, sqlalchemy.String)
            assert mine.column_type(name) == (("string", key.length) if is_text else ("int", None))
        if name not in mine.skypix:
            schema = [*element.schema.required, *element.schema.implied, *element.schema.remainder]
            own = mine.primary_key(name) if name in mine.dimensions else ""
            assert [own if c == name else c for c in mine.record_columns(name)] == [
                own if column.name == name else column.name for column in schema
            ], name


@pytest.mark.parametrize("version", VERSIONS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_groups_are_the_references(version: Any, data: st.DataObject) -> None:
    theirs, mine = _reference(version)
    pixels = sorted(mine.skypix)
    ordinary = [name for name in mine.dimensions if name not in mine.skypix]
    names = data.draw(st.sets(st.sampled_from(ordinary + pixels[:3]), max_size=6))
    wanted, group = theirs.conform(names), mine.group(names)
    assert group.names == tuple(wanted.names)
    assert group.required == tuple(wanted.required)
    assert group.implied == tuple(wanted.implied)
    assert group.keys == tuple(wanted.data_coordinate_keys)
    assert group.elements == tuple(wanted.elements)
    assert group.governors == tuple(wanted.governors)
    assert group.skypix == (next(iter(wanted.skypix)) if len(wanted.skypix) == 1 else None)
