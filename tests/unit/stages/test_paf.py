"""PAF: one test for each line of stages.md section 2.2, and what is written is read back."""

from __future__ import annotations

import random
import time
from typing import Any

import hypothesis
import pytest
from aggregator.stages.policies import paf, policy, yaml_policies
from aggregator.storage import errors
from hypothesis import strategies


def parsed(text: str) -> policy.Policy:
    result = policy.Policy(policy.Origin("a.paf"))
    paf.parse(text, result)
    return result


def refusal(text: str) -> str:
    """Return why a text is refused; nothing if it is not."""
    try:
        parsed(text)
    except errors.RefusedError as exc:
        return str(exc)
    return ""


def document(text: str) -> dict[str, Any]:
    return yaml_policies.document(parsed(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1 2 3 # c", {"a": [1, 2, 3]}),
        ("a: .5 1e3", {"a": [0.5, 1000.0]}),
        ("a: 1.", {"a": 1.0}),
        ("a: +5 -6", {"a": [5, -6]}),
        ("a: -2147483648 2147483647", {"a": [-(2**31), 2**31 - 1]}),
        ("a: True", {"a": True}),
        ("a: true False false", {"a": [True, False, False]}),
        ("a: TRUE", {"a": "TRUE"}),
        ("a: yes", {"a": "yes"}),
        ("a: tru", {"a": "tru"}),
        ("a: nan", {"a": "nan"}),
        ("a: foo bar baz # c", {"a": "foo bar baz"}),
        ("a: \"x\" 'y'", {"a": ["x", "y"]}),
        ('a: "it\'s"', {"a": "it's"}),
        ("a: 'say \"x\"'", {"a": 'say "x"'}),
        ('a: "x#y"', {"a": "x#y"}),
        ('a: "x}y"', {"a": "x}y"}),
        ('a: ""', {"a": ""}),
        ("a: x#y", {"a": "x"}),
        ('a: "multi\n   line\n  text"', {"a": "multi line text"}),
        ('a: "\n  one\n"', {"a": " one "}),
        ("a: 'x\n y' \"z\" # c", {"a": ["x y", "z"]}),
        ("a: {b: 1}", {"a": {"b": 1}}),
        ("a: { b: foo }", {"a": {"b": "foo"}}),
        ("a: {b: x}\nc: 1", {"a": {"b": "x"}, "c": 1}),
        ("a: {}", {"a": {}}),
        ("a: {  # c\n  b: 1\n}  # d", {"a": {"b": 1}}),
        ("a: {b: {c: 1}} d: 2", {"a": {"b": {"c": 1}}, "d": 2}),
        ("a.b: 1\na.c: 2", {"a": {"b": 1, "c": 2}}),
        ("a: 1\na: 2", {"a": [1, 2]}),
        ("a: {b: 1}\na: {b: 2}", {"a": [{"b": 1}, {"b": 2}]}),
        ("1a: 2", {"1a": 2}),
        ("_a: 2", {"_a": 2}),
        ("é: 1", {"é": 1}),
        ("a : 1", {"a": 1}),
        ("a:", {}),
        ("a: # c", {}),
        ("a: {b: }\nc: 1", {"a": {}, "c": 1}),
        (
            "location: %(output)/PS-%(field)-v%(visit).boost",
            {"location": "%(output)/PS-%(field)-v%(visit).boost"},
        ),
        ("\n  # c\n\ta: 1\r\n", {"a": 1}),
    ],
)
def test_text_is_understood(text: str, expected: dict[str, Any]) -> None:
    result = document(text)
    assert repr(result) == repr(expected)
    assert list(result) == list(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1 2.0", "a.paf:1: a: '.0' follows int '2' without a space."),
        ("a: 1.0 2", "a.paf:1: a: expected another double or the end, found '2'."),
        ("a: 3, 4", "a.paf:1: a: ', 4' follows int '3' without a space."),
        ("a: 1abc", "a.paf:1: a: 'abc' follows int '1' without a space."),
        ("a: 12:30", "a.paf:1: a: ':30' follows int '12' without a space."),
        ("a: 2010-04-22", "a.paf:1: a: '-04-22' follows int '2010' without a space."),
        ("a: 1.5.3", "a.paf:1: a: '.3' follows double '1.5' without a space."),
        ("a: 99999999999", "a.paf:1: a: '99999999999' has more than 32 bits"),
        ("a: 2147483648", "a.paf:1: a: '2147483648' has more than 32 bits"),
        ("a: 1.0e999", "a.paf:1: a: '1.0e999' is too large."),
        ("a: truely", "a.paf:1: a: 'ly' follows bool 'true' without a space."),
        ("a: true yes", "a.paf:1: a: expected another bool or the end, found 'yes'."),
        ('a: "x" y', "a.paf:1: a: expected another quoted string or the end, found 'y'."),
        ("a: x}y", "a.paf:1: '}' without a '{' before it."),
        ("b: 1\n}", "a.paf:2: '}' without a '{' before it."),
        ("a: { b: 1 c: 2 }", "a.paf:1: a.b: expected another int or the end, found 'c: 2 }'."),
        ("a: 1\na: x", "a.paf:2: a: a string can't follow the int of a.paf:1."),
        ("a: {b: 1}\na: 5", "a.paf:2: a: a int can't follow the policy of a.paf:1."),
        ("a: 1\na.b: 2", "a.paf:2: a: is a int and no policy."),
        ("a-b: 2", "a.paf:1: expected 'name: value', found 'a-b: 2'."),
        (". : 1", "a.paf:1: expected 'name: value', found '. : 1'."),
        ("a..b: 1", "a.paf:1: 'a..b': is no name"),
        ("a.: 1", "a.paf:1: 'a.': is no name"),
        ("nonsense", "a.paf:1: expected 'name: value', found 'nonsense'."),
        ("a: 1\nb: {\n  c: {\n    d: 1\n  }\n", "a.paf:2: b: the file ends before the '}' of this '{'."),
        ("a: {\n  b: {\n    c: 1\n", "a.paf:1: a: the file ends before the '}' of this '{'."),
        ('a: {\n b: "x\n}\n', "a.paf:2: a.b: the file ends in this quoted string."),
        ("a: @urn:eupspkg:pkg:path.paf", "a.paf:1: a: @urn:eupspkg:pkg:path.paf names a file of an EUPS"),
        ("a: @@pkg:path.paf", "a.paf:1: a: @@pkg:path.paf names a file of an EUPS package"),
        ("a: @", "a.paf:1: a: '@' without the path of a file."),
        ("x." * 101 + "a: 1", "more than 100 policies are inside of each other."),
    ],
)
def test_text_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(errors.RefusedError) as refusal:
        parsed(text)
    assert message in str(refusal.value)


