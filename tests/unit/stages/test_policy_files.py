"""Policy files: formats by header and ending, what they include, YAML and JSON (stages.md section 2.2)."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
from typing import Any

import hypothesis
import pytest
from aggregator.stages.policies import paf, policy, policy_files, yaml_policies
from aggregator.storage import errors
from hypothesis import strategies

from tests.unit.stages import test_paf


def written(path: pathlib.Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def refusal(location: str) -> str:
    with pytest.raises(errors.RefusedError) as caught:
        policy_files.read(location)
    return str(caught.value)


def yaml_text(text: str) -> dict[str, Any]:
    result = policy.Policy(policy.Origin("a.yaml"))
    yaml_policies.parse(text, result)
    return yaml_policies.document(result)


def why_refused(text: str) -> str:
    """Return why YAML is refused; nothing if it is not."""
    try:
        yaml_text(text)
    except errors.RefusedError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("ending", ["paf", "policy", "PAF"])
def test_the_ending_tells_paf(tmp_path: pathlib.Path, ending: str) -> None:
    assert policy_files.read(written(tmp_path / f"a.{ending}", "a: x y")).required("a", str) == "x y"


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_the_ending_tells_yaml(tmp_path: pathlib.Path, ending: str) -> None:
    read = policy_files.read(written(tmp_path / f"a.{ending}", "a: [1, 2]\nb.c: x\n"))
    assert yaml_policies.document(read) == {"a": [1, 2], "b": {"c": "x"}}
    assert str(read.origin_of("b.c")).endswith(f"a.{ending}:2")


def test_the_ending_tells_json(tmp_path: pathlib.Path) -> None:
    text = '{"a":\t[1, 2],\n"b":{"c": "x\\u00e9\\/", "d": 1e3}}'
    read = policy_files.read(written(tmp_path / "a.json", text))
    assert yaml_policies.document(read) == {"a": [1, 2], "b": {"c": "xé/", "d": 1000.0}}
    assert str(read.origin_of("b.d")).endswith("a.json:2")


def test_the_first_line_tells_before_the_ending(tmp_path: pathlib.Path) -> None:
    read = policy_files.read(written(tmp_path / "a.yaml", "#<?cfg paf policy ?>\na: 1 2\n"))
    assert read.array("a", int) == [1, 2]
    read = policy_files.read(written(tmp_path / "b", "# <?cfg YAML dictionary ?>\na: [1, 2]\n"))
    assert read.array("a", int) == [1, 2]


def test_no_format_is_refused(tmp_path: pathlib.Path) -> None:
    assert "is no policy file; the ending has to be one of .paf, .policy" in refusal(
        written(tmp_path / "a.txt", "a: 1")
    )


def test_what_can_not_be_read_is_refused(tmp_path: pathlib.Path) -> None:
    assert "can't be read (No such file or directory). Check the path." in refusal(str(tmp_path / "a.paf"))
    (tmp_path / "b.paf").mkdir()
    assert "can't be read" in refusal(str(tmp_path / "b.paf"))
    os.mkfifo(tmp_path / "c.paf")
    assert "can't be read" in refusal(str(tmp_path / "c.paf"))
    (tmp_path / "d.paf").write_bytes(b"a: \xff")
    assert "d.paf: is no UTF-8 text (byte 3)." in refusal(str(tmp_path / "d.paf"))
    assert "is no path of a policy" in refusal(written(tmp_path / "e.paf", "a: @x\0.paf"))


def test_a_file_includes_another_one_relative_to_itself(tmp_path: pathlib.Path) -> None:
    top = written(tmp_path / "top.paf", "x: 1\na.b: @inner/one.paf\ny: 2\n")
    written(tmp_path / "inner" / "one.paf", "c: @two.yaml\n")
    written(tmp_path / "inner" / "two.yaml", "d: [u, v]\n")
    read = policy_files.read(top)
    assert yaml_policies.document(read) == {"x": 1, "a": {"b": {"c": {"d": ["u", "v"]}}}, "y": 2}
    assert str(read.origin_of("a.b.c.d")) == f"{tmp_path}/inner/two.yaml:1"
    with pytest.raises(errors.RefusedError, match=r"two.yaml:1: a.b.c.d: has to be a int"):
        read.array("a.b.c.d", int)


def test_yaml_includes(tmp_path: pathlib.Path) -> None:
    top = written(tmp_path / "top.yaml", "a: !include b.paf\n")
    written(tmp_path / "b.paf", "c: 1\n")
    assert policy_files.read(top).required("a.c", int) == 1


def test_a_circle_of_files_is_refused(tmp_path: pathlib.Path) -> None:
    top = written(tmp_path / "a.paf", "x: 1\ny: @b.paf\n")
    written(tmp_path / "b.paf", "z: @./a.paf\n")
    message = refusal(top)
    assert "a.paf: includes itself, by way of" in message
    assert f"(Included by {top}:2.)" in message


def test_too_many_files_are_refused(tmp_path: pathlib.Path) -> None:
    for number in range(20):
        written(tmp_path / f"{number}.paf", f"a: @{number + 1}.paf\nb: @{number + 1}.paf\n")
    written(tmp_path / "20.paf", "")
    assert "includes more than 1000 files" in refusal(str(tmp_path / "0.paf"))


def test_a_missing_included_file_is_named_with_the_line(tmp_path: pathlib.Path) -> None:
    top = written(tmp_path / "a.paf", "\n\ny: @b.paf\n")
    assert refusal(top).endswith(f"(Included by {top}:3.)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [x, 'y']\nc: {d: 2.5}\n", {"a": 1, "b": ["x", "y"], "c": {"d": 2.5}}),
        ("a: [{b: 1}, {b: 2}]", {"a": [{"b": 1}, {"b": 2}]}),
        ("a: 2026010500001", {"a": 2026010500001}),
        ("a: [3]", {"a": 3}),
        ("a: []\nb: null\nc: {}", {"c": {}}),
        ("", {}),
    ],
)
def test_yaml_has_the_same_model(text: str, expected: dict[str, Any]) -> None:
    assert yaml_text(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a: is there twice."),
        ("a: [1, x]", "a.yaml:1: a: a string can't follow the int of a.yaml:1."),
        ("a: [[1]]", "a.yaml:1: a: an array can't be in an array."),
        ("a:\n  b: 2026-01-01", "a.yaml:2: a.b: is a date; quote it to have it as text."),
        ("a: !!binary aGk=", "a: is a bytes; quote it"),
        ("a: .nan", "a: is no finite number"),
        ("a: 9223372036854775808", "a: has more than 64 bits"),
        ("1: x", "a.yaml:1: '1' is no name; if it is meant to be, quote it."),
        ("on: x", "'on' is no name"),
        ("<<: {a: 1}", "'<<' is no name"),
        ("a b: 1", "'a b': is no name"),
        ("- 1", "a.yaml:1: a policy has to be a mapping at the top."),
        ("a: 1\nb: [", "a.yaml:2: is no YAML"),
        ("a: *x", "a.yaml:1: is no YAML (found undefined alias"),
        ("a: !!python/object:os.system {}", "a.yaml:1: a: has an unknown tag"),
        ("a: !!python/name:os.system x", "a.yaml:1: a: 'x' has no value"),
        ("a: 1\n---\nb: 1", "is no YAML (but found another document)"),
        ("a: \x07", "a.yaml: is no YAML"),
        ("a: &x {b: *x}", "more than 100 policies"),
        ("[" * 1000, "a.yaml: has too many levels."),
    ],
)
def test_yaml_that_is_no_policy_is_refused(text: str, message: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        yaml_text(text)
    assert message in str(caught.value)


def test_aliases_that_stand_for_very_much_are_refused() -> None:
    lines = ["a0: &a0 {x: [], y: []}"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(1)]
    lines += [f"b{n + 1}: &b{n + 1} {{{', '.join(f'k{i}: *b{n}' for i in range(9))}}}" for n in range(9)]
    text = "\n".join([*lines[:2], "b0: &b0 {z: 1}", *lines[2:]])
    with pytest.raises(errors.RefusedError, match="has more than 100000 values"):
        yaml_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n}', "a.json:2: is no JSON"),
        ('{"a": NaN}', "is no JSON that can be used (NaN is no number)"),
        ("[" * 100_000, "a.json: is no JSON that can be used"),
        ('{"a": 1, "a": 2}', "a.json:1: a: is there twice."),
        ("a: 1", "a.json:1: is no JSON"),
        ('{"a": 1e999}', "is no finite number"),
    ],
)
def test_json_that_is_no_policy_is_refused(text: str, message: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        yaml_policies.parse_json(text, policy.Policy(policy.Origin("a.json")))
    assert message in str(caught.value)


VALUES = test_paf.policies(
    strategies.text(strategies.characters(exclude_categories=["Cs"])),
    strategies.integers(-(2**63), 2**63 - 1),
)


@hypothesis.given(VALUES)
@hypothesis.settings(max_examples=40, deadline=None)
def test_what_is_written_in_yaml_is_read_back(values: dict[str, Any]) -> None:
    original = test_paf.filled(values, policy.Policy())
    assert repr(yaml_text(policy_files.text_of(original, "x.yml"))) == repr(values)


PLAIN = test_paf.policies(
    strategies.text(strategies.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])),
    strategies.integers(-(2**63), 2**63 - 1),
)


@hypothesis.given(PLAIN)
@hypothesis.settings(max_examples=20, deadline=None)
def test_json_is_read_as_it_is_written(values: dict[str, Any]) -> None:
    for text in (json.dumps(values), json.dumps(values, ensure_ascii=False, indent="\t")):
        result = policy.Policy()
        yaml_policies.parse_json(text, result)
        assert repr(yaml_policies.document(result)) == repr(values)


def test_files_are_written_in_paf_and_yaml() -> None:
    result = test_paf.parsed("a: 1 2\nb: {c: x}")
    assert policy_files.text_of(result, "x.paf") == paf.text_of(result) == 'a: 1 2\nb: {\n    c: "x"\n}\n'
    assert policy_files.text_of(result, "x.yaml") == "a:\n- 1\n- 2\nb:\n  c: x\n"
    with pytest.raises(errors.RefusedError, match="policies are written in PAF and YAML"):
        policy_files.text_of(result, "x.json")


PIECES = [
    "a",
    "b: ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "  ",
    '"',
    "'",
    "&x ",
    "*x",
    "!t ",
    "1",
    "2.5",
    ", ",
    "#",
    "|",
    "?",
    "\t",
]


def test_any_yaml_is_read_or_refused() -> None:
    draw = random.Random(20102)
    refusals = [why_refused("".join(draw.choices(PIECES, k=draw.randrange(15)))) for _ in range(1500)]
    assert all(text.startswith("a.yaml:") for text in refusals if text)
    assert 50 < refusals.count("") < 1450


JSON_PIECES = [
    '"a"',
    '"b.c"',
    ":",
    ",",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "\t",
    "1",
    "2.5",
    "1e3",
    "true",
    "null",
    '"\\u00e9"',
    " ",
]


def test_any_json_is_read_or_refused() -> None:
    draw = random.Random(20105)
    n_read = 0
    for _ in range(3000):
        text = "{" + "".join(draw.choices(JSON_PIECES, k=draw.randrange(8))) + "}"
        with contextlib.suppress(errors.RefusedError):
            yaml_policies.parse_json(text, policy.Policy())
            n_read += 1
    assert 20 < n_read < 2900
