"""Dimension universes: order, groups and record layout, against the specification and the reference."""

import copy
import json
import zipfile
from typing import Any

import pytest
import zstandard
from aggregator.butler.dimensions import universe
from aggregator.storage import errors


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
