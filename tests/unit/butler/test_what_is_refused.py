"""Schemas, overrides of dataset types, and lookup keys that are known, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from aggregator.butler import creation
from aggregator.butler.configuration import locality, repository_config, sqlite_urls, type_overrides
from aggregator.butler.datastores import lookup_keys
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import managers
from aggregator.storage import errors

DATASETS, VERSION = managers.KNOWN["datasets"]


@pytest.fixture(scope="module")
def dimensions() -> universe.Universe:
    return universe.Universe.from_config(creation.compact_dimensions())


def test_a_new_repository_has_the_schema_that_is_known() -> None:
    for writeable in (False, True):
        managers.check(managers.attributes(), "/db", writeable=writeable)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config:registry.managers.datasets": None}, "datasets is missing, known is lsst"),
        ({"config:registry.managers.opaque": "my.Own"}, "opaque is my.Own, known is lsst"),
        ({f"version:{DATASETS}": None}, "has version none, known is 2.0.0"),
        ({f"version:{DATASETS}": "2.0"}, r"has version 2\.0, known is 2\.0\.0"),
        ({f"version:{DATASETS}": "2.0.x"}, r"has version 2\.0\.x, known"),
        ({f"version:{DATASETS}": "3.0.0"}, r"has version 3\.0\.0, known"),
        ({f"version:{DATASETS}": "2.1.0"}, r"has version 2\.1\.0, known"),
    ],
)
def test_another_schema_is_refused(changes: dict[str, str | None], problem: str) -> None:
    attributes = {k: v for k, v in {**managers.attributes(), **changes}.items() if v is not None}
    for writeable in (False, True):
        with pytest.raises(errors.RefusedError, match=problem) as caught:
            managers.check(attributes, "/db", writeable=writeable)
        assert ("write to" in str(caught.value)) == writeable


@pytest.mark.parametrize(
    "changes",
    [
        {"config:registry.managers.obscore": "lsst.Obscore"},
        {"config:obscore.json": "{}"},
        {"config:registry.managers.future": "lsst.Future"},
        {f"version:{managers.KNOWN['opaque'][0]}": "0.1.9"},
    ],
)
def test_what_would_not_be_filled_can_only_be_read(changes: dict[str, str]) -> None:
    attributes = {**managers.attributes(), **changes}
    managers.check(attributes, "/db", writeable=False)
    with pytest.raises(errors.RefusedError, match="can't write to a repository of this kind"):
        managers.check(attributes, "/db", writeable=True)


def test_patches_of_a_schema_make_no_difference() -> None:
    managers.check({**managers.attributes(), f"version:{DATASETS}": "2.0.77"}, "/db", writeable=True)


def overridden(overrides: Any, **others: Any) -> type_overrides.Overrides:
    section = {"cls": DATASETS, "config": {"overrides": overrides}, **others}
    return type_overrides.parse({"datasets": section}, "butler.yaml")


@pytest.mark.parametrize("section", [None, {}, {"datasets": None}, {"datasets": DATASETS}, "text"])
def test_usually_nothing_is_overridden(section: Any) -> None:
    assert type_overrides.parse(section, "butler.yaml") is type_overrides.NONE
    assert overridden(None) == type_overrides.NONE
    assert type_overrides.NONE.obstacle("image") is None
    assert not type_overrides.NONE.concern("image")


def test_names_and_storage_classes_are_overridden() -> None:
    made = overridden(
        {"raw_old": {"rename": "raw"}, "image": {"storageClass": "ImageF"}, "same": {}, "none": None}
    )
    assert made.stored_name("raw") == "raw_old"
    assert made.stored_name("raw_old") is None
    assert made.stored_name("image") == "image"
    assert made.storage_class("image", "Exposure") == "ImageF"
    assert made.storage_class("raw", "Exposure") == "Exposure"
    assert [made.concern(name) for name in ("raw", "raw_old", "image", "same")] == [True, True, True, False]
    assert "its name is one that the configuration replaces" in str(made.obstacle("raw_old"))
    assert "replaces its storage class" in str(made.obstacle("image"))
    assert made.obstacle("raw") is None


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"a": {"rename": "a"}}, "renames a to itself"),
        ({"a": {"rename": "c"}, "b": {"rename": "c"}}, "renames b to the name that a has"),
        ({"a": {"rename": ""}}, "'' .*has to be a name|is ''; it has to be a name"),
        ({"a": {"storageClass": 5}}, "is 5; it has to be a name"),
        ({"a": {"dimensions": []}}, "has dimensions, which this version does not know"),
        ({7: {}}, "has 7, which this version does not know"),
        ({"a": "b"}, "overrides: a' has to be a mapping"),
        (["a"], "overrides' has to be a mapping"),
    ],
)
def test_overrides_that_contradict_themselves_or_are_not_known(overrides: Any, problem: str) -> None:
    with pytest.raises(errors.RefusedError, match=problem):
        overridden(overrides)
    with pytest.raises(errors.RefusedError, match="has other, which"):
        overridden({}, other=1)


def test_lists_of_lookup_keys(dimensions: universe.Universe) -> None:
    section = ["image", "detector+visit", "nowhere+visit", {"instrument<HSC>": ["image", "Plot"]}]
    keys = lookup_keys.parse_list(section, dimensions)
    visit = dimensions.group(["visit", "detector"]).names
    hsc = ("instrument", "HSC")
    assert keys == {
        lookup_keys.Key("image"),
        lookup_keys.Key(visit),
        lookup_keys.Key("nowhere+visit"),
        lookup_keys.Key("image", hsc),
        lookup_keys.Key("Plot", hsc),
    }


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"image": ["a"]}, "is not of the form"),
        ({"instrument<A>": [], "instrument<B>": []}, "is not of the form"),
        (True, "lookup key True is not a string; quote it"),
    ],
)
def test_lists_that_hold_something_else(dimensions: universe.Universe, entry: Any, problem: str) -> None:
    with pytest.raises(errors.RefusedError, match=problem):
        lookup_keys.parse_list(["image", entry], dimensions)


def test_mappings_of_lookup_keys(dimensions: universe.Universe) -> None:
    section = {"image": "a", "instrument<HSC>": {"image": "b"}, "Plot": {"x": 1}}
    with pytest.raises(errors.RefusedError, match="'Plot' is a mapping, but not of the form"):
        lookup_keys.parse_mapping(section, dimensions)
    assert lookup_keys.parse_mapping(section, dimensions, values_are_mappings=True) == {
        lookup_keys.Key("image"): "a",
        lookup_keys.Key("image", ("instrument", "HSC")): "b",
        lookup_keys.Key("Plot"): {"x": 1},
    }


def test_the_strongest_key_comes_first(dimensions: universe.Universe) -> None:
    group = dimensions.group(["detector"])
    keys = lookup_keys.candidates("image.mask", group, ["Mask", "Image"], "HSC")
    plain: list[Any] = ["image.mask", "image", group.names, "Mask", "Image"]
    assert keys == (*(lookup_keys.Key(n, ("instrument", "HSC")) for n in plain), *map(lookup_keys.Key, plain))
    assert lookup_keys.candidates("x", dimensions.group([]), ["Plot"]) == tuple(
        map(lookup_keys.Key, ("x", "Plot"))
    )


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////a%20b/c.sqlite3?timeout=5", "/a b/c.sqlite3"),
        ("sqlite+pysqlite:///c", "c"),
        ("sqlite://", None),
        ("postgresql:///db", None),
    ],
)
def test_urls_of_sqlite_files(url: str, path: str | None) -> None:
    assert sqlite_urls.path(url) == path


def test_a_place_is_told_by_its_server_and_schema_too(tmp_path: Any) -> None:
    def place(db: str, **others: str) -> str:
        (tmp_path / "butler.yaml").write_text(
            str({"datastore": {"root": "<butlerRoot>"}, "registry": {"db": db, **others}})
        )
        return locality.describe(repository_config.load(tmp_path))

    first = place("postgresql://me@host/db", namespace="a")
    assert first == place("postgresql://me@host/db", namespace="a")
    others = {
        place("postgresql://me@host/db", namespace="b"), place("postgresql://me@other/db", namespace="a"),
        place("sqlite:///<butlerRoot>/gen3.sqlite3"), place("sqlite:///<butlerRoot>/other.sqlite3"),
    }  # fmt: skip
    assert len({first, *others}) == 5
