"""Locations: the formats as Boost.Format has them, kept as data, and all else of stages.md section 5."""

from __future__ import annotations

import contextlib
import pathlib
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.stages import int_formats, locations
from aggregator.storage import errors

BOOST = [
    *((form, 7, "7") for form in ("%d", "%i", "%u", "%s", "%c", "%e", "%f", "%.2f", "%1%", "%lld", "%*d")),
    ("%03d", 7, "007"),
    ("%3d", 7, "  7"),
    ("%-5d|", 7, "7    |"),
    ("%+d", 7, "+7"),
    ("% d", 7, " 7"),
    ("%_05d", 7, "00007"),
    ("%1$05d", 7, "00007"),
    ("%|05|", 7, "00007"),
    ("%x", 123456, "1e240"),
    ("%X", 123456, "1E240"),
    ("%#x", 123456, "0x1e240"),
    ("%o", 123456, "361100"),
    ("%05d", -42, "-0042"),
    ("%u", -42, "-42"),
    ("%=9d|", 7, "    7    |"),
]
"""Format, int, and what Boost.Format 1.74 makes of them."""


@pytest.fixture(autouse=True)
def _no_map() -> Iterator[None]:
    locations.set_map(None)
    yield
    locations.set_map(None)


def refusal(text: str, data: dict[str, Any]) -> str:
    with pytest.raises(errors.RefusedError) as caught:
        locations.expand(text, data)
    return str(caught.value)


@pytest.mark.parametrize(("form", "value", "expected"), BOOST)
def test_ints_are_formatted_as_by_boost(form: str, value: int, expected: str) -> None:
    ending = "|" if form.endswith("d|") else ""
    if not ending:
        assert locations.expand(f"{form}(v)", {"v": value}) == expected
    # What stands between a format and its key is part of the format.
    assert locations.expand(f"a/{form}(v)/b", {"v": value}) == f"a/{expected}/b"


def test_any_format_is_understood_as_by_boost() -> None:
    """Random formats, with what Boost.Format 1.74 made of them, or that it refused them."""
    lines = (pathlib.Path(__file__).parent / "boost_formats.tsv").read_text().splitlines()
    assert len(lines) == 500
    for line in lines:
        form, value, expected = line.split("\t")
        try:
            text = "=" + int_formats.int_text(form, int(value))
        except int_formats.FormatError:
            text = "!"
        assert text == expected, line


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("%c", 42, "42"),
        ("%.1s", 42, "42"),
        ("%x", -42, "ffffffd6"),
        ("%x", -(2**40), "ffffff0000000000"),
        ("%#o", 8, "010"),
        ("%#x", 0, "0"),
        ("%#010x", 255, "0x000000ff"),
        ("%05d", 2026010500001, "2026010500001"),
        ("%_6d", -42, "-   42"),
        ("% 05d", 7, "00007"),
        ("% -5d|", 7, " 7   |"),
        ("% x", 255, " ff"),
        ("%+x", 255, "ff"),
        ("% #x", 255, " 0xff"),
        ("%_#6o", 8, "   010"),
        ("%_#6x", 255, "0x  ff"),
        ("%-=5d|", 7, "  7  |"),
        ("%=04d", 7, "0007"),
        ("%-05d", 7, "7    "),
        ("%=4d", 7, "  7 "),
        ("%|5d|", 7, "    7"),
        ("%hd", 7, "7"),
        ("%1%-%1%", 7, "7-7"),
        ("%%%d", 7, "%7"),
        ("%1000d", 7, "7".rjust(1000)),
    ],
)
def test_other_formats_of_ints(form: str, value: int, expected: str) -> None:
    assert locations.expand(f"{form}(v)", {"v": value}) == expected


@pytest.mark.parametrize("form", ["%q", "%5", "%|5d", "%t", "%n", "%*5d", "%l d"])
def test_ill_formed(form: str) -> None:
    text = f"a/{form}(v)"
    assert refusal(text, {"v": 7}) == f"{text}: '{form}(v)': the format is ill-formed."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%%(v)", "the format does not use the value; '%%' is a mere per cent sign."),
        ("%d %d(v)", "the format refers to more values than one."),
        ("%2%(v)", "the format refers to more values than one."),
        ("%1%%d(v)", "the format has values with and without numbers."),
        ("%1001d(v)", "has a width or precision of more than 1000."),
        ("%.99999999999d(v)", "has a width or precision of more than 1000."),
    ],
)
def test_formats_that_are_not_of_one_value(text: str, message: str) -> None:
    assert message in refusal(text, {"v": 7})


@pytest.mark.parametrize("text", ["100%-%(v)", "50%/%03d(v)", "a%b/%(v)"])
@pytest.mark.parametrize("value", [7, "x"])
def test_a_lone_percent_sign_is_an_error_that_says_so(text: str, value: int | str) -> None:
    assert "a per cent sign before a placeholder belongs to it" in refusal(text, {"v": value})


