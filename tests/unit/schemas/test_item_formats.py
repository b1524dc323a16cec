"""Archives, JSON documents and lines of text: what goes in comes out; what is something else is refused."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from aggregator.schemas import item_archives, item_documents, tsv_rows, typed_values
from aggregator.storage import errors

FORMATS = pytest.mark.parametrize("module", [item_archives, item_documents])
VALUES: list[Any] = [
    None,
    True,
    0,
    -(10**30),
    2**64,
    1.5,
    -0.0,
    math.inf,
    "",
    'tab\t, quote ", null \0, wide \U0001f600',
    b"\x00\xff",
    [],
    [1, [2.0, None]],
    {},
    {"a": {"b.c": 1}},
    {1: "one", None: 2, (b"x"): 3},
    {typed_values.MARK: "not a mark"},
    {typed_values.MARK: ["float", "1"]},
]
ARRAYS = [
    np.arange(6, dtype="<i2").reshape(2, 3).T,
    np.zeros((0, 3)),
    np.array(1.5),
    np.array([(1.0, [2, 3])], dtype=[("x", ">f8"), ("y", "i4", (2,))]),
    np.array(["a", "bc"]),
    np.array(["2026-12-01"], dtype="M8[D]"),
]


@FORMATS
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value(module: ModuleType, value: Any) -> None:
    name, read = module.decode(module.encode("Some", value), "file")
    assert (name, read) == ("Some", value)
    assert type(read) is type(value)


@FORMATS
def test_not_a_number(module: ModuleType) -> None:
    assert math.isnan(module.decode(module.encode("Some", {"x": math.nan}), "file")[1]["x"])


@FORMATS
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_array(module: ModuleType, array: Any) -> None:
    read = module.decode(module.encode("Some", [array]), "file")[1][0]
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    assert np.array_equal(read, array)


@FORMATS
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [{"b": object()}]}, "a[0].b is of type object"),
        (np.array([None]), "array of object"),
        (np.ma.array([1.0]), "MaskedArray"),
    ],
)
def test_what_has_no_place(module: ModuleType, value: Any, text: str) -> None:
    with pytest.raises(typed_values.ValueProblem) as caught:
        module.encode("Some", value)
    assert text in str(caught.value)


@FORMATS
def test_circle(module: ModuleType) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(typed_values.ValueProblem, match="too deeply"):
        module.encode("Some", value)


@FORMATS
def test_any_cut_and_any_flipped_byte(module: ModuleType) -> None:
    data = module.encode("Some", {"a": [1, b"xyz"]})
    ends = range(len(data) - 1) if module is item_documents else range(len(data))
    for end in ends:
        with pytest.raises(errors.FormatError):
            module.decode(data[:end], "file")
    if module is item_archives:
        for place in range(len(data)):
            wrong = bytearray(data)
            wrong[place] ^= 1
            with pytest.raises(errors.FormatError):
                module.decode(bytes(wrong), "file")


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b'{"format":"other","version":1,"type":"","value":1}',
        b'{"format":"aggregator-item","version":2,"type":"","value":1}',
        b'{"format":"aggregator-item","version":1,"type":"","value":{"$type":["strange",1]}}',
        b'{"format":"aggregator-item","version":1,"type":"","value":{"$type":["array","AAAA"]}}',
        b'{"format":"aggregator-item","version":1,"type":"","value":{"$type":3}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_documents_of_others(text: bytes) -> None:
    with pytest.raises(errors.FormatError, match="file"):
        item_documents.decode(text, "file")


def test_archive_of_boost() -> None:
    with pytest.raises(errors.FormatError, match="made by Boost"):
        item_archives.decode(b"22 serialization::archive 5 0 0", "file")


def test_rows() -> None:
    values = [1, "a\tb\\n\n\r", None, True, b"\x01\\", 1.5, r"\N", ""]
    line = tsv_rows.encode(values)
    assert line.count(b"\n") == 1
    assert tsv_rows.decode(line) == ["1", "a\tb\\n\n\r", None, "1", "\\x015c", "1.5", r"\N", ""]
    with pytest.raises(ValueError, match="cut off"):
        tsv_rows.decode(line[:-1])