def test_a_name_with_dots_means_the_last_policy() -> None:
    result = parsed("a: {b: 1}\na: {b: 2}\na.c: 3")
    assert yaml_policies.document(result) == {"a": [{"b": 1}, {"b": 2, "c": 3}]}
    assert result.required("a.b", int) == 2
    assert str(result.origin_of("a.b")) == "a.paf:2"


def test_an_array_as_value_is_its_last_and_a_value_as_array_is_one() -> None:
    result = parsed("a: 1 2 3\nb: x")
    assert result.get("a", 0) == 3
    assert result.array("b", str) == ["x"]
    assert result.array("c", str) == []
    assert result.get("c", 2.5) == 2.5
    with pytest.raises(errors.RefusedError, match=r"^a.paf:1: a: has to be a double, and is a int.$"):
        result.get("a", 2.5)
    with pytest.raises(errors.RefusedError, match=r"^a.paf: c.d: is missing.$"):
        result.required("c.d", str)


def test_a_file_is_named_and_not_read() -> None:
    result = parsed("a: @other/b.paf # c")
    assert result.elements("a")[0].value == policy.Include("other/b.paf")
    with pytest.raises(errors.RefusedError, match=r"other/b.paf was not read"):
        result.part("a")
    assert paf.text_of(result) == "a: @other/b.paf\n"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (2**31, "an int of more than 32 bits"),
        ("\"'", "a string with both kinds of quotes"),
        ("a\nb", "a string with a line's end"),
    ],
)
def test_what_paf_can_not_have_is_not_written(value: policy.Value, problem: str) -> None:
    result = policy.Policy(policy.Origin("a.yaml"))
    result.add("b.c", value, policy.Origin("a.yaml", 3))
    message = f"a.yaml:3: b.c: PAF has no way to write {problem}; use YAML."
    with pytest.raises(errors.RefusedError) as refusal:
        paf.text_of(result)
    assert str(refusal.value) == message