@pytest.mark.parametrize(
    "text", ["x(v)", "plain", "%", "%(a-b)", "%( v)", "", "%()", "%d\n(v)", "50%", "(v)%"]
)
def test_text_without_placeholder_is_unchanged(text: str) -> None:
    assert locations.expand(text, {}) == text


@pytest.mark.parametrize(
    ("text", "values", "data", "expected"),
    [
        ("%(foo)%(x)%(y)", {"foo": "bar", "x": 3}, {"foo": "baz", "y": 2009}, "bar32009"),
        ("yy%04d(x)yy", {"x": 3}, {}, "yy0003yy"),
        ("%(foo)%3d(y)", {}, {"foo": "baz", "y": 2009}, "baz2009"),
        (
            "/lsst/images/%(visitId)/difference1.%03d(sliceId)",
            {},
            {"visitId": "fov391", "sliceId": 7},
            "/lsst/images/fov391/difference1.007",
        ),
        ("%03d(s)", {}, {"s": "x"}, "x"),
        ("%q(s)", {}, {"s": "x"}, "x"),
        ("%1%(s)", {}, {"s": "x"}, "x"),
        ("%(s)", {}, {"s": "%(v)"}, "%(v)"),
    ],
)
def test_values_are_put_in(text: str, values: Any, data: Any, expected: str) -> None:
    locations.set_map(values)
    assert locations.expand(text, data) == expected


def test_the_map_is_copied_and_cleared() -> None:
    values = {"a": 1}
    locations.set_map(values)
    values["a"] = 2
    assert locations.expand("%(a)", {}) == "1"
    locations.current_map()["a"] = 3
    assert locations.expand("%(a)", {"a": 4}) == "1"
    locations.set_map(None)
    assert refusal("x%(a)", {}).startswith("x%(a): Unknown substitution: a.")


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("%", 0.1, "0.1"),
        ("%", 1e300, "1e+300"),
        ("%.2f", 3.14159, "3.14"),
        ("%08.3e", 1234.5, "1.234e+03"),
        ("%+g", 2.0, "+2"),
        ("%-8G", 1e-10, "1E-10   "),
    ],
)
def test_floats_are_formatted_as_in_c(form: str, value: float, expected: str) -> None:
    assert locations.expand(f"{form}(v)", {"v": value}) == expected


@pytest.mark.parametrize("form", ["%d", "%1%", "%.2f-", "%%"])
def test_other_formats_of_floats_are_refused(form: str) -> None:
    assert "is no format of a float; use '%' alone" in refusal(f"{form}(v)", {"v": 1.5})


@pytest.mark.parametrize("value", [True, b"x", [1], None, {"a": 1}])
def test_other_values_are_refused_with_key_and_type(value: Any) -> None:
    name = type(value).__name__
    assert f"v is a {name}; only ints, floats and strings" in refusal("%03d(v)", {"v": value})


def test_numbers_of_numpy_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    data = {"i": numpy.int64(7), "f": numpy.float64(0.5), "s": numpy.str_("x")}
    assert locations.expand("%03d(i)-%(f)-%(s)", data) == "007-0.5-x"


def test_placeholders_are_those_of_the_pattern() -> None:
    """Any text has the placeholders that the regular expression of 2010 finds in it."""
    draw = random.Random(20103)
    pattern = re.compile(r"(%.*?)\((\w+?)\)")
    for _ in range(3000):
        text = "".join(
            draw.choices(["%", "(", ")", "a", "b)", "(a)", "\n", "0", "d", "-"], k=draw.randrange(20))
        )
        found = [(match[1], match[2]) for match in pattern.finditer(text)]
        assert [(form, key) for _, form, key, _ in locations.placeholders(text)] == found, text


def test_widths_are_those_of_python() -> None:
    """Any flags and width, as far as both languages mean the same by them."""
    draw = random.Random(20104)
    for _ in range(2000):
        value = draw.randrange(-(10**6), 10**6)
        flags = draw.choice(["", "-", "+", " ", "0", "-+", "- ", "-0", "+0", "+ ", "-+0", "- 0"])
        form = f"%{flags}{draw.randrange(1, 12)}d"
        assert int_formats.int_text(form, value) == form % value, (form, value)


@pytest.mark.parametrize(
    "text",
    [
        "%" * 200_000,
        "%" + "l" * 200_000 + "(v)",
        "%" + "9" * 200_000 + "(v)",
        "(v)" * 100_000,
        "%d" * 100_000 + "(v)",
        "%(" * 100_000,
        "%(v)" * 50_000,
        "%1%" * 50_000 + "(v)",
    ],
)
def test_long_locations_take_no_long_time(text: str) -> None:
    start = time.process_time()
    with contextlib.suppress(errors.RefusedError):
        locations.expand(text, {"v": 7})
    assert time.process_time() - start < 60
