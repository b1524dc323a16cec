"""Storages that are files: each with the objects that it takes, all together or none."""

from __future__ import annotations

import pathlib
import types
from typing import Any

import numpy as np
import pytest
from aggregator.schemas import output_paths
from aggregator.stages import property_sets
from aggregator.stages.formatters import type_registry
from aggregator.storage import errors

from tests.helpers import stage_storages

place = stage_storages.place
PROPERTIES = property_sets.PropertySet({"str": "foo", "num": 42, "inner.x": 1.5})


def names(directory: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("storage", ["BoostStorage", "XmlStorage", "PafStorage"])
def test_property_set(tmp_path: pathlib.Path, storage: str) -> None:
    storages = stage_storages.Storages()
    where = place(storage, tmp_path / "new" / "file.any")
    storages.write(PROPERTIES, where)
    assert storages.read(where, type_name="PropertySet") == PROPERTIES
    read = storages.read(where, python_type=dict)
    assert type(read) is dict
    assert read["num"] == 42


def test_property_set_is_a_header(tmp_path: pathlib.Path) -> None:
    storages = stage_storages.Storages()
    where = place("FitsStorage", tmp_path / "file.fits")
    storages.write({"exptime": 30.0, "filter": "r", "good": True, "inner": {"name": 3}, "none": None}, where)
    values = {"EXPTIME": 30.0, "FILTER": "r", "GOOD": True, "INNER.NAME": 3, "NONE": None}
    assert storages.read(where, python_type=dict) == values


@pytest.mark.parametrize(
    ("storage", "value", "type_name"),
    [
        ("BoostStorage", [1, {"a": b"x"}], "Json"),
        ("XmlStorage", [1.5, None], "Json"),
        ("XmlStorage", "text\n", "Text"),
        ("BoostStorage", b"\x00", "Bytes"),
    ],
)
def test_plain_value(tmp_path: pathlib.Path, storage: str, value: Any, type_name: str) -> None:
    storages = stage_storages.Storages()
    storages.write(value, place(storage, tmp_path / "file"))
    assert storages.read(place(storage, tmp_path / "file"), type_name=type_name) == value
    assert storages.read(place(storage, tmp_path / "file"), python_type=type(value)) == value


def test_policy(tmp_path: pathlib.Path) -> None:
    storages, policy = stage_storages.Storages(), stage_storages.policy("a: {b: [1, 2], c: x}")
    for storage in ("PafStorage", "BoostStorage", "XmlStorage"):
        storages.write(policy, place(storage, tmp_path / storage))
        assert storages.read(place(storage, tmp_path / storage), type_name="Policy") == policy


@pytest.mark.parametrize("storage", ["FitsStorage", "BoostStorage", "XmlStorage", "PickleStorage"])
def test_array(tmp_path: pathlib.Path, storage: str) -> None:
    storages, array = stage_storages.Storages(), np.arange(6.0).reshape(2, 3)
    storages.write(array, place(storage, tmp_path / "file"))
    read = storages.read(place(storage, tmp_path / "file"), python_type=np.ndarray)
    assert np.array_equal(read, array)


def test_units_of_a_file(tmp_path: pathlib.Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    storages, path = stage_storages.Storages(), tmp_path / "a#b.fits"
    units = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((2, 2)), name="ONE")])
    storages.write(units, place("FitsStorage", path))
    assert np.array_equal(
        storages.read(place("FitsStorage", f"{path}#1"), type_name="NumpyArray"), units[1].data
    )
    assert storages.read(place("FitsStorage", f"{path}#1"), type_name="FitsUnits").name == "ONE"
    assert len(storages.read(place("FitsStorage", path), type_name="FitsUnits")) == 2
    for number, text in (("0", "has no data"), ("2", "only 2 units")):
        with pytest.raises(errors.RefusedError, match=text):
            storages.read(place("FitsStorage", f"{path}#{number}"), type_name="NumpyArray")
    with pytest.raises(errors.RefusedError, match="as a whole"):
        storages.write(units, place("FitsStorage", f"{path}#1"))


class Image:
    """What cameras make."""

    def __init__(self, data: Any, header: Any, mask: Any = None) -> None:
        self.data, self.header, self.mask = data, header, mask