def policies(texts: strategies.SearchStrategy[str], ints: Any) -> strategies.SearchStrategy[Any]:
    """Make documents of policies: arrays have two values or more, as one is the value."""
    names = strategies.from_regex(r"\w{1,5}", fullmatch=True)
    floats = strategies.floats(allow_nan=False, allow_infinity=False)
    scalars = [strategies.booleans(), ints, floats, texts]
    values = strategies.one_of(
        *scalars, *(strategies.lists(each, min_size=2, max_size=4) for each in scalars)
    )
    return strategies.recursive(
        strategies.dictionaries(names, values, max_size=4),
        lambda inner: strategies.dictionaries(
            names, values | inner | strategies.lists(inner, min_size=2, max_size=3), max_size=4
        ),
        max_leaves=8,
    )


def filled(values: dict[str, Any], result: policy.Policy) -> policy.Policy:
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                filled(each, result.inner(name))
            else:
                result.add(name, each)
    return result


TEXTS = strategies.text(strategies.characters(exclude_categories=["Cs"], exclude_characters="\n'"))
INTS = strategies.integers(-(2**31), 2**31 - 1)


@hypothesis.given(policies(TEXTS, INTS))
@hypothesis.settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    original = filled(values, policy.Policy())
    again = parsed(paf.text_of(original))
    assert again == original
    assert repr(yaml_policies.document(again)) == repr(values)


PIECES = [
    "a",
    "b.c",
    ": ",
    ":",
    "{",
    "}",
    "\n",
    '"',
    "'",
    "@",
    "#",
    "1",
    "2.5",
    "1e3",
    "true",
    " ",
    "-",
    ".",
    "é",
    "\0",
]


def test_any_text_is_read_or_refused() -> None:
    """Fuzzed files never give a traceback."""
    draw = random.Random(20101)
    refusals = [refusal("".join(draw.choices(PIECES, k=draw.randrange(25)))) for _ in range(3000)]
    assert all(text.startswith("a.paf:") for text in refusals if text)
    assert 100 < refusals.count("") < 2900


@pytest.mark.parametrize(
    "text",
    [
        "}" * 100_000,
        "a: " + "{" * 100_000,
        "a: {" * 100_000,
        "a: 1" + " 1" * 50_000,
        "a: " + "9" * 100_000,
        "a: 0." + "9" * 100_000,
        'a: "' + "x\n" * 100_000,
        "a: " + '"x" ' * 50_000,
        "a: x" + " " * 100_000 + "y",
        " " * 100_000 + "x",
        "w" * 100_000,
        "a.b: 1\n" * 25_000,
        "a: {}\n" * 25_000,
        "a: {b: 1} " * 20_000,
        "x." * 100_000 + ": 1",
    ],
)
def test_long_text_takes_no_long_time(text: str) -> None:
    start = time.process_time()
    assert len(refusal(text)) < 1000
    assert time.process_time() - start < 60
