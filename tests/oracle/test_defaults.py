"""The shipped table of defaults and the formatter table, against the reference package."""

import importlib
import json
import pathlib
from typing import Any

import pytest
from aggregator.butler.configuration import generate_defaults
from aggregator.butler.datastores import formatters
from aggregator.butler.dimensions import universe
from aggregator.storage import errors

_SHIPPED = pathlib.Path(generate_defaults.__file__).with_name("defaults.json")


def _classes(section: Any) -> set[str]:
    """Return the formatter classes that a section of the configuration names."""
    values = [v for k, v in section.items() if k != "default"]
    return {v["formatter"] if isinstance(v, dict) else v for v in values} | set(section["default"])


def test_shipped_defaults_are_those_of_the_reference() -> None:
    daf = pytest.importorskip("lsst.daf.butler")
    table = generate_defaults.make_table(pathlib.Path(daf.__file__).parent / "configs")
    assert json.loads(_SHIPPED.read_text()) == json.loads(json.dumps(table))


def test_order_of_entries_survives_in_the_file() -> None:
    daf = pytest.importorskip("lsst.daf.butler")
    table = generate_defaults.make_table(pathlib.Path(daf.__file__).parent / "configs")
    for file, content in json.loads(_SHIPPED.read_text()).items():
        assert json.dumps(content) == json.dumps(table[file])


def test_every_default_formatter_has_an_extension() -> None:
    section = json.loads(_SHIPPED.read_text())["datastores/fileDatastore.yaml"]["formatters"]
    assert _classes(section) == set(formatters.FORMATTERS)


@pytest.mark.parametrize("name", formatters.FORMATTERS)
def test_extensions_are_the_references(name: str) -> None:
    pytest.importorskip("lsst.daf.butler")
    from lsst.utils.introspection import get_full_type_name

    module, _, cls = name.rpartition(".")
    try:
        theirs = getattr(importlib.import_module(module), cls)
    except ImportError:
        pytest.skip(f"{module} is not installed")
    mine = formatters.FORMATTERS[name]
    assert get_full_type_name(theirs) == (mine.recorded or name)
    formatter = object.__new__(theirs)
    formatter._write_parameters = {}
    assert formatter.get_write_extension() == mine.extension
    parameters = getattr(theirs, "supported_write_parameters", None) or ()
    assert ("format" in parameters) == (mine.formats is not None)
    for value, extension in (mine.formats or {}).items():
        formatter._write_parameters = {"format": value}
        assert formatter.get_write_extension() == extension


def test_default_is_no_fallback_formatter() -> None:
    world = universe.Universe.from_config({"skypix": {}, "elements": {}})
    with pytest.raises(errors.RefusedError, match="formatters: default"):
        formatters.FormatterMap({"default": "lsst.daf.butler.formatters.json.JsonFormatter"}, world)
