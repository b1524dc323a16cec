"""Formats of datasets as far as they need no reference: what is refused, and what only this project reads."""

from __future__ import annotations

import builtins
import importlib.metadata
import io
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import astropy.io.fits
import astropy.table
import numpy as np
import pytest
from aggregator.butler import formatting
from aggregator.butler.datastores import formatters, lookup_keys
from aggregator.butler.dimensions import universe
from aggregator.butler.formatting import choices, file_formats, pickles, text_files
from aggregator.storage import errors


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [np.eye(3), np.arange(5, dtype=">i2"), np.array(["a"]), np.zeros(3, dtype=[("a", "i4"), ("b", "f8", 2)])],
    ids=str,
)
def test_arrays_of_all_protocols(array: Any, protocol: int) -> None:
    data = pickle.dumps(array, protocol=protocol)
    value = choices.choose("NumpyArray", ".pickle").decode(data, {})
    assert value.dtype == pickle.loads(data).dtype
    assert repr(value) == repr(pickle.loads(data))


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it is run",)


@pytest.mark.parametrize(
    "value",
    [_Trap(), np.array([_Trap()], dtype=object), print, io.BytesIO(), object],
    ids=["object", "array", "function", "stream", "class"],
)
def test_other_pickles_are_never_run(value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = pickle.dumps(value)
    with pytest.raises(file_formats.FormatError, match="no part of a NumPy array"):
        choices.choose("NumpyArray", ".pickle").decode(data, {})
    with pytest.raises(file_formats.FormatError, match="unpickle=True"):
        choices.choose("SkyMap", ".pickle").decode(data, {})
    assert capsys.readouterr().out == ""


def test_the_name_of_a_part_is_not_enough() -> None:
    # `STACK_GLOBAL` looks dotted names up as attributes.
    data = b"\x80\x04\x8c\x05numpy\x8c\x13dtype.__class__.mro\x93."
    with pytest.raises(file_formats.FormatError, match=r"dtype\.__class__"):
        choices.choose("NumpyArray", ".pickle").decode(data, {})


@pytest.mark.parametrize("value", [[1], {"a": 1}, "text"], ids=str)
def test_an_array_is_an_array(value: Any) -> None:
    chosen = choices.choose("NumpyArray", ".pickle")
    with pytest.raises(file_formats.FormatError, match="in place of a NumPy array"):
        chosen.decode(pickle.dumps(value), {})
    with pytest.raises(TypeError):
        chosen.encode(value, {})


def test_an_array_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(file_formats.FormatError):
        choices.choose("NumpyArray", ".pickle").encode(np.array([_Trap()], dtype=object), {})


def test_pickles_for_those_who_ask() -> None:
    chosen = choices.choose("SkyMap", ".pickle", unpickle=True)
    assert chosen.decode(chosen.encode({1: {2}}, {}), {}) == {1: {2}}
    # Nobody needs that for arrays.
    assert isinstance(choices.choose("NumpyArray", ".pickle", unpickle=True), pickles.ArrayFormat)


@pytest.mark.parametrize(
    ("storage_class", "extension", "value", "data"),
    [
        ("ObjectMaskCatalog", ".reg", "circle é", "circle é".encode()),
        ("Config", ".py", "config.a = 1\n", b"config.a = 1\n"),
        ("SSPAuxiliaryFile", "", b"\0\xff", b"\0\xff"),
        ("Plot", ".png", b"\x89PNG", b"\x89PNG"),
        ("ButlerLogRecords", ".json", {"records": [], "x": 1}, b'{"records":[],"x":1}'),
        ("Packages", ".json", {"a": "1"}, b'{"a": "1"}'),
    ],
)
def test_texts_and_bytes(storage_class: str, extension: str, value: Any, data: bytes) -> None:
    chosen = choices.choose(storage_class, extension)
    assert chosen.encode(value, {}) == data
    assert chosen.decode(data, {}) == value


@pytest.mark.parametrize(
    ("chosen", "value"),
    [(text_files.TextFormat(), b"a"), (text_files.BytesFormat(), "a")],
    ids=["text", "bytes"],
)
def test_a_text_is_no_bytes(chosen: file_formats.Format, value: Any) -> None:
    with pytest.raises(TypeError, match="has to be"):
        chosen.encode(value, {})


def test_a_figure_draws_itself() -> None:
    class Figure:
        def savefig(self, stream: Any, format: str) -> None:
            stream.write(format.encode())

    assert choices.choose("Plot", ".png").encode(Figure(), {}) == b"png"


@pytest.mark.parametrize(
    "data", [b'[{"message": "a"}]', b'{"message": "a"}\n', b'{"records": [{"message": "a"}]}']
)
def test_logs_of_all_ages(data: bytes) -> None:
    assert choices.choose("ButlerLogRecords", ".json").decode(data, {}) == {"records": [{"message": "a"}]}


def test_fits_files() -> None:
    chosen = choices.choose("ImageF", ".fits")
    image = np.arange(6, dtype="f4").reshape(2, 3)
    read = chosen.decode(chosen.encode(image, {}), {})
    assert read[0].data.tolist() == image.tolist()
    read[0].header["NOTE"] = "kept"
    for value in (read, read[0]):
        again = chosen.decode(chosen.encode(value, {}), {})
        assert again[0].header["NOTE"] == "kept"
        assert again[0].data.tolist() == image.tolist()
    table = astropy.table.Table({"x": [1.0, 2.0]})
    for value in (table, table.as_array(), astropy.io.fits.BinTableHDU(table)):
        assert chosen.decode(chosen.encode(value, {}), {})[1].data["x"].tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="has to be an image"):
        chosen.encode({"a": 1}, {})
    with pytest.raises(OSError, match="FITS"):
        chosen.decode(b"no FITS file", {})


@pytest.fixture
def fresh_choices() -> Iterator[None]:
    caches = choices.additions, choices._from_library
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("fresh_choices")
@pytest.mark.parametrize(("extension", "library"), [(".parq", "pyarrow"), (".ecsv", "astropy")])
def test_a_library_is_missing(monkeypatch: pytest.MonkeyPatch, extension: str, library: str) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return real(name, *args, **kwargs)

    for name in ("astropy_files", "parquet_files"):
        monkeypatch.delattr(formatting, name, raising=False)
    for name in list(sys.modules):
        if name.startswith(("aggregator.butler.formatting.", library)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(errors.RefusedError, match=f"need {library}.*'formats'"):
        choices.choose("ArrowTable", extension)


class _Doubled(text_files.TextFormat):
    def encode(self, value: Any, provenance: Any) -> bytes:
        return super().encode(value * 2, provenance)


ADDITION = file_formats.Addition("my.Formatter", ".twice", frozenset({"Twice"}), _Doubled())


@pytest.mark.usefixtures("fresh_choices")
def test_others_add_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("twice", f"{__name__}:ADDITION", choices.GROUP)
    given = {choices.GROUP: [point]}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: given[group])
    assert choices.choose("Twice", ".twice").encode("a", {}) == b"aa"
    assert choices.choose("Twice", ".txt").encode("a", {}) == b"a"
    section = {"Twice": "my.Formatter", "Once": "your.Formatter"}
    chosen = formatters.FormatterMap(section, universe.Universe(0, "none", []))
    assert chosen.choose([lookup_keys.Key("Twice")]) == ("my.Formatter", ".twice")
    with pytest.raises(errors.RefusedError, match="entry point"):
        chosen.choose([lookup_keys.Key("Once")])