# Classes that are no instances yet have no attributes of these.
Image.data = Image.header = None  # type: ignore[attr-defined]


def test_image_with_header(tmp_path: pathlib.Path) -> None:
    storages, where = stage_storages.Storages(), place("FitsStorage", tmp_path / "file.fits")
    storages.write(Image(np.ones((2, 2)), {"exptime": 30.0}), where)
    read = storages.read(where, python_type=Image)
    assert read.header["EXPTIME"] == 30.0
    assert np.array_equal(read.data, np.ones((2, 2)))
    with pytest.raises(errors.RefusedError, match="mask, which would be lost"):
        storages.write(Image(np.ones((2, 2)), {}, mask=np.ones((2, 2))), place("FitsStorage", tmp_path / "b"))


@pytest.mark.parametrize("storage", ["FitsStorage", "BoostStorage", "XmlStorage"])
@pytest.mark.parametrize("kind", ["astropy.table.Table", "pyarrow.Table"])
def test_table(tmp_path: pathlib.Path, storage: str, kind: str) -> None:
    module, _, name = kind.rpartition(".")
    table_class = getattr(pytest.importorskip(module), name)
    columns = {"visit": [1, 2], "median": [1.5, 2.5]}
    table = (
        table_class(columns) if name == "Table" and "astropy" in kind else table_class.from_pydict(columns)
    )
    storages, where = stage_storages.Storages(), place(storage, tmp_path / "file")
    storages.write(table, where)
    read = storages.read(where, python_type=table_class)
    assert type(read) is table_class
    assert list(read["median"].tolist() if "astropy" in kind else read["median"].to_pylist()) == [1.5, 2.5]


@pytest.mark.parametrize(
    ("storage", "value", "type_name", "text"),
    [
        ("XmlStorage", [1], "PropertySet", "it is of type list, and has to be a mapping"),
        ("XmlStorage", 1, "Text", "has to be str"),
        ("BoostStorage", "x", "Bytes", "has to be bytes"),
        ("FitsStorage", [1], "NumpyArray", "has to be a NumPy array"),
        ("BoostStorage", 1, "AstropyTable", "has to be a table"),
        ("XmlStorage", 1, "Strange", "no formatter for type 'Strange'"),
    ],
)
def test_items_of_another_type(
    tmp_path: pathlib.Path, storage: str, value: Any, type_name: str, text: str
) -> None:
    with pytest.raises(errors.RefusedError, match=text):
        stage_storages.Storages().write(value, place(storage, tmp_path / "file"), type_name=type_name)
    assert names(tmp_path) == []


def test_contents_of_another_type(tmp_path: pathlib.Path) -> None:
    storages, where = stage_storages.Storages(), place("XmlStorage", tmp_path / "file")
    storages.write([1], where)
    with pytest.raises(errors.RefusedError, match="there is a list in place of a mapping"):
        storages.read(where, type_name="PropertySet")


def test_pickles_are_for_those_who_ask(tmp_path: pathlib.Path) -> None:
    storages, where = stage_storages.Storages(), place("PickleStorage", tmp_path / "file")
    with pytest.raises(errors.RefusedError, match="NumPy array"):
        storages.write({"a": 1}, where)
    settings = "PickleStorage: {allow: true}"
    storages.write({"a": 1}, where, settings=settings)
    assert storages.read(where, type_name="PropertySet", settings=settings) == {"a": 1}
    with pytest.raises(errors.RefusedError, match="can't be read by PickleStorage"):
        storages.read(where, type_name="PropertySet")


def test_further_storages_update(tmp_path: pathlib.Path) -> None:
    storages = stage_storages.Storages()
    first, second = place("BoostStorage", tmp_path / "a"), place("XmlStorage", tmp_path / "b")
    storages.write({"a": 1, "b": 1}, first)
    storages.write({"b": 2}, second)
    assert storages.read(first, second, python_type=dict) == {"a": 1, "b": 2}
    storages.write("text", place("XmlStorage", tmp_path / "c"))
    with pytest.raises(errors.RefusedError, match="several storages"):
        storages.read(place("XmlStorage", tmp_path / "c"), second, type_name="Text")


