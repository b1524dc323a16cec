"""Dimension universes have the dimensions, groups and records of the reference."""

import json
import pathlib
from typing import Any

import hypothesis
import pytest
import sqlalchemy
from aggregator.butler.dimensions import universe
from hypothesis import strategies as st

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