@pytest.mark.ordering("P3")
@pytest.mark.parametrize("fails", ["XmlStorage", "BoostStorage"])
def test_all_or_nothing(tmp_path: pathlib.Path, fails: str) -> None:
    (tmp_path / fails).write_bytes(b"somebody's")
    places = [place(name, tmp_path / name) for name in ("BoostStorage", "XmlStorage", "PafStorage")]
    with pytest.raises(errors.RefusedError, match="is there already"):
        stage_storages.Storages().write({"a": 1}, *places)
    assert names(tmp_path) == [fails]
    assert (tmp_path / fails).read_bytes() == b"somebody's"


def test_what_is_replaced_comes_back_if_another_storage_fails(tmp_path: pathlib.Path) -> None:
    storages = stage_storages.Storages()
    storages.write({"a": "old"}, place("XmlStorage", tmp_path / "a"))
    before = (tmp_path / "a").read_bytes()
    storages.write({"a": 1}, place("BoostStorage", tmp_path / "b"))
    settings = "XmlStorage: {overwrite: true}"
    # Only in the end it shows that the second one can't be written.
    second = place("BoostStorage", tmp_path / "new" / "c")

    def comes_in_between() -> None:
        (tmp_path / "new" / "c").write_bytes(b"faster")

    storages.registry, registry = _Hooked(storages.registry, comes_in_between), storages.registry  # type: ignore[assignment]
    with pytest.raises(errors.RefusedError, match="is there already"):
        storages.write({"a": "new"}, place("XmlStorage", tmp_path / "a"), second, settings=settings)
    assert (tmp_path / "a").read_bytes() == before
    assert names(tmp_path) == ["a", "b", "new/c"]
    storages.registry = registry
    storages.write({"a": "new"}, place("XmlStorage", tmp_path / "a"), settings=settings)
    assert storages.read(place("XmlStorage", tmp_path / "a"), python_type=dict) == {"a": "new"}
    assert names(tmp_path) == ["a", "b", "new/c"]


class _Hooked:
    """A registry of storages in which something happens when all are ready."""

    def __init__(self, registry: Any, hook: Any) -> None:
        self._registry, self._hook = registry, hook

    def storage(self, where: Any, settings: Any, *, writes: bool) -> Any:
        made = self._registry.storage(where, settings, writes=writes)
        made.prepare = lambda: self._hook() if where.storage == "BoostStorage" else None
        return made

    def formatter(self, *arguments: Any) -> Any:
        return self._registry.formatter(*arguments)


@pytest.mark.ordering("P2")
def test_only_products_are_replaced(tmp_path: pathlib.Path) -> None:
    settings = "XmlStorage: {overwrite: true}"
    (tmp_path / "letter").write_text("Dear reader")
    with pytest.raises(errors.RefusedError, match="no product of a stage"):
        stage_storages.Storages().write({}, place("XmlStorage", tmp_path / "letter"), settings=settings)
    (tmp_path / "sub").mkdir()
    with pytest.raises(errors.RefusedError, match="directory"):
        stage_storages.Storages().write({}, place("XmlStorage", tmp_path / "sub"), settings=settings)
    protection = output_paths.Protection(directories={str(tmp_path): "where datasets are"})
    with pytest.raises(errors.RefusedError, match="where datasets are"):
        stage_storages.Storages(protection).write({}, place("XmlStorage", tmp_path / "new"))
    assert names(tmp_path) == ["letter"]


def test_what_is_kept(tmp_path: pathlib.Path) -> None:
    storages = stage_storages.Storages(keeps=True)
    first, second = place("XmlStorage", tmp_path / "a"), place("BoostStorage", tmp_path / "b")
    assert not storages.is_there(first)
    storages.write({"a": 1}, first)
    assert storages.is_there(first)
    storages.write({"a": 2}, first, second)
    assert storages.read(first, python_type=dict) == {"a": 1}
    assert storages.read(second, python_type=dict) == {"a": 2}
    storages.write({"a": 3}, first, settings="XmlStorage: {overwrite: true}")
    assert storages.read(first, python_type=dict) == {"a": 3}


@pytest.mark.ordering("P4")
def test_another_process_is_faster(tmp_path: pathlib.Path) -> None:
    """What it has written stays; nothing else of the item fails because of that."""
    storages = stage_storages.Storages(keeps=True)

    def comes_in_between() -> None:
        (tmp_path / "a").write_bytes(b"faster")

    storages.registry = _Hooked(storages.registry, comes_in_between)  # type: ignore[assignment]
    storages.write({"a": 1}, place("BoostStorage", tmp_path / "a"), place("XmlStorage", tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == b"faster"
    assert names(tmp_path) == ["a", "b"]
    # What is no file is not kept.
    (tmp_path / "c").mkdir()
    with pytest.raises(errors.RefusedError, match="c: is"):
        storages.write({"a": 1}, place("BoostStorage", tmp_path / "c"))


@pytest.mark.parametrize(
    ("storage", "value", "text"),
    [
        (
            "ArchiveStorage",
            {},
            "policy.yaml:3: storage: there is no 'ArchiveStorage'; there are FitsStorage, ",
        ),
        ("PafStorage", np.ones(2), "no formatter for type 'NumpyArray' in PafStorage"),
        ("BoostStorage", object(), "no formatter for type 'builtins.object' in BoostStorage"),
        ("XmlStorage", {"a": {1, 2}}, "a is of type set"),
        ("FitsStorage", {"a": [1]}, "a is a list, which a FITS header can't have"),
        ("PafStorage", {"a": "'\""}, "both kinds of quotes"),
        ("FitsStorage", types.SimpleNamespace(), "no formatter for type 'types.SimpleNamespace'"),
    ],
)
def test_what_is_refused(tmp_path: pathlib.Path, storage: str, value: Any, text: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        stage_storages.Storages().write(value, place(storage, tmp_path / "file"))
    assert text in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "storage", ["FitsStorage", "BoostStorage", "XmlStorage", "PafStorage", "PickleStorage"]
)
def test_files_that_can_not_be_read(tmp_path: pathlib.Path, storage: str) -> None:
    with pytest.raises(errors.RefusedError, match="there is no such file"):
        stage_storages.Storages().read(
            place(storage, tmp_path / "none"), type_name="NumpyArray" if "F" in storage else "PropertySet"
        )
    (tmp_path / "file").write_bytes(b"garbage\x00: {")
    with pytest.raises(errors.AggregatorError, match="file"):
        stage_storages.Storages().read(place(storage, tmp_path / "file"), type_name="PropertySet")


def test_uri_is_only_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.RefusedError, match="by a path only"):
        stage_storages.Storages().write({}, place("XmlStorage", "s3://bucket/file"))


class Added:
    """A formatter of another distribution."""

    type_name = "Angle"
    python_types = ("tests.unit.stages.test_file_storages.Angle",)
    storages = ("XmlStorage",)

    def __init__(self, python_type: Any, settings: Any) -> None:
        self._unit = settings.get("unit", "deg")

    def write(self, item: Any, storage: Any, data: Any) -> None:
        storage.put({self._unit: item.value}, self.type_name)

    def read(self, storage: Any, data: Any) -> Any:
        return Angle(storage.get()[self._unit])


class Angle:
    """An object that nobody here knows."""

    def __init__(self, value: float) -> None:
        self.value = value


class _EntryPoint:
    name, value = "angle", "somewhere:Added"

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def load(self) -> Any:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def _add(monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    type_registry.additions.cache_clear()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [_EntryPoint(loaded)])


def test_formatter_that_another_distribution_adds(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(monkeypatch, Added)
    try:
        storages, where = stage_storages.Storages(), place("XmlStorage", tmp_path / "file")
        storages.write(Angle(3.0), where)
        assert storages.read(where, type_name="Angle").value == 3.0
        with pytest.raises(errors.RefusedError, match="type 'Angle' in BoostStorage"):
            storages.write(Angle(3.0), place("BoostStorage", tmp_path / "other"))
        _add(monkeypatch, ImportError("nothing there"))
        with pytest.raises(errors.RefusedError, match=r"angle \(somewhere:Added\) can't be imported"):
            storages.write({}, place("XmlStorage", tmp_path / "third"))
    finally:
        type_registry.additions.cache_clear()
